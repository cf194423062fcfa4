"""An environment for tests: guess a number from 1 to 7, told whether it is higher or lower."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence

from rrr_cli.records import Message, Problem, content_id
from rrr_cli.tasks.base import Verdict


class Guessing:
    """One problem a number and split."""

    name = "guessing"
    levels = ("only",)
    error_types = ("not_found",)
    words: Mapping[str, str] = {
        "reflect": "Reflect on the guesses.",
        "retry": "Guess again from the start.",
    }
    max_turns = 3

    def __init__(self, level: str | None = None, data: str | None = None) -> None:
        pass

    def problems(self, split: str) -> Iterator[Problem]:
        for number in range(1, 8):
            for copy in range(4):
                yield Problem(
                    problem_id=content_id(split, number, copy), task=self.name, split=split, difficulty="only",
                    prompt=[Message("user", f"Guess {split} number {copy}.")], tools=None,
                    reference=json.dumps(number), metadata="{}",
                )

    def observe(self, problem: Problem, transcript: Sequence[Message]) -> Message | None:
        guess, number = transcript[-1].content.strip(), int(problem.reference)
        if guess == str(number):
            return None
        word = "higher" if guess.isdecimal() and int(guess) < number else "lower"
        return Message("user", f"It is {word} than {guess}.")

    def verify(self, problem: Problem, transcript: Sequence[Message]) -> Verdict:
        guesses = [m.content.strip() for m in transcript if m.role == "assistant"][: self.max_turns]
        found = problem.reference in guesses
        error = None if found else "not_found"
        return Verdict(found, float(found), error, "Found." if found else "It wasn't found.", guesses[-1])

    def right_turns(self, problem: Problem) -> list[str]:
        return [problem.reference]

    def answers_in(self, problem: Problem, text: str) -> Iterator[list[str]]:
        for word in text.split():
            yield [word]


class GuessingAloud(Guessing):
    """The first word of a turn is the guess; the rest is dropped."""

    def own_part(self, answer: str) -> str:
        return answer.partition(" ")[0]


class GuessingEasily(Guessing):
    """Some tries pass: one of three turns has an even number of words, and none of them ends the game."""

    def observe(self, problem: Problem, transcript: Sequence[Message]) -> Message | None:
        return super().observe(problem, [Message("assistant", "0")])

    def verify(self, problem: Problem, transcript: Sequence[Message]) -> Verdict:
        passed = len(transcript[0].content.split()) % 2 == 0
        return Verdict(passed, float(passed), None if passed else "not_found", "Judged.", None)
