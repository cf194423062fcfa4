"""The task `household`: its class and the function that makes its problems' rows."""

from rrr_cli.tasks.household.problem import make_problem
from rrr_cli.tasks.household.task import Household

__all__ = ["Household", "make_problem"]
