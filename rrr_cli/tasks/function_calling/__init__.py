"""The task `function_calling`: its class and the function that makes its problems' rows."""

from rrr_cli.tasks.function_calling.problem import make_problem
from rrr_cli.tasks.function_calling.task import FunctionCalling

__all__ = ["FunctionCalling", "make_problem"]
