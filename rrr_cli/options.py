"""What the stages' options have in common. One frozen dataclass a stage gives its flags, TOML keys and provenance."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from rrr_cli.errors import USAGE, RrrError


def option(
    default: Any, help: str, least: float | None = None, most: float | None = None,
    choices: tuple[str, ...] | None = None,
) -> Any:
    """A dataclass field with its help text and the values that make sense."""
    return field(default=default, metadata={"help": help, "least": least, "most": most, "choices": choices})


def retry_context() -> Any:
    """The option of every stage that retries."""
    return option(
        "full", "What a retry sees: full (failed attempt and reflection) or reflection (alone).",
        choices=("full", "reflection"),
    )


def own_samples() -> Any:
    """The option of every stage of Re-ReST that a fair comparison with more samples needs."""
    return option(
        None, "Only so many first tries of each problem are the agent's own; later ones are for self-train --texts "
        "more-samples.  [default: all]", least=1)


@dataclass(frozen=True)
class RunOptions:
    """Where a stage works, and on which task."""

    run: Path = option(Path("runs/default"), "Folder of the run: one folder a table.")
    task: str = option("countdown", "Task by name, or path/to/file.py:Class.")
    level: str | None = option(
        None, "The task's level, such as countdown's easy and paper; a wrong one names them all.  [default: the first]")
    data: str | None = option(None, "A data set in place of generated problems: a local file or folder, or a hub id.")
    limit: int | None = option(None, "At most this many problems.", least=1)
    seed: int = option(0, "Fixes every sample, whatever the batch size.", least=0, most=2**32 - 1)
    overwrite: bool = option(False, "Replace what this stage wrote before.")
    dry_run: bool = option(False, "Say what would be done, and do nothing.")


@dataclass(frozen=True)
class EngineOptions:
    """Which engine writes the text, and how."""

    engine: str = option(
        "transformers", "transformers, vllm, openai (a server), or scripted (for tests; it is no model).",
        choices=("transformers", "vllm", "openai", "scripted"),
    )
    base_url: str | None = option(None, "The server of --engine openai, such as http://localhost:8000/v1.")
    concurrency: int = option(32, "Requests to that server at once.", least=1)
    api_key_env: str = option("OPENAI_API_KEY", "The environment variable that holds the server's key.")
    temperature: float = option(1.0, "0 is greedy.", least=0)
    top_p: float = option(1.0, "Nucleus sampling; 1 keeps all.", least=0.01, most=1)
    max_tokens: int = option(512, "Most tokens of an answer.", least=1)
    batch_size: int = option(256, "Texts generated at once; changes speed and memory, not the samples.", least=1)
    max_model_len: int | None = option(None, "Longest prompt and answer together.  [default: the model's]", least=2)
    dtype: str = option(
        "auto", "auto, float32, bfloat16 or float16.", choices=("auto", "float32", "bfloat16", "float16")
    )
    device: str = option("auto", "auto, cpu, cuda, cuda:1, …")


def check_options(options: Any) -> None:
    """Raise RrrError (exit 2) for a value outside its range or choices."""
    for entry in fields(options):
        value, flag = getattr(options, entry.name), f"--{entry.name.replace('_', '-')}"
        least, most, choices = (entry.metadata.get(key) for key in ("least", "most", "choices"))
        if value is None:
            continue
        if choices is not None and value not in choices:
            raise RrrError(f"{flag} {value}: it must be one of {', '.join(choices)}", USAGE)
        if least is not None and not value >= least:  # so that NaN is refused too
            raise RrrError(f"{flag} {value}: it must be at least {least:g}", USAGE)
        if most is not None and not value <= most:
            raise RrrError(f"{flag} {value}: it must be at most {most:g}", USAGE)
