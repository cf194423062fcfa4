"""The task plug: where problems come from and how an answer is judged."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from rrr_cli.errors import USAGE, RrrError
from rrr_cli.records import Message, Problem
from rrr_cli.thoughts import answer_of

JUDGE_CRASHED = "judge_crashed"  # in a training: the error type of a try that couldn't be judged
CUT_OFF = "cut_off"  # the error type of a try whose text was cut, or is empty, before the task read an answer in it
NOTHING_READ = (None, "", "[]")  # `Verdict.answer` where the text held no answer, or no call of a tool


@dataclass(frozen=True)
class Verdict:
    """A verifier's judgement of one transcript."""

    success: bool
    score: float  # in [0, 1]
    error_type: str | None  # from the task's closed set `error_types`; None when it passed
    feedback: str  # one sentence of what the environment says; never holds the reference
    answer: str | None  # what was parsed; where that is nothing (NOTHING_READ), a text that was cut or is empty fails


class Task(Protocol):
    """One class, built as `cls(level=None | str, data=None | path)`; `load_task` checks it and completes it.

    Optional: `words`, or "reflect" and "retry" in it (else those of `prompts.py`); `answers_in` (else the right turns,
    where they stand in the text word for word, and the whole text as one turn, unless `verify` passes "I don't know."
    as well); `verify_many(pairs)`, all verdicts at once, where judging is slow;
    `settings()`, a flat dict of what decides a verdict beside the problem (a corpus, a sandbox), kept in each table's
    configuration.
    """

    name: str
    levels: tuple[str, ...]  # first is the default
    error_types: tuple[str, ...]
    words: Mapping[str, str]  # its own wordings that a model is shown; "reflect" asks to reflect, "retry" to try again

    def problems(self, split: str) -> Iterator[Problem]:
        """Problems of `split` ("train" or "test"): deterministic, ids unique, the splits disjoint."""
        ...

    def verify(self, problem: Problem, transcript: Sequence[Message]) -> Verdict:
        """Judge the turns after the prompt. Total and pure: any text in, a Verdict out, never raises."""
        ...

    def right_turns(self, problem: Problem) -> list[str]:
        """What a model that is right would write, one text a turn; `verify` passes it. For audits and
        `--feedback gold`; a prompt at test time never holds it."""
        ...

    def answers_in(self, problem: Problem, text: str) -> Iterator[Sequence[str]]:
        """The answers that stand in a free text such as a reflection, each as the turns that a model would write.

        `verify` says which are right, of the first `solves.MOST`: so one that is plainly wrong is best left out. What
        only informs, such as where a thing is, isn't an answer. Total, and its work bounded for any text.
        """
        ...


@runtime_checkable
class Environment(Task, Protocol):
    """A task of several turns: the model acts, the environment answers. The transcript is the whole state.

    Optional: `own_part(answer) -> str`, where an answer is the model's turn without its thought: the start of it that
    is the model's to write, up to its first action. What stands after that (an observation that the model made up, and
    what it builds on it) then never enters a transcript: it is neither judged, shown nor trained on.
    """

    max_turns: int  # the most turns that the model gets in one episode

    def observe(self, problem: Problem, transcript: Sequence[Message]) -> Message | None:
        """What the environment says to a transcript that ends in the model's turn, as a user's turn; None ends it.

        Total and pure: it plays the model's turns again from the start and trusts no observation in the transcript.
        """
        ...


def own_turn(task: Task, turn: str) -> tuple[str, str]:
    """The part of a model's turn that is its own, and the rest, which it wrote in the environment's place.

    Raises RrrError (exit 2): the task's `own_part` doesn't return the start of what it was given.
    """
    own_part = getattr(task, "own_part", None)
    answer = answer_of(turn) if own_part else ""
    if not own_part or not answer:
        return turn, ""
    own = own_part(answer)
    if not isinstance(own, str) or not answer.startswith(own):
        raise RrrError(f"the task {type(task).__name__}: own_part() returns {own!r:.80}, which isn't the start of the "
                       "answer that it was given", USAGE)
    if own == answer:
        return turn, ""
    start = turn.rfind(answer)
    return (own, answer[len(own):]) if start < 0 else (turn[: start + len(own)], turn[start + len(own):])


def played(task: Task, problem: Problem, turns: Sequence[str]) -> list[Message]:
    """The transcript of a model that writes `turns` one after the other, until the environment ends the episode."""
    transcript: list[Message] = []
    for turn in turns:
        transcript.append(Message("assistant", own_turn(task, turn)[0]))
        observation = task.observe(problem, transcript) if isinstance(task, Environment) else None
        if observation is None:
            break
        transcript.append(observation)
    return transcript


def verify_all(task: Task, pairs: Sequence[tuple[Problem, Sequence[Message]]]) -> list[Verdict]:
    """The verdicts in order: by the task's own `verify_many` where judging is slow and it has one."""
    many = getattr(task, "verify_many", None)
    return list(many(pairs)) if many is not None else [task.verify(p, transcript) for p, transcript in pairs]
