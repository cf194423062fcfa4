"""The task `layout`: its class and the function that makes its problems' rows."""

from rrr_cli.tasks.layout.problem import make_problem
from rrr_cli.tasks.layout.task import Layout

__all__ = ["Layout", "make_problem"]
