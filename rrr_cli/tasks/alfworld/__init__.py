"""The task `alfworld`."""

from rrr_cli.tasks.alfworld.task import Alfworld

__all__ = ["Alfworld"]
