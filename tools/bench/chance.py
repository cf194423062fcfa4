"""Countdown's problems and prompts, where a try passes by chance: mining with a success that is known.

For `--task tools/bench/chance.py:Half`, and the others.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from rrr_cli.records import Message, Problem, derive_seed
from rrr_cli.tasks.base import Verdict
from rrr_cli.tasks.countdown import Countdown


class Half(Countdown):
    """Half of all tries pass, whatever their texts."""

    success = 0.5

    def __init__(self, level: str | None = None, data: str | None = None) -> None:
        super().__init__(level, data)
        self.tries: Counter[str] = Counter()

    def verify(self, problem: Problem, transcript: Sequence[Message]) -> Verdict:
        """By a hash of the problem and how often it was tried before."""
        self.tries[problem.problem_id] += 1
        passes = derive_seed(0, problem.problem_id, self.tries[problem.problem_id]) % 1000 < 1000 * self.success
        return Verdict(passes, float(passes), None if passes else "wrong_value", "by chance", None)


class Third(Half):
    """Three tries in ten pass."""

    success = 0.3


class Most(Half):
    """Eight tries in ten pass."""

    success = 0.8
