"""The task `countdown`: its class and the function that makes its problems' rows."""

from rrr_cli.tasks.countdown.problem import make_problem
from rrr_cli.tasks.countdown.task import Countdown

__all__ = ["Countdown", "make_problem"]
