"""Household: a task played in text, as in ALFWorld (arXiv 2010.03768), which Re-ReST (arXiv 2406.01495) learns from.

The model looks for things in a room, takes, heats, cools, cleans, puts down or reads them under a lamp, one command a
turn; the room answers in ALFWorld's words (`simulator.py`). Games come from a generator (`generate.py`; levels easy and
full) or from `data` (`data.py`), where real ALFWorld scenes can be read too.

A turn is one command, the first (`parse.py`); what stands after it is dropped. A turn of thoughts alone is answered
`OK.`, as ReAct does. The episode ends when the goal is met or `max_turns` are used up; what follows is not read.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

from rrr_cli.records import Message, Problem
from rrr_cli.tasks import actions
from rrr_cli.tasks.base import Verdict
from rrr_cli.tasks.household.data import check
from rrr_cli.tasks.household.data import problems as data_problems
from rrr_cli.tasks.household.generate import problems as generated_problems
from rrr_cli.tasks.household.parse import canonical, command_of, read
from rrr_cli.tasks.household.plans import can_complete, commands_in, completing
from rrr_cli.tasks.household.problem import MAX_TURNS, NAME, WORDS
from rrr_cli.tasks.household.simulator import NOTHING, House
from rrr_cli.tasks.rows import chosen_level
from rrr_cli.tasks.splits import check_split

OK = "OK."


class AnyHouse(Protocol):
    """A game being played: our `House`, or another engine's."""

    goal: dict[str, Any]
    held: str | None

    def act(self, command: str) -> str: ...

    def done(self) -> bool: ...


class Household:
    """The task; `levels` are of the generator, so `level` and `data` exclude each other.

    Raises RrrError: unknown level, or both given (exit 2); data that can't be read (exit 3).
    """

    name = NAME
    levels: tuple[str, ...] = ("easy", "full")
    error_types = ("no_action", "stopped_early", "not_found", "goal_not_met")
    words: Mapping[str, str] = WORDS

    def __init__(self, level: str | None = None, data: str | None = None) -> None:
        self.level = chosen_level(self.name, self.levels, level, data, check)
        self.data = data
        self.max_turns = MAX_TURNS[self.level if data is None else "data"]

    def problems(self, split: str) -> Iterator[Problem]:
        """Problems of `split`, "train" or "test"; the generator gives 4,000 and 1,000 at each level."""
        check_split(self.name, split)
        if self.data is None:
            return generated_problems(self.level, split, self.words)
        return data_problems(self.data, split, self.words)

    def verify(self, problem: Problem, transcript: Sequence[Message]) -> Verdict:
        """Play the model's turns from the start: passed as soon as the goal is met. Total and pure."""
        house = self._house(problem)
        goal = house.goal
        commands: list[str] = []
        turns = idle = 0
        picked_up = False
        for message in self._turns(transcript):
            turns += 1
            command = command_of(message.content)
            commands += [command] if command else []
            idle += respond(house, command) in (NOTHING, OK)
            picked_up = picked_up or (house.held is not None and house.held.rpartition(" ")[0] == goal["object"])
            if house.done():
                return Verdict(True, 1.0, None, f"The task was completed in {_count(turns, 'turn')}.",
                               "\n".join(commands))
        error = ("no_action" if idle == turns else "stopped_early" if turns < self.max_turns
                 else "goal_not_met" if picked_up else "not_found")
        note = "" if picked_up else f", and no {goal['object']} was picked up"
        feedback = f"The task was not completed: {_count(turns, 'turn')}, {idle} of them did nothing{note}."
        return Verdict(False, 0.0, error, feedback, "\n".join(commands) or None)

    def observe(self, problem: Problem, transcript: Sequence[Message]) -> Message | None:
        """What the room answers to the last turn; None when the goal is met or no turn is left. Total and pure."""
        house = self._house(problem)
        turns = self._turns(transcript)
        answer = None
        for message in turns:
            answer = respond(house, command_of(message.content))
            if house.done():
                return None
        return None if answer is None or len(turns) == self.max_turns else Message("user", answer)

    def own_part(self, answer: str) -> str:
        """An answer up to its command: what the model writes after it, in the room's place, is dropped."""
        return actions.own_part(answer, read(answer).end)

    def _house(self, problem: Problem) -> AnyHouse:
        """The problem's game at its start."""
        return House(json.loads(problem.metadata))

    def _turns(self, transcript: Sequence[Message]) -> list[Message]:
        return [m for m in transcript if m.role == "assistant"][: self.max_turns]

    def right_turns(self, problem: Problem) -> list[str]:
        """The expert's commands; it knows where everything is, so it doesn't search."""
        return [f"> {command}" for command in json.loads(problem.reference)]

    def answers_in(self, problem: Problem, text: str) -> Iterator[list[str]]:
        """The commands in `text`, in their order, that complete the task when played from the start (`plans.py`)."""
        commands = commands_in(text)
        if can_complete(commands):
            for plan in self._plans(problem, commands):
                yield [f"> {command}" for command in plan]

    def _plans(self, problem: Problem, commands: Sequence[str]) -> Iterator[list[str]]:
        """Ways to complete the problem's game with these commands in their order, others left out."""
        return completing(json.loads(problem.metadata), commands, self.max_turns)


def respond(house: AnyHouse, command: str | None) -> str:
    """What the house answers to a turn's command."""
    return OK if command is None else house.act(canonical(command))


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
