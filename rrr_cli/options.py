"""What an option of a stage is, and the options that stages share.

A stage's options are one frozen dataclass, which gives its flags, its TOML keys and its identity. An option's
declaration says what it means, which values are allowed, whether the rows depend on it, and where `--help` shows it.
Reads and writes nothing. Refuses values outside an option's range.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from rrr_cli.addresses import without_secrets
from rrr_cli.errors import USAGE, RrrError
from rrr_cli.places import check_local, check_name, check_run, tidy

DEFAULT_MODEL = "tiny"
DEFAULT_TASK = "countdown"
PLACES = ("model", "reflector", "repairs_by", "data", "task", "engine", "objective")  # may be paths
#: What may be a key that was typed by mistake, unless it looks so.
SECRET = {"base_url": re.compile(" https?://[a-z]"), "api_key_env": re.compile(" [A-Z0-9_]+$")}
DEFAULT_FEEDBACK = "binary"  # in a request to reflect
DEFAULT_TOKENS = 512  # of an answer, and of a reflection
SEVERAL = str | tuple[str, ...] | None  # an option that is mostly given once, and may be given several times
DTYPES = ("auto", "float32", "bfloat16", "float16")


def option(
    default: Any, help: str, least: float | None = None, most: float | None = None,
    choices: tuple[str, ...] | None = None, *, identity: bool = True, panel: str | None = None,
    check: Callable[[Any, str], object] | None = None,
) -> Any:
    """A dataclass field with its help text and its allowed values: `least` to `most`, or one of `choices`, or what
    `check`, called with the value and the flag, lets pass.

    `identity`: the stage's rows depend on it, so a run is resumed only with the same value. False for options that say
    where a stage works, how fast, and how much it does. `panel`: the part of `--help` that shows it.
    `{known}` in a help text stands for the names of the plugs that are here.
    """
    return field(default=default, metadata={
        "help": help, "least": least, "most": most, "choices": choices, "identity": identity, "panel": panel,
        "check": check})


def model(default: str | None, what: str) -> Any:
    """The option of every stage that loads one model. Default None: the model that was mined."""
    known = f"The model that {what}: tiny (embedded), a folder (model or LoRA adapter), or a hub id."
    return option(default, known if default else f"{known}  [default: the model mined]")


def input_run(what: str) -> Any:
    """The option of every stage that starts from the tables of another run."""
    return option(None, f"Another run to read {what} from.  [default: --run]", identity=False, check=check_local)


def name(default: str) -> Any:
    """The option of every stage that trains a model with a name of its own."""
    return option(default, "Name of the folder under models/.", check=check_name)


def dtype(help: str = "Arithmetic: float32, bfloat16 or float16.", choices: tuple[str, ...] = DTYPES) -> Any:
    """The option of every stage that runs a model."""
    return option("auto", f"{help}  [auto: float32 on a CPU, bfloat16 on a GPU]", choices=choices, panel="Hardware")


def device(help: str = "auto, cpu, cuda, cuda:1, …", choices: tuple[str, ...] | None = None) -> Any:
    """The option of every stage that runs a model."""
    return option("auto", help, choices=choices, identity=False, panel="Hardware")


def part(unit: str) -> Any:
    """The option of every stage that writes in parts."""
    return option(256, f"{unit} written at a time; a kill loses at most as many, and those that are under way.",
                  least=1, identity=False, panel="Run")


def in_flight(unit: str) -> Any:
    """The option of every stage that keeps an engine busy. Default None: see `stages.setup.window`."""
    return option(
        None, f"{unit} under way at once; changes speed and memory, not the samples.  [default: twice --batch-size; of "
        "servers twice the requests at once; with another engine --part]", least=1, identity=False, panel="Hardware")


def reflection_tokens(default: str) -> Any:
    """The option of every stage that samples reflections. Default None: see `stages.mined.reflection_tokens`."""
    return option(None, f"Most tokens of a reflection.  [default: {default}]", least=1, panel="Sampling")


def template_args() -> Any:
    """The option of every stage that renders chats."""
    return option(
        None, "Arguments of the chat template as JSON, such as '{\"enable_thinking\": false}'; \"date\" is the day "
        "that a template prints.  [default: those mined with; the day the run began]", panel="Sampling")


def keep_thoughts() -> Any:
    """The option of every stage that renders chats."""
    return option(
        True, "Show a model what it thought in earlier turns, as plain words, where its chat template would drop it.",
        panel="Sampling")


def max_tokens(what: str) -> Any:
    """The option of every stage after mining that samples answers."""
    return option(None, f"Most tokens of {what}.  [default: the one mined with]", least=1, panel="Sampling")


def retry_context() -> Any:
    """The option of every stage that retries."""
    return option(
        "full", "What a retry sees: full (failed attempt and reflection) or reflection (alone).",
        choices=("full", "reflection"), panel="Method")


def feedback(what: str) -> Any:
    """The option of every stage that repairs, or learns to."""
    return option(
        "verifier", f"What {what} is shown about a failed attempt: binary (it failed), verifier (its feedback) "
        "or gold (a right answer too; train split only).", choices=("binary", "verifier", "gold"), panel="Method")


def reflect_feedback(default: str) -> Any:
    """The option of every stage that asks for reflections. Default None: see `stages.mined.limits`."""
    return option(
        None, "What a request to reflect says: binary (that the attempt failed, as in the paper) or verifier (also its "
        f"feedback).  [default: {default}]", choices=("binary", "verifier"), panel="Method")


def sample_failures() -> Any:
    """The option of every stage that starts from mined failures."""
    return option(
        "first", "Which failures: first (a problem's first failing try of all that were mined, as the paper) or "
        "on-policy (only if its very first try failed: harder problems, as the model meets them).",
        choices=("first", "on-policy"), panel="Method")


def own_samples() -> Any:
    """The option of every stage of Re-ReST that a fair comparison with more samples needs."""
    return option(
        None, "The agent's own first tries of each problem are the first N; later ones are for self-train --texts "
        "more-samples.  [default: all]", least=1)


@dataclass(frozen=True)
class RunOptions:
    """Where a stage works, and how much it does."""

    run: Path = option(
        Path("runs/default"), "Folder of the run: one folder a table.", identity=False, panel="Run", check=check_run)
    limit: int | None = option(None, "At most this many problems.", least=1, identity=False, panel="Run")
    seed: int = option(0, "Fixes every sample, whatever the batch size.", least=0, most=2**32 - 1, panel="Run")
    overwrite: bool = option(False, "Replace what this stage wrote before.", identity=False, panel="Run")
    dry_run: bool = option(False, "Print what would be done, and do nothing.", identity=False, panel="Run")


@dataclass(frozen=True)
class TaskOptions(RunOptions):
    """Which task, level and data."""

    task: str | None = option(
        None, "Task: {known}, or path/to/file.py:Class.  [default: the one mined, else countdown]", panel="Task")
    level: str | None = option(
        None, "The task's level, such as countdown's easy or paper; an unknown one lists all.  [default: the first]",
        panel="Task")
    data: str | None = option(
        None, "A data set in place of generated problems: a local file or folder, or a hub id.", panel="Task")
    strict: bool = option(
        False, "End at the first bad row of --data, in place of passing it over.", identity=False, panel="Task")


@dataclass(frozen=True)
class EngineOptions:
    """Which engine generates the text, and where. An option that the engine's constructor doesn't name is refused."""

    engine: str = option(
        "transformers", "What generates the text: {known}, or path/to/file.py:Class. openai is a server; scripted "
        "gives fixed replies, for tests, and is not a model.", panel="Engine")
    base_url: str | tuple[str, ...] | None = option(
        None, "The server of --engine openai, such as http://localhost:8000/v1. Several make a fleet: once an address, "
        "or @FILE with an address a line.", panel="Engine")
    concurrency: int = option(
        32, "Requests at once to that server, or to each of a fleet.", least=1, identity=False, panel="Engine")
    api_key_env: str = option(
        "OPENAI_API_KEY", "The environment variable that holds the server's key.", identity=False, panel="Engine")
    max_model_len: int | None = option(
        None, "Longest prompt and answer together.  [default: the model's]", least=2, panel="Engine")
    batch_size: int = option(
        256, "Texts generated at once; changes speed and memory, not the samples.", least=1, identity=False,
        panel="Hardware")
    dtype: str = dtype()
    device: str = device()
    template_args: str | None = template_args()
    keep_thoughts: bool = keep_thoughts()


@dataclass(frozen=True)
class SamplingOptions(TaskOptions, EngineOptions):
    """How text is sampled. The fields of `engines.base.Sampling` have these names."""

    temperature: float = option(1.0, "0 is greedy.", least=0, panel="Sampling")
    top_p: float = option(1.0, "Nucleus sampling; 1 keeps all.", least=0.01, most=1, panel="Sampling")
    max_tokens: int | None = option(DEFAULT_TOKENS, "Most tokens of an answer.", least=1, panel="Sampling")


def flag_of(name: str) -> str:
    """The flag of a field: `max_tokens` is `--max-tokens`."""
    return f"--{name.replace('_', '-')}"


def check_options(options: Any) -> None:
    """Raise RrrError (exit 2) for a value outside its range or choices."""
    for entry in fields(options):
        value, flag = getattr(options, entry.name), flag_of(entry.name)
        least, most, choices = (entry.metadata.get(key) for key in ("least", "most", "choices"))
        if value is None:
            continue
        if choices is not None and value not in choices:
            raise RrrError(f"{flag} {value}: it must be one of {', '.join(choices)}", USAGE)
        if least is not None and not value >= least:  # so that NaN is refused too
            raise RrrError(f"{flag} {value}: it must be at least {least:g}", USAGE)
        if most is not None and not value <= most:
            raise RrrError(f"{flag} {value}: it must be at most {most:g}", USAGE)
        if check := entry.metadata.get("check"):
            check(value, flag)


def tidied(options: Any) -> Any:
    """The options, each path among them in the one spelling that is recorded."""
    texts = {name: getattr(options, name, None) for name in PLACES}
    return replace(options, **{name: tidy(text) for name, text in texts.items() if isinstance(text, str)})


def refuse_given(options: Any, names: Iterable[str], reason: str) -> None:
    """Raise RrrError (exit 2) if one of these options isn't at its default, because it would have no effect here."""
    defaults = {entry.name: entry.default for entry in fields(options)}
    for name in names:
        if getattr(options, name) != defaults[name]:
            given = getattr(options, name)
            value = f" {without_secrets(' '.join(given) if isinstance(given, tuple) else str(given))}"
            if name in SECRET and not SECRET[name].match(value):
                value = ""
            raise RrrError(f"{flag_of(name)}{value}: {reason}; leave it out", USAGE)
