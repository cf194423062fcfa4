"""The one exception that a user's mistake raises, and the exit codes of every command.

An error says what is wrong, what is expected, and what to type next. It is printed as one line, without a traceback.
"""

from __future__ import annotations

BUG = 1
USAGE = 2
BAD_INPUT = 3  # missing, damaged, foreign or newer data; another configuration for the same table
NO_BACKEND = 4  # an extra (torch, vllm, …) is not installed
NOTHING = 5  # nothing was produced, or a gate such as --fail-under failed
INTERRUPTED = 130
STDOUT_CLOSED = 141  # as a shell says of a program that wrote into a closed pipe


class RrrError(Exception):
    """A message for the user and the exit code that goes with it."""

    def __init__(self, message: str, exit_code: int = BAD_INPUT) -> None:
        super().__init__(message)
        self.exit_code = exit_code
