"""The identity of a stage's rows: all that they depend on, as a flat dict, which is stored with them and compared.

It has the options declared `identity=True`, the task's name, level, words and settings, the loop's own templates, the
weights, the content of a data file, the arithmetic, and a hash of the source of a plug that isn't built in. So an
edited word or verifier is noticed, and a new wording of one task doesn't affect the runs of another. Reads plug files,
data files and which device is here; writes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from rrr_cli.addresses import recorded
from rrr_cli.engines import ENGINES, engine_class, takes
from rrr_cli.engines.devices import has_gpu
from rrr_cli.engines.fingerprints import content_of
from rrr_cli.plugs import blame, find
from rrr_cli.prompts import TEMPLATES
from rrr_cli.tasks import TASKS
from rrr_cli.tasks.base import Task
from rrr_cli.training.objectives import OBJECTIVES

CONTENT = "content of the data"
KINDS = {"task": TASKS, "engine": ENGINES, "objective": OBJECTIVES}


def identity(
    options: Any, task: Task | None, weights: Mapping[str, str], templates: Sequence[str] = (), **resolved: Any
) -> dict[str, Any]:
    """Name -> value. `weights`: which model -> its fingerprint. `templates`: those of the loop that the stage shows.
    `resolved`: what an option that isn't given means.

    Raises RrrError (exit 2): a plug that isn't there; as a task's settings() does, where it can't judge here (4).
    """
    values = {f.name: getattr(options, f.name) for f in fields(options) if f.metadata["identity"]} | arithmetic(options)
    if getattr(options, "data", None) and Path(options.data).exists():
        values[CONTENT] = content_of(Path(options.data))
    if values.get("base_url"):
        values["base_url"] = recorded(values["base_url"])
    if task is not None:
        values["task"] = task.name
        values["level"] = options.level or (None if options.data else next(iter(task.levels), None))
        values |= {f"words of the task: {name}": text for name, text in task.words.items()}
        values |= {f"template: {name}": TEMPLATES[name] for name in templates}
        with blame("task", task, "settings()"):
            settings = task.settings() if hasattr(task, "settings") else {}
        values |= {f"setting of the task: {name}": value for name, value in settings.items()}
    for kind, built_in in KINDS.items():
        if hasattr(options, kind) and (source := find(kind, getattr(options, kind), built_in).source):
            values[f"source of the {kind}"] = source
    return values | {f"weights of the {name}": fingerprint for name, fingerprint in weights.items()} | resolved


def arithmetic(options: Any) -> dict[str, str]:
    """What --dtype auto and --device auto come to on this machine, where a model runs here: texts depend on them."""
    engine = getattr(options, "engine", None)
    if not hasattr(options, "dtype") or (engine and "dtype" not in takes(engine_class(engine))):
        return {}
    kind = options.device.partition(":")[0]
    if kind == "auto":
        kind = "cuda" if has_gpu() else "cpu"
    # vLLM and the engines of others choose by themselves.
    auto = options.dtype == "auto" and engine in (None, "transformers")
    return {"device type": kind} | ({"dtype": "float32" if kind == "cpu" else "bfloat16"} if auto else {})
