"""Tries beyond the second: reflecting goes on to --tries, its controls until they have spent as many tokens.

Reads one model's rows of `evaluations` and `later_tries`; writes `later_tries`. Tries come in waves: a wave is one more
try of one arm for every problem that the arm hasn't solved. Which wave is next depends on the stored rows alone, and so
do the prompts and seeds of its tries; so --part, a kill and a lower --tries before change no row. A try that a server
leaves without an answer isn't written, and its problem's later tries of that arm wait for the next run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rrr_cli.episodes import Unanswered
from rrr_cli.failures import Failure
from rrr_cli.flow import Flow
from rrr_cli.progress import Work
from rrr_cli.records import Attempt, LaterTry, Problem, Reflection, content_id
from rrr_cli.rollout import Loop, transcript_text
from rrr_cli.stages.curves import counted, longest, mean_spent
from rrr_cli.stages.setup import window
from rrr_cli.stages.tries import ARMS, Arm, Try, arms_of, goes_on
from rrr_cli.stages.unanswered import answered, count, finish, record
from rrr_cli.stories import Story

if TYPE_CHECKING:
    from rrr_cli.store.artifacts import Writer

MOST = 64  # tries of a control, however many tokens a reflection has
WORDS = {"reflect": "a try after a reflection", "plain": "a retry without a reflection", "blind": "a blind try"}


@dataclass(frozen=True)
class Wave:
    """Try `number` of one arm, and the problems that it is for."""

    arm: str
    number: int
    problem_ids: list[str]


@dataclass(frozen=True)
class Tested:
    """One model of an evaluation with its problems, all of which it has been tried at."""

    run: Path
    name: str
    weights: str  # fingerprint
    problems: Mapping[str, Problem]  # by id
    tries: int
    temperature: float
    seed: int
    ended: tuple[str, ...] = ()  # arms whose further tries would be the first one again
    goal: float = 0.0  # mean tokens a problem that the controls have to reach, beside those of reflecting

    def arms(self) -> dict[str, Arm]:
        """Its tries, as they are stored."""
        from rrr_cli.store.artifacts import read

        rows = [row for row in read(self.run, "evaluations", {"model": self.name}) if row.problem_id in self.problems]
        evaluated = {row.problem_id for row in rows}
        later = read(self.run, "later_tries", {"model": self.name, "arm": list(ARMS)})
        arms = arms_of(rows, [one for one in later if one.problem_id in evaluated])
        return {arm: problems for arm, problems in arms.items() if arm not in self.ended}

    def row(self, wave: Wave, attempt: Attempt, reflection: Reflection | None) -> LaterTry:
        """What is stored of a try."""
        return LaterTry(
            try_id=content_id("try", attempt.problem_id, self.name, self.weights, wave.arm, wave.number),
            problem_id=attempt.problem_id, task=attempt.task, difficulty=attempt.difficulty, model=self.name,
            arm=wave.arm, number=wave.number, text=transcript_text(attempt.transcript), success=attempt.success,
            error_type=attempt.error_type, tokens=attempt.completion_tokens,
            reflector=self.name if reflection else None, reflection=reflection.text if reflection else None,
            reflection_tokens=reflection.tokens if reflection else None,
            solves=reflection.solves if reflection else None,
            turns=attempt.transcript if len(attempt.transcript) > 1 else None, temperature=self.temperature,
            seed=self.seed, feedback=None if attempt.success else attempt.feedback,
        )


def next_wave(
    arms: Mapping[str, Arm], tries: int, left: Mapping[str, set[str]] | None = None, goal: float = 0.0
) -> Wave | None:
    """What is tried next; None when all is done. `left`: arm -> problems whose next try got no answer in this run.
    `goal`: see `Tested`.

    Reflecting comes first, because its tokens say how far the controls go.
    """
    reflecting = arms.get("reflect", {})
    for arm, problems in arms.items():
        waiting = {p: t for p, t in problems.items() if goes_on(t) and p not in (left or {}).get(arm, ())}
        if not waiting:
            continue
        number = min(map(len, waiting.values())) + 1
        if number <= max(tries, longest(problems)) or (arm != "reflect" and _saves(problems, reflecting, tries, goal)):
            return Wave(arm, number, [p for p, t in waiting.items() if len(t) == number - 1])
    return None


def _saves(control: Arm, reflecting: Arm, tries: int, goal: float) -> bool:
    """Whether a control, as far as it went, has spent less than reflecting, and may go on."""
    if longest(control) >= MOST or not counted(control, reflecting):
        return False
    return mean_spent(control)[-1] < max(goal, mean_spent(reflecting)[:tries][-1])


def write_later_tries(writer: Writer, loop: Loop, tested: Tested, options: Any) -> Loop:
    """Try on until no wave is left, writing a part at a time. Returns the loop that holds what got no answer."""
    loop = replace(loop, unanswered=Unanswered())
    left: dict[str, set[str]] = {}
    while (wave := next_wave(arms := tested.arms(), tested.tries, left, tested.goal)) is not None:
        unwritten = left.setdefault(wave.arm, set())
        unwritten.update(wave.problem_ids)
        with Work(f"{tested.name}: {WORDS[wave.arm]}, number {wave.number}", len(wave.problem_ids)) as work:
            flow: Flow[LaterTry | None] = Flow(window(options, loop))
            for part in flow.parts(stories(loop, tested, wave, arms[wave.arm]), options.part):
                rows = [row for row in part if row is not None]
                unwritten.difference_update(row.problem_id for row in rows)
                record(writer, loop)
                writer.append(rows)
                count(work, len(part), "", loop)
            finish(work, loop)
    return loop


def stories(loop: Loop, tested: Tested, wave: Wave, arm: Arm) -> Iterator[Story[LaterTry | None]]:
    """A story a problem of the wave."""
    for problem_id in wave.problem_ids:
        yield story(loop, tested, wave, tested.problems[problem_id], arm[problem_id])


def story(loop: Loop, tested: Tested, wave: Wave, problem: Problem, tries: Sequence[Try]) -> Story[LaterTry | None]:
    """The row of a wave's try at a problem; None where it or its reflection got no answer."""
    reflection: Reflection | None = None
    if wave.arm == "blind":
        ((attempt,),) = yield from loop.attempting([problem], range(wave.number - 1, wave.number), phase="resample")
    else:
        failure = failure_of(loop, problem, wave.arm, tries)
        if wave.arm == "reflect":
            ((reflection,),) = yield from loop.reflecting([failure], range(1))
            if not answered([reflection]):
                return None
        ((attempt,),) = yield from loop.retrying([(failure, reflection)], range(1))
    return tested.row(wave, attempt, reflection) if answered([attempt]) else None


def failure_of(loop: Loop, problem: Problem, arm: str, tries: Sequence[Try]) -> Failure:
    """The last of an arm's tries as the failure that is reflected on or retried, with what came before it."""
    failures = [
        Failure(problem, content_id("failed", problem.problem_id, arm, number, one.text), one.transcript,
                one.feedback or "")
        for number, one in enumerate(tries, 1)
    ]
    failure = failures[0]
    for one, retried in zip(tries[1:], failures[1:], strict=True):
        failure = loop.following(failure, one.reflection, retried)
    return failure
