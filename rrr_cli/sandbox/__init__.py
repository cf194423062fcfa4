"""Runs model-written Python where it can do no harm. `execute(jobs)` gives the values of expressions, as plain data.

The code never runs in this process, and an exit code never means that it is right: the caller compares the values.
See `ladder.py` for what confines it, `inside.py` for what runs it. Refuses to run where no sandbox works.
"""

from __future__ import annotations

from collections.abc import Sequence

from rrr_cli.errors import NO_BACKEND, RrrError
from rrr_cli.sandbox.ladder import UNSAFE_VARIABLE, chosen
from rrr_cli.sandbox.pool import Job, Outcome, shared_pool
from rrr_cli.sandbox.values import Other

__all__ = ["UNSAFE_VARIABLE", "Job", "Other", "Outcome", "execute", "kind"]


def execute(jobs: Sequence[Job]) -> list[Outcome]:
    """Run every job in a process of its own, two at once a CPU; outcomes in the jobs' order.

    Raises RrrError (exit 4): no sandbox works here, or it has stopped working.
    """
    try:
        return shared_pool(chosen()).run(jobs)
    except OSError as error:
        raise RrrError(f"the sandbox for model-written Python has stopped working: {error}", NO_BACKEND) from error


def kind() -> str:
    """What confines the programs: bubblewrap, landlock or unsafe. Raises RrrError (exit 4) if no sandbox works."""
    return chosen().name
