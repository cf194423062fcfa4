"""The identity of a stage's rows: all that they depend on, as a flat dict, which is stored with them and compared.

It has the options declared `identity=True`, the task's name, level, words and settings, the loop's own templates, the
weights, and a hash of the source of a plug that isn't built in. So an edited word or verifier is noticed, and a new
wording of one task doesn't affect the runs of another. Reads plug files; writes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from rrr_cli.addresses import without_secrets
from rrr_cli.engines import ENGINES
from rrr_cli.plugs import blame, find
from rrr_cli.prompts import TEMPLATES
from rrr_cli.tasks import TASKS
from rrr_cli.tasks.base import Task
from rrr_cli.training.objectives import OBJECTIVES

KINDS = {"task": TASKS, "engine": ENGINES, "objective": OBJECTIVES}


def identity(
    options: Any, task: Task | None, weights: Mapping[str, str], templates: Sequence[str] = (), **resolved: Any
) -> dict[str, Any]:
    """Name -> value. `weights`: which model -> its fingerprint. `templates`: those of the loop that the stage shows.
    `resolved`: what an option that isn't given means.

    Raises RrrError (exit 2): a plug that isn't there; as a task's settings() does, where it can't judge here (4).
    """
    values = {f.name: getattr(options, f.name) for f in fields(options) if f.metadata["identity"]}
    if values.get("base_url"):
        values["base_url"] = without_secrets(values["base_url"].rstrip("/"))  # the same server
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
