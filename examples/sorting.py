"""A task in one file: put a few numbers into ascending order.

    rrr mine-failures --task examples/sorting.py:Sorting --model PATH
"""

import json
import random
import re
from collections.abc import Iterator, Mapping, Sequence

from rrr_cli.errors import USAGE, RrrError
from rrr_cli.records import Message, Problem, content_id
from rrr_cli.tasks.base import Verdict


class Sorting:
    name = "sorting"
    levels = ("five", "ten")
    error_types = ("no_answer", "wrong_numbers", "wrong_order")
    words: Mapping[str, str] = {
        "reflect": "Your answer was wrong. Reflect on what went wrong, in a few words that will help you next time.",
        "retry": "Please try again. Return the numbers in <answer> </answer> tags.",
    }

    def __init__(self, level: str | None = None, data: str | None = None) -> None:
        self.level = level or self.levels[0]
        if self.level not in self.levels or data is not None:
            raise RrrError(f"sorting has the levels {', '.join(self.levels)} and takes no --data", USAGE)

    def problems(self, split: str) -> Iterator[Problem]:
        """1,000 train and 200 test problems; number i depends on i alone. Odd first numbers are the test split's."""
        count = 5 if self.level == "five" else 10
        for i in range(1000 if split == "train" else 200):
            draw = random.Random(f"sorting/{self.level}/{split}/{i}")
            first = draw.randrange(0, 1000, 2) + (split == "test")
            numbers = [first, *(draw.randrange(1000) for _ in range(count - 1))]
            yield Problem(
                problem_id=content_id("sorting", numbers), task=self.name, split=split, difficulty=self.level,
                prompt=[Message("user", f"Sort in ascending order: {numbers}. Answer as <answer>1, 2, 3</answer>.")],
                tools=None, reference=json.dumps(", ".join(map(str, sorted(numbers)))), metadata=json.dumps(numbers),
            )

    def verify(self, problem: Problem, transcript: Sequence[Message]) -> Verdict:
        """The last closed <answer> counts. Never raises."""
        found = re.findall(r"<answer>([^<]*)</answer>", transcript[-1].content if transcript else "")
        if not found:
            return Verdict(False, 0.0, "no_answer", "There are no <answer> </answer> tags.", None)
        answer, wanted = re.findall(r"[0-9]+", found[-1]), sorted(json.loads(problem.metadata))
        said = ", ".join(answer)
        if answer == [str(n) for n in wanted]:
            return Verdict(True, 1.0, None, "In ascending order.", said)
        if sorted(answer) != sorted(str(n) for n in wanted):
            return Verdict(False, 0.0, "wrong_numbers", "These aren't the numbers that were given.", said)
        return Verdict(False, 0.0, "wrong_order", "The numbers aren't in ascending order.", said)

    def right_turns(self, problem: Problem) -> list[str]:
        """The reference between the tags."""
        return [f"<answer>{json.loads(problem.reference)}</answer>"]

    def answers_in(self, problem: Problem, text: str) -> Iterator[list[str]]:
        """Each list of numbers in a text, such as a reflection, as an answer; `verify` says which are right."""
        for numbers in re.findall(r"[0-9]+(?:,\s*[0-9]+)+", text):
            yield [f"<answer>{numbers}</answer>"]
