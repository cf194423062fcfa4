"""The task `hotpotqa`: its class and the function that makes its problems' rows."""

from rrr_cli.tasks.hotpotqa.problem import make_problem
from rrr_cli.tasks.hotpotqa.task import HotpotQA

__all__ = ["HotpotQA", "make_problem"]
