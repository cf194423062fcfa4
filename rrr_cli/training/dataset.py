"""The failures that GRPO trains on, and in which order: mined first attempts at problems of the train split.

Reads and writes nothing. Refuses failures at problems of the test split, and too few of them.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from random import Random

from rrr_cli.errors import RrrError
from rrr_cli.records import Problem, content_id
from rrr_cli.rollout import Failure
from rrr_cli.tasks.base import Environment, Task

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


def check_enough(failures: list[Failure], groups: int, run: Path) -> None:
    """Raise RrrError unless one step's groups can each have a failure of their own."""
    if len(failures) < groups:
        raise RrrError(
            f"{run} has {len(failures)} failed problems, and a step needs {groups} (--batch / --group): mine more with "
            f"rrr mine-failures --run {run}, or lower --batch"
        )


def check_no_test_prompt(problems: Iterable[Problem], task: Task) -> None:
    """Raise RrrError where one of `problems`, to be trained on, is of the test split, by its id or word for word.

    Countdown's id is (sorted numbers, target). In an environment two games may begin alike, so ids alone are compared.
    The first `TEST_PROMPTS_COMPARED` test problems are compared.
    """
    def keys(problem: Problem) -> set[str]:
        words = " ".join(" ".join(message.content for message in problem.prompt).lower().split())
        return {problem.problem_id} if isinstance(task, Environment) else {problem.problem_id, words}

    trained = {key for problem in problems for key in keys(problem)}
    for problem in islice(task.problems("test"), TEST_PROMPTS_COMPARED):
        if keys(problem) & trained:
            raise RrrError(
                f"test problem {problem.problem_id} is among the mined problems, and training on it would spoil the "
                f"test. Remove it from the training data and mine again"
            )


def training_order(failures: int, groups: int, steps: int, seed: int) -> list[int]:
    """Which failure each group is about, step after step: (steps * groups,). Every pass is a fresh shuffle.

    A step never holds a failure twice while there are failures enough for it. Written out in full, rather than left to
    a sampler's state, so that step k is the same in a resumed run and whatever the number of processes.
    """
    order: list[int] = []
    epoch = 0
    while len(order) < steps * groups:
        shuffled = list(range(failures))
        Random(content_id("grpo order", seed, epoch)).shuffle(shuffled)
        order += shuffled[: failures // groups * groups]
        epoch += 1
    return order[: steps * groups]


def fingerprint(failures: list[Failure]) -> str:
    """Changes when the training set does."""
    return content_id([failure.attempt_id for failure in failures])
