"""Tasks by name: one file and one line here, an entry point in group `rrr.tasks`, or `--task file.py:Class`."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path

from rrr_cli.errors import USAGE, RrrError
from rrr_cli.tasks.base import Task

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

    Raises RrrError: unknown name or class (exit 2), or data that the task can't read (exit 3).
    """
    if ".py:" in spec:
        path, _, attribute = spec.rpartition(":")
        if not Path(path).is_file():
            raise RrrError(f"--task {spec}: there is no file {path}", USAGE)
        module_spec = importlib.util.spec_from_file_location(Path(path).stem, path)
        assert module_spec is not None
        assert module_spec.loader is not None
        module = importlib.util.module_from_spec(module_spec)
        sys.modules.setdefault(module_spec.name, module)  # dataclasses look their module up
        module_spec.loader.exec_module(module)
    elif spec in TASKS:
        module_name, _, attribute = TASKS[spec].partition(":")
        module = importlib.import_module(module_name)
    else:
        from importlib.metadata import entry_points

        found = {point.name: point for point in entry_points(group="rrr.tasks")}
        if spec not in found:
            names = ", ".join([*TASKS, *sorted(found)])
            raise RrrError(f"--task {spec}: no such task. Known: {names}; or path/to/file.py:Class", USAGE)
        return found[spec].load()(level=level, data=data)  # type: ignore[no-any-return]
    if not hasattr(module, attribute):
        raise RrrError(f"--task {spec}: {module.__name__} has no {attribute}", USAGE)
    return getattr(module, attribute)(level=level, data=data)  # type: ignore[no-any-return]
