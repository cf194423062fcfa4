"""The task `visual_programs`: its class and the function that makes its problems' rows."""

from rrr_cli.tasks.visual_programs.problem import make_problem
from rrr_cli.tasks.visual_programs.task import VisualPrograms

__all__ = ["VisualPrograms", "make_problem"]
