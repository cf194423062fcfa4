"""What mine-failures, reflect and eval set up alike: the configuration that defines their rows, and the loop."""

from __future__ import annotations

from typing import Any

from rrr_cli.engines import load_engine
from rrr_cli.engines.base import Sampling
from rrr_cli.errors import USAGE, RrrError
from rrr_cli.options import EngineOptions, RunOptions
from rrr_cli.prompts import templates_fingerprint
from rrr_cli.rollout import Loop
from rrr_cli.tasks.base import Task


class SamplingOptions(RunOptions, EngineOptions):
    """The options that every sampling stage has."""


def configuration(options: SamplingOptions, task: Task) -> dict[str, Any]:
    """The options of every sampling stage that decide what its rows hold; batch size, limit and device don't.

    The engine is one of them: the same seed gives another text on another engine, and so does another server.
    Raises RrrError (exit 2) for server options that are unfit or meant for another engine.
    """
    level = options.level or (None if options.data else task.levels[0])
    server = {}
    if options.engine == "openai":
        from rrr_cli.engines.openai import address, api_key

        api_key(options.api_key_env)  # a key that was typed in its place must not get into the provenance
        server = {"base_url": address(options.base_url)}
    elif options.base_url is not None or options.api_key_env != "OPENAI_API_KEY":
        raise RrrError("--base-url and --api-key-env are for --engine openai", USAGE)
    own = task.settings() if hasattr(task, "settings") else {}
    return {
        "task": task.name, "level": level, "data": options.data, "engine": options.engine,
        "temperature": options.temperature, "top_p": options.top_p, "max_tokens": options.max_tokens,
        "max_model_len": options.max_model_len, "dtype": options.dtype, "templates": templates_fingerprint(),
    } | server | own


def open_loop(
    options: SamplingOptions, task: Task, model: str, retry_context: str = "full", reflection_tokens: int = 512
) -> Loop:
    """Load `model` and give it the task."""
    engine = load_engine(
        options.engine, model, dtype=options.dtype, device=options.device, batch_size=options.batch_size,
        max_model_len=options.max_model_len, base_url=options.base_url, concurrency=options.concurrency,
        api_key_env=options.api_key_env,
    )
    sampling = Sampling(options.temperature, options.top_p, options.max_tokens)
    return Loop(task, engine, sampling, options.seed, retry_context, reflection_tokens)
