"""Tasks by name: a folder and one line here, an entry point in group `rrr.tasks`, or `--task file.py:Class`."""

from __future__ import annotations

from rrr_cli.plugs import find
from rrr_cli.tasks.base import Task
from rrr_cli.tasks.protocol import build

TASKS = {
    "countdown": "rrr_cli.tasks.countdown.task:Countdown",
    "function_calling": "rrr_cli.tasks.function_calling.task:FunctionCalling",
    "mbpp": "rrr_cli.tasks.mbpp.task:Mbpp",
    "hotpotqa": "rrr_cli.tasks.hotpotqa.task:HotpotQA",
    "household": "rrr_cli.tasks.household.task:Household",
    "alfworld": "rrr_cli.tasks.alfworld.task:Alfworld",
    "visual_programs": "rrr_cli.tasks.visual_programs.task:VisualPrograms",
    "layout": "rrr_cli.tasks.layout.task:Layout",
}


def load_task(spec: str, level: str | None = None, data: str | None = None) -> Task:
    """The task that `spec` names: a built-in name, an entry point, or `path/to/file.py:Class`.

    It is checked, and its optional parts are there (`protocol.py`). Raises RrrError: unknown name or class, or no task
    (exit 2), or data that the task can't read (exit 3).
    """
    return build(spec, find("task", spec, TASKS).cls, level, data)
