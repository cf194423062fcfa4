"""Other problems that a reflection is tried on (`grpo --reward-on other:K`): a hint may help there, an answer can't.

After L2C (arXiv 2605.20477), whose reflections are rewarded by success on other instances. The problems come from the
training set. Reads and writes nothing. Refuses a training set with too few problems of a level.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from rrr_cli.errors import RrrError
from rrr_cli.failures import Failure
from rrr_cli.prompts import hint_chat
from rrr_cli.records import Attempt, Problem, Reflection, derive_seed
from rrr_cli.rollout import Loop
from rrr_cli.training.objectives.base import Setting


class Others:
    """The problems of `failures` by task and level, of which each reflection is tried on `k`."""

    def __init__(self, failures: Sequence[Failure], k: int) -> None:
        self.k = k
        self.levels: dict[tuple[str, str], list[Problem]] = {}
        for problem in {failure.problem.problem_id: failure.problem for failure in failures}.values():
            self.levels.setdefault((problem.task, problem.difficulty), []).append(problem)
        level, fewest = min(self.levels.items(), key=lambda item: len(item[1]))
        if len(fewest) <= k:
            raise RrrError(
                f"--reward-on other:{k} needs {k + 1} failed problems of each level, and of {level[1]} there are "
                f"{len(fewest)}: lower K, or mine more problems")

    def of(self, failure: Failure, seed: int) -> list[Problem]:
        """Those for the reflections on one failure in the step with this seed: the same for its whole group, so that
        their rewards compare, and never the failed problem itself."""
        problem = failure.problem
        level = self.levels[problem.task, problem.difficulty]
        drawn = Random(derive_seed(seed, "others", failure.attempt_id)).sample(level, self.k + 1)
        return [other for other in drawn if other.problem_id != problem.problem_id][: self.k]

    def tries(self, loop: Loop, pairs_B: Sequence[tuple[Failure, Reflection]]) -> list[list[Attempt]]:
        """A first try at each other problem that shows the reflection: attempts_B_K."""
        acting = loop.acting
        episodes = [
            acting.hinted(problem, reflection, range(1))
            for failure, reflection in pairs_B for problem in self.of(failure, loop.seed)
        ]
        attempts = iter(acting.play("hint", episodes))
        return [[next(attempts)[0] for _ in range(self.k)] for _ in pairs_B]

    def longest(self, setting: Setting) -> int:
        """Tokens of the longest prompt of a try, but for the reflection in it."""
        return max(
            len(setting.render(hint_chat(problem.prompt, ""), problem.tools))
            for level in self.levels.values() for problem in level
        )
