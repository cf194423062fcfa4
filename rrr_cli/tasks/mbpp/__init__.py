"""The task `mbpp`: its class and the function that makes its problems' rows."""

from rrr_cli.tasks.mbpp.problem import make_problem
from rrr_cli.tasks.mbpp.task import Mbpp

__all__ = ["Mbpp", "make_problem"]
