"""Models by name, for eval and forgetting: `--model NAME=MODEL`, several times.

MODEL is what the stage's engine takes, or begins with an engine of its own, as in `big=vllm:FOLDER` or
`big=openai:MODEL@URL`, so that models of several engines stand in one table. Reads model files, for their
fingerprints; writes nothing. Refuses a name for two models, and an engine option that no engine here takes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Generic, TypeVar

from rrr_cli.addresses import address, without_secrets
from rrr_cli.engines import ENGINES, engine_class, takes
from rrr_cli.engines.template import DATE, parsed
from rrr_cli.errors import USAGE, RrrError
from rrr_cli.options import EngineOptions, SamplingOptions, refuse_given
from rrr_cli.plugs import names
from rrr_cli.records import content_id
from rrr_cli.stages.identity import identity
from rrr_cli.stages.rendering import dated
from rrr_cli.stages.setup import weights_of

SERVED = re.compile(r"(?P<model>.+?)@(?P<url>https?:.*)", re.I | re.S)

T = TypeVar("T", bound=SamplingOptions)


@dataclass(frozen=True)
class Model(Generic[T]):
    """A model of `--model NAME=MODEL`, ready to be opened."""

    name: str
    path: str  # as its engine takes it
    shown: str  # as it is recorded: as typed, without secrets
    options: T  # the stage's; engine options that its engine doesn't take are at their defaults


def parse_models(specs: Sequence[str]) -> dict[str, str]:
    """["base=tiny"] -> {"base": "tiny"}. Raises RrrError (exit 2) for a spec without a name, or a name given twice."""
    models: dict[str, str] = {}
    for spec in specs:
        name, equals, path = spec.partition("=")
        if not (name and equals and path):
            raise RrrError(f"--model {spec}: it must be NAME=MODEL, as in --model base=tiny", USAGE)
        if name in models:
            raise RrrError(f"--model {spec}: the name {name} is used twice; give each model its own", USAGE)
        models[name] = path
    return models


def own_engine(name: str, spec: str) -> tuple[str | None, str, str | None]:
    """"openai:big@http://host/v1" -> ("openai", "big", "http://host/v1"); "tiny" -> (None, "tiny", None).

    Raises RrrError (exit 2): an address without an engine, or of an engine that has none; a bad address.
    """
    engine, colon, rest = spec.partition(":")
    model, url = spec, None
    own = bool(colon) and engine in names("engine", ENGINES)
    if served := SERVED.fullmatch(rest if own else spec):
        model, url = served["model"], served["url"]
    elif own:
        model = rest
    if url is not None and not (own and "base_url" in takes(engine_class(engine))):
        raise RrrError(f"--model {name}={model}@URL: a model of a server is typed {name}=openai:{model}@URL", USAGE)
    if not model:
        raise RrrError(f"--model {name}={spec}: the model after {engine}: is missing", USAGE)
    try:
        return engine if own else None, model, address(url) if url is not None else None
    except RrrError as error:
        raise RrrError(f"--model {name}={engine}:{model}@URL: {error}", error.exit_code) from None


def open_models(options: T, specs: Mapping[str, str]) -> dict[str, Model[T]]:
    """name -> its model. Raises RrrError (exit 2): no such engine, no address of a server, an option without effect."""
    models = {name: _placed(options, name, spec) for name, spec in specs.items()}
    engines = list(dict.fromkeys(model.options.engine for model in models.values()))
    if options.engine not in engines:
        refuse_given(options, ["engine"], "each model names an engine of its own")
    known = {option for engine in engines for option in takes(engine_class(engine))}
    unknown = [f.name for f in fields(EngineOptions) if f.name != "engine" and f.name not in known]
    refuse_given(options, unknown, f"--engine {' or '.join(engines)} doesn't use it")
    return models


def _placed(options: T, name: str, spec: str) -> Model[T]:
    engine, path, url = own_engine(name, spec)
    used = engine or options.engine
    known = takes(engine_class(used))
    values: dict[str, Any] = {f.name: f.default for f in fields(EngineOptions) if f.name not in known}
    values |= {"engine": used} | ({"base_url": url} if url else {})
    if engine and "base_url" in known and DATE in (arguments := parsed(options.template_args)):
        rest = {key: value for key, value in arguments.items() if key != DATE}  # a server's template has its own date
        values["template_args"] = json.dumps(rest, sort_keys=True, ensure_ascii=False) if rest else None
    placed = replace(options, **values)
    if engine and "base_url" in known and not placed.base_url:
        raise RrrError(f"--model {name}={spec}: which server? Type {name}={spec}@URL, such as "
                       f"{name}={spec}@http://localhost:8000/v1", USAGE)
    return Model(name, path, without_secrets(spec), placed)


def with_dates(models: Mapping[str, Model[T]], run: Path) -> dict[str, Model[T]]:
    """The models, each rendered with the run's date where its chat template prints today's (see `rendering.dated`)."""
    return {n: replace(m, options=dated(m.options, [m.path], run)) for n, m in models.items()}


def dates(models: Iterable[Model[T]]) -> dict[str, str]:
    """What provenance says of the date that chat templates print, which may not be the first model's; {} if none does.
    """
    days = sorted({str(day) for model in models if (day := parsed(model.options.template_args).get(DATE))})
    return {"template_date": days[0]} if days else {}


def weights(models: Mapping[str, Model[T]]) -> dict[str, str]:
    """name -> fingerprint of its weights; of a model that runs otherwise than the first (on another engine, or with
    other engine options), of how it runs too: the run's identity says only how the first does."""
    first = _way(next(iter(models.values())).options)
    plain = {name: weights_of(model.options, model.path) for name, model in models.items()}
    ways = {name: _way(model.options) for name, model in models.items()}
    return {name: plain[name] if way == first else content_id(plain[name], way) for name, way in ways.items()}


def _way(options: SamplingOptions) -> dict[str, Any]:
    """How a model is run: the engine and those of its options that texts depend on, without the date."""
    own = EngineOptions(**{f.name: getattr(options, f.name) for f in fields(EngineOptions)})
    arguments = {k: v for k, v in parsed(own.template_args).items() if k != DATE}
    return identity(own, None, {}, template_args=arguments)


def check_names(run: Path, table: str, weights: Mapping[str, str]) -> None:
    """Raise RrrError (exit 3) if the table has rows of other weights under one of the names."""
    from rrr_cli.store.artifacts import read

    for row in read(run, table, columns=["model", "model_fingerprint"]):
        if weights.get(row["model"], row["model_fingerprint"]) != row["model_fingerprint"]:
            raise RrrError(
                f"the model tested as {row['model']} had other weights or engine options when the table {table} was "
                "written; give this one another NAME, type --overwrite to replace those rows, or --run NAME for "
                "another run"
            )
