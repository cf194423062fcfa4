"""What mine-failures, reflect, repair and eval have in common: the engine with its fingerprint, and the loop.

Writes nothing. Refuses an option that the engine doesn't use."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from rrr_cli.engines import engine_class, load_engine, takes
from rrr_cli.engines.base import Sampling, streams
from rrr_cli.errors import USAGE, RrrError
from rrr_cli.options import DEFAULT_FEEDBACK, DEFAULT_TOKENS, EngineOptions, SamplingOptions, refuse_given
from rrr_cli.plugs import blame
from rrr_cli.rollout import Loop
from rrr_cli.stages.rendering import say_what_is_dropped
from rrr_cli.tasks.base import Task


def weights_of(options: EngineOptions, model: str) -> str:
    """The fingerprint that `model` will have on this engine, without loading it.

    Raises RrrError: no such engine, or an option of another engine (exit 2), no such model (3).
    """
    engine_arguments(options)
    cls = engine_class(options.engine)
    with blame("engine", cls, "fingerprint_of()"):
        fingerprint: str = cls.fingerprint_of(model, options)
    return fingerprint


def engine_arguments(options: EngineOptions) -> dict[str, Any]:
    """The options that the engine's constructor takes. Raises RrrError (exit 2) if another one was given."""
    known = takes(engine_class(options.engine))
    own = [f.name for f in fields(EngineOptions) if f.name != "engine"]
    refuse_given(options, [name for name in own if name not in known], f"--engine {options.engine} doesn't use it")
    return {name: getattr(options, name) for name in own if name in known}


def open_loop(
    options: SamplingOptions, task: Task, model: str, retry_context: str = "full",
    reflection_tokens: int | None = None, feedback: str | None = None,
) -> Loop:
    """Load `model`, and build the loop of attempt, reflect, retry and repair with it. Raises as `load_engine`."""
    engine = load_engine(options.engine, model, **engine_arguments(options))
    say_what_is_dropped(getattr(engine, "chat", None))
    return Loop(
        task, engine, Sampling.of(options), options.seed, retry_context, reflection_tokens or DEFAULT_TOKENS,
        feedback or DEFAULT_FEEDBACK)


def window(options: Any, loop: Loop) -> int:
    """How many stories of the loop are under way at once: twice as many as the engine writes texts, so that while some
    are judged others are written; of an engine that doesn't stream, a part. Raises RrrError (exit 2): it has no number.
    """
    if options.in_flight or not streams(loop.engine):
        return int(options.in_flight or options.part)
    size = getattr(loop.engine, "batch_size", None)
    if not isinstance(size, int) or size < 1:
        raise RrrError(f"the engine {type(loop.engine).__name__}: stream() needs the attribute batch_size, the number "
                       f"of samples that it writes at once, and this is {size}", USAGE)
    return 2 * size
