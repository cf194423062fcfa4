"""The failures that GRPO trains on: mined first attempts of the train split, each one rendered as GRPO's prompt.

Reads and writes nothing. Refuses failures of the test split, too few of them, and texts that don't fit the model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from random import Random

from rrr_cli.errors import RrrError
from rrr_cli.prompts import reflect_chat, retry_chat
from rrr_cli.records import Message, Problem, content_id
from rrr_cli.rollout import Failure
from rrr_cli.tasks.base import Environment, Task
from rrr_cli.training.settings import ANSWER, BOTH, REFLECTION

TEST_PROMPTS_COMPARED = 20_000  # generating a test split takes time; the paper's Countdown has 15,000


@dataclass(frozen=True)
class Row:
    """One row of the training set."""

    failure: Failure
    prompt_ids: list[int]  # GRPO's prompt: problem, failed attempt, request to reflect; or the problem alone
    request_ids: list[int]  # reflection+answer: what stands between reflection and retry; else empty

    @property
    def problem(self) -> Problem:
        return self.failure.problem


Render = Callable[[tuple[Message, ...], str | None], list[int]]


def training_set(
    failed: Iterable[Failure], task: Task, render: Render, objective: str = REFLECTION
) -> list[Row]:
    """Each problem with its fixed failed attempt (RRR, section 3), as GRPO's prompt, ordered by problem id.

    With the objective answer the prompt is the problem's own: the same problems in the same order, for a fair
    comparison. Raises RrrError where one is not of the train split, or can't be one conversation (reflection+answer).
    """
    rows = []
    for failure in sorted(failed, key=lambda failure: failure.problem.problem_id):
        problem = failure.problem
        if problem.split != "train":
            raise RrrError(
                f"failed attempt {failure.attempt_id} is of the {problem.split} split, and training on it would spoil "
                f"the test: mine the train split in a run of its own, and name it with --input"
            )
        if objective == ANSWER:
            rows.append(Row(failure, render(tuple(problem.prompt), problem.tools), []))
            continue
        chat = reflect_chat(problem.prompt, failure.transcript, task.words["reflect"])
        prompt_ids = render(chat, problem.tools)
        request_ids = _request(failure, prompt_ids, task, render) if objective == BOTH else []
        rows.append(Row(failure, prompt_ids, request_ids))
    return rows


def _request(failure: Failure, prompt_ids: list[int], task: Task, render: Render) -> list[int]:
    """The tokens from the end of the reflection's turn to the start of the retry's, as the chat template writes them.

    Raises RrrError where the template writes the earlier turns otherwise once there are more of them.
    """
    chat = retry_chat(failure.problem.prompt, failure.transcript, "", task.words["reflect"], task.words["retry"])
    ids = render(chat, failure.problem.tools)
    if ids[: len(prompt_ids)] != prompt_ids:
        raise RrrError(
            f"the model's chat template rewrites earlier turns, so reflection and retry aren't one conversation: "
            f"choose --objective {REFLECTION} or {ANSWER}, or another model"
        )
    return ids[len(prompt_ids) :]


def check_enough(failures: list[Row], groups: int, run: Path) -> None:
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


def check_window(
    failures: list[Row], task: Task, render: Render, context: str, reflection_tokens: int, retry_tokens: int,
    window: int, objective: str = REFLECTION,
) -> int:
    """The longest text in tokens that a step can need: prompt, reflection, request to retry, retry; or prompt, answer.

    Raises RrrError where it doesn't fit the model's context `window`.
    """
    if objective == ANSWER:
        prompt = max(len(failure.prompt_ids) for failure in failures)
        if prompt + retry_tokens > window:
            raise RrrError(
                f"the longest prompt ({prompt} tokens) with an answer ({retry_tokens}) needs {prompt + retry_tokens} "
                f"tokens, and the model's window holds {window}: lower --max-tokens"
            )
        return prompt + retry_tokens
    # The longest reflection prompt has the longest retry prompt as well: both hold the problem and the failed attempt.
    worst = max(failures, key=lambda failure: len(failure.prompt_ids))
    chat = retry_chat(
        worst.problem.prompt, worst.failure.transcript, "", task.words["reflect"], task.words["retry"], context
    )
    prompt = max(len(worst.prompt_ids), len(render(chat, worst.problem.tools)))
    needed = prompt + reflection_tokens + retry_tokens
    if needed > window:
        raise RrrError(
            f"the longest prompt ({prompt} tokens) with a reflection ({reflection_tokens}) and a retry "
            f"({retry_tokens}) needs {needed} tokens, and the model's window holds {window}: "
            f"lower --reflection-tokens or --max-tokens"
        )
    return needed


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


def fingerprint(failures: list[Row]) -> str:
    """Changes when the training set does."""
    return content_id([failure.failure.attempt_id for failure in failures])
