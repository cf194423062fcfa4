"""The failures that GRPO trains on, and in which order: mined first attempts at problems of the train split.

Reads and writes nothing. Refuses failures at problems of the test split, and too few of them.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from functools import lru_cache
from itertools import islice
from pathlib import Path
from random import Random

from rrr_cli.errors import RrrError
from rrr_cli.failures import Failure
from rrr_cli.records import Problem, content_id
from rrr_cli.store.artifacts import read
from rrr_cli.tasks.base import Environment, Task
from rrr_cli.training.overlap import NEAR, overlap

TEST_PROMPTS_COMPARED = 20_000  # generating a test split takes time; the paper's Countdown has 15,000


def training_set(failures: Iterable[Failure]) -> list[Failure]:
    """Each problem with its fixed failed attempt (RRR, section 3), ordered by problem id.

    The same with every objective, for a fair comparison. Raises RrrError where one is not of the train split.
    """
    ordered = sorted(failures, key=lambda failure: failure.problem.problem_id)
    for failure in ordered:
        if failure.problem.split != "train":
            raise RrrError(
                f"failed attempt {failure.attempt_id} is of the {failure.problem.split} split, and training on it "
                f"would spoil the test: mine the train split in a run of its own, and name it with --input"
            )
    return ordered


def check_enough(failures: list[Failure], groups: int, run: Path, refill: int) -> None:
    """Raise RrrError unless one step's groups can each have a failure of their own, and --refill others."""
    if len(failures) < groups:
        raise RrrError(
            f"{run} has {len(failures)} failed problems, and a step needs {groups} (--batch / --group): mine more with "
            f"rrr mine-failures --run {run}, or lower --batch"
        )
    if refill and len(failures) == groups:
        raise RrrError(
            f"{run} has {groups} failed problems, all of which are in each step, so --refill {refill} has no others: "
            f"mine more with rrr mine-failures --run {run}, or lower --batch")


def check_no_test_prompt(problems: Iterable[Problem], task: Task) -> None:
    """Raise RrrError where one of `problems`, to be trained on, is of the test split: by its id, or to a reader.

    Test problems that are only near one are counted on stderr. The first `TEST_PROMPTS_COMPARED` are compared. In an
    environment two games may begin alike, so ids alone are.
    """
    trained = list(problems)
    ids = {problem.problem_id for problem in trained}
    test = list(islice(task.problems("test"), TEST_PROMPTS_COMPARED))
    same = [problem for problem in test if problem.problem_id in ids]
    near: list[Problem] = []
    if not isinstance(task, Environment) and not same:
        same, near = overlap(trained, test)
    if same:
        raise RrrError(
            f"test problem {same[0].problem_id} is among the mined problems ({len(same)} of {len(test)} are), and "
            "training on it would spoil the test. Remove it from the training data and mine again"
        )
    if near:
        print(
            f"rrr: {len(near)} of {len(test)} test problems share {NEAR} words in a row with a problem to be trained "
            f"on, such as {near[0].problem_id}: a gain on them may be memory", file=sys.stderr)


class TrainingOrder:
    """Which failure each group is about, step after step. Every pass is a fresh shuffle.

    A step never holds a failure twice while there are failures enough for it. A function of the seed and of the group's
    place in the training, rather than a sampler's state, so that step k is the same in a resumed run and whatever the
    number of processes.
    """

    def __init__(self, failures: int, groups: int, seed: int) -> None:
        self.failures, self.seed = failures, seed
        self.used = failures // groups * groups  # in a pass
        self._pass = lru_cache(2)(self._shuffled)

    def failure(self, group: int) -> int:
        """The index of a failure; `group` counts from the start of the training."""
        number, place = divmod(group, self.used)
        return self._pass(number)[place]

    def _shuffled(self, number: int) -> list[int]:
        shuffled = list(range(self.failures))
        Random(content_id("grpo order", self.seed, number)).shuffle(shuffled)
        return shuffled


def fingerprint(failures: list[Failure]) -> str:
    """Changes when the training set does."""
    return content_id([failure.attempt_id for failure in failures])


def kept_aside(run: Path, limit: int) -> list[Problem]:
    """`limit` of the mined problems, failed or not, in the order of a hash of their ids.

    Raises RrrError (exit 3): fewer problems, or problems of the test split.
    """
    problems = sorted(read(run, "problems"), key=lambda problem: content_id("kept aside", problem.problem_id))[:limit]
    if len(problems) < limit:
        raise RrrError(f"--eval-limit {limit}: {run} has {len(problems)} problems: mine more, or lower --eval-limit")
    for problem in problems:
        if problem.split != "train":
            raise RrrError(f"{run} has problems of the {problem.split} split, on which no training may be tested: mine "
                           "the train split in a run of its own, and name it with --input")
    return problems
