"""What `--model tiny` is trained on: made-up transcripts of Countdown, in the very chats that the stages send.

A candidate is written `3 * 7 = 21 + 8 = 29 yes`, with the model's own mark; an answer thinks through a short series of
them and the last one counts; a reflection says what came out and tries some more. Many candidates are wrong and giving
up is a matter of chance, so the model fails often, and a reward for reflections has something to teach. Going on is a
comma and giving up a full stop, in answers and reflections alike, so what reflections learn reaches the answers too.

A chat holds up to three tries, with a reflection after each failed one, or (the control) with none. The request to
reflect comes with the verifier's feedback or without it. A reflection can also stand alone behind the problem, and so
can one on another problem. Some failed tries are slips or are broken off, as the model's own will be; they are given to
it and not learned.

Refuses to learn from the test split: no transcript poses a problem that is held out, and none holds a candidate that
solves one, not even as a wrong candidate for another target.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations_with_replacement, islice
from random import Random
from typing import Any

from countdown_tries import HELD_OUT_SHARE, LARGEST, Candidate, broken, candidates, held_out, slip
from tiny_tools import GIVEN

from rrr_cli import prompts
from rrr_cli.records import Message, Problem
from rrr_cli.tasks.countdown import Countdown
from rrr_cli.tasks.countdown.judge import judge
from rrr_cli.tasks.countdown.problem import WORDS

__all__ = ["HELD_OUT_SHARE", "Recipe", "Transcripts", "check_problems", "phases"]

TASK = "countdown"
MAX_TOKENS = 96
NEAREST = 8  # wrong candidates whose values lie nearest to the target


@dataclass(frozen=True)
class Recipe:
    """Every number that shapes the model. Shares and chances are probabilities."""

    steps: int = 1500
    batch_size: int = 32
    learning_rate: float = 2e-3  # after 50 steps of warm-up; cosine down to a tenth
    muon: float = 2.0  # Muon's rate is so many times that
    largest_number: int = 12  # of the wider problems, which keep the model from learning the easy ones by heart
    wide_share: float = 0.3  # of transcripts with a number above 10
    answer_only: float = 0.4  # transcripts that are a problem and its answer
    plain_retry: float = 0.12  # failed answers, each with another try without a reflection: the control of `rrr eval`
    reflection_only: float = 0.1  # a problem with a reflection on an attempt that isn't shown, and its answer
    hint: float = 0.05  # a problem with a reflection on another one, and its answer
    feedback: float = 0.5  # of chats with retries: requests that say what the verifier said of the failed tries
    third: float = 0.4  # chats with retries that hold three tries and not two
    slips: float = 0.14  # failed tries whose last candidate is a slip
    broken: float = 0.02  # failed tries that are broken off, or whose answer can't be read
    right: float = 0.45  # chance that a candidate is right
    near: float = 0.5  # chance that a wrong one is among the NEAREST; unlikely ones teach little about what to try next
    give_up: tuple[float, ...] = (0.25, 0.8)  # of stopping after a wrong candidate; one of them for a whole transcript
    most: int = 6  # candidates in a series
    use_reflection: float = 0.9  # chance that a retry takes what its reflection found
    habit_steps: int = 800  # then: the habit of giving up early, which a reward can unlearn; found answers are taken
    habit_learning_rate: float = 1e-3
    habit_give_up: tuple[float, ...] = (*[0.15] * 4, *[0.85] * 6)


def phases(recipe: Recipe) -> list[Recipe]:
    """It learns to search, then it gets the habit of giving up early and learns to trust what a reflection found."""
    return [recipe, replace(
        recipe, steps=recipe.habit_steps, learning_rate=recipe.habit_learning_rate, give_up=recipe.habit_give_up,
        use_reflection=1.0,
    )]


# The language --------------------------------------------------------------------------------------------------------

CHAT_TEMPLATE = (
    "{% for message in messages %}<|{{ message.role }}|> {{ message.content }} <|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
SPECIAL = ["<pad>", "<unk>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>"]
TAGS = ["<think>", "</think>", "<answer>", "</answer>"]
CAME_TO, NOT, TRY = "That makes", ", not", ". Try:"  # of a reflection
SYMBOLS = ["[", "]", ",", ".", "+", "-", "*", "/", "(", ")", "=", "yes", "no"]
NUMBER = r"(?<!\d)(?:1[01]\d|120|\d\d?)(?!\d)"  # up to LARGEST; of a larger one each digit is a word
WORD = NUMBER + r"|\d|[A-Za-z]+|[^\dA-Za-z]"
# What the verifier says of a failed answer (rrr_cli/tasks/countdown/judge.py and arithmetic.py), cut at its fields.
FEEDBACK = [
    "The answer comes to", ", not to", "The answer divides by zero.", "The answer uses the numbers", ", but each of",
    "has to be used exactly once.", "The answer isn't an expression that can be read:", "isn't allowed", "at character",
    "No answer was found: put one expression between <answer> and </answer>.", "a number should stand where",
    "an operator should stand where", "it ends where a number should stand", "has no", "before it", "is never closed",
    "the number at character", "starts with a zero", "it has", "characters, and at most", "a number of",
    "digits, and at most", "tokens, and at most", "are read",
]


def phrases() -> list[str]:
    """The fixed wording of every template, cut at its fields: one token each."""
    cut: list[str] = []
    for template, fields in (
        (WORDS["prompt"], ("{numbers}", "{target}")), (WORDS["reflect"], ()), (WORDS["retry"], ()),
        (prompts.REFLECTION_ONLY, ("{reflection}",)), (prompts.HINT, ("{reflection}",)),
    ):
        rest = template
        for name in fields:
            head, _, rest = rest.partition(name)
            cut.append(head.strip())
        cut.append(rest.strip())
    return [phrase for phrase in cut if phrase]


def whole_words() -> list[str]:
    """What is one token though it holds spaces or symbols."""
    return [*TAGS, *phrases(), *FEEDBACK, CAME_TO, NOT, TRY]


def words() -> list[str]:
    """All other words; the feedback names single characters, the first of a word that stands where none may."""
    known = [*SYMBOLS, *map(str, range(LARGEST + 1)), "'", '"', "a", "is"]
    first = {word[0] for word in [*whole_words(), *SYMBOLS] if word[0] not in known}
    return [*known, *sorted(first)]


def untrained(recipe: Recipe, tokenizer: Any, ids: Sequence[int]) -> Iterator[int]:
    """Places in a transcript that carry no loss: what a wrong candidate tries, but for its values and its mark.

    So the model learns to compute and to mark from wrong candidates, and to choose from right ones alone.
    """
    word = {name: tokenizer.convert_tokens_to_ids(name) for name in ("<think>", TRY, ",", "=", "no")}
    start = 0  # where the latest candidate begins
    for i, token in enumerate(ids):
        if token in (word["<think>"], word[TRY], word[","]):
            start = i + 1
        elif token == word["no"]:
            yield from (j for j in range(start, i) if ids[j - 1] != word["="])


# The transcripts -----------------------------------------------------------------------------------------------------


def problems(largest_number: int) -> list[tuple[tuple[int, ...], int]]:
    """(sorted numbers, target from 1 to 100) of every solvable problem that isn't held out."""
    return [
        (numbers, target)
        for numbers in combinations_with_replacement(range(1, largest_number + 1), 3)
        for target in sorted({c.value for c in candidates(numbers)})
        if 1 <= target <= 100 and not held_out(numbers, target)
    ]


@dataclass
class Chat:
    """A problem and what was said about it so far."""

    numbers: tuple[int, ...]  # sorted
    target: int
    shown: list[int]
    give_up: float  # chance to stop after a wrong candidate
    turns: list[Message] = field(default_factory=list)
    tried: set[Candidate] = field(default_factory=set)
    came_to: list[str] = field(default_factory=list)  # what the latest failed answer comes to, in words

    def __post_init__(self) -> None:
        self.turns = [Message("user", self.posed())]

    def posed(self) -> str:
        return WORDS["prompt"].format(numbers=self.shown, target=self.target)


class Transcripts:
    """An endless stream of transcripts: chats whose assistant turns are marked for training or not."""

    def __init__(self, recipe: Recipe, seed: int) -> None:
        self.recipe = recipe
        self.random = Random(seed)
        every = problems(recipe.largest_number)
        self.easy = [p for p in every if max(p[0]) <= 10]
        self.wide = [p for p in every if max(p[0]) > 10]

    def __iter__(self) -> Iterator[list[Message]]:
        while True:
            yield self.transcript()

    def _chat(self, give_up: float) -> Chat:
        numbers, target = self.random.choice(
            self.wide if self.random.random() < self.recipe.wide_share else self.easy
        )
        return Chat(numbers, target, self.random.sample(numbers, 3), give_up)

    def transcript(self) -> list[Message]:
        """A chat: an answer alone, after a reflection that stands behind the problem, or after failed tries."""
        recipe, random = self.recipe, self.random
        chat = self._chat(random.choice(recipe.give_up))
        shares = (recipe.answer_only, recipe.plain_retry, recipe.reflection_only, recipe.hint)
        kind = random.choices(("answer", "plain", "alone", "hint", "reflect"), (*shares, 1 - sum(shares)))[0]
        found = None  # by a reflection
        if kind == "hint":
            other = self._chat(chat.give_up)
            self._fail(other)
            text = prompts.HINT.format(reflection=self._reflection(other, self._series(other, recipe.right)))
            chat.turns = [Message("user", f"{chat.posed()}\n\n{text}")]
        elif kind == "alone":
            self._fail(chat)
            found = self._series(chat, recipe.right)
            text = prompts.REFLECTION_ONLY.format(reflection=self._reflection(chat, found))
            chat.turns = [Message("user", f"{chat.posed()}\n\n{text}")]
        elif kind != "answer":
            feedback = random.random() < recipe.feedback
            for left in range(2 if random.random() < recipe.third else 1, 0, -1):
                if not self._fail(chat):  # nothing wrong was left to try
                    return chat.turns
                if kind == "reflect":
                    found = self._reflect(chat, feedback, recipe.right if left == 1 else 0.0)
                told = kind == "plain" and feedback
                chat.turns.append(Message("user", self._request(chat, "retry", told)))
        self._answer(chat, found)
        return chat.turns

    def _answer(self, chat: Chat, found: Sequence[Candidate] | None) -> None:
        """Add the last answer; it takes what a reflection found."""
        solved = found is not None and found[-1].value == chat.target
        if found is None or not solved or self.random.random() >= self.recipe.use_reflection:
            found = self._series(chat, self.recipe.right)
        else:
            found = found[-1:]
        chat.turns.append(Message("assistant", " ".join(_answer(found, chat.target))))

    def _fail(self, chat: Chat) -> bool:
        """Add a failed answer. False: there was nothing wrong left to try, and it is right."""
        failed, role = self._series(chat, 0.0), "assistant"
        chat.came_to = [str(failed[-1].value)]
        fails = failed[-1].value != chat.target
        kind = self.random.random() if fails else 1.0
        if kind < self.recipe.slips:
            failed[-1], chat.came_to = slip(chat.shown, chat.target, self.random)
        words = _answer(failed, chat.target)
        if kind < self.recipe.slips + self.recipe.broken:
            role = GIVEN
            if kind >= self.recipe.slips:
                words = broken(words, self.random)
        chat.turns.append(Message(role, " ".join(words)))
        return fails

    def _reflect(self, chat: Chat, feedback: bool, right: float) -> list[Candidate]:
        """Add the request to reflect on the latest answer, and the reflection; what it tries."""
        chat.turns.append(Message("user", self._request(chat, "reflect", feedback)))
        found = self._series(chat, right)
        chat.turns.append(Message("assistant", self._reflection(chat, found)))
        return found

    @staticmethod
    def _request(chat: Chat, word: str, feedback: bool) -> str:
        """A request about the latest answer, with or without what the verifier says of it."""
        said = judge(chat.turns[-1].content, chat.shown, chat.target).feedback if feedback else ""
        return prompts.with_feedback(WORDS[word], said, "verifier")

    def _reflection(self, chat: Chat, found: Sequence[Candidate]) -> str:
        words = [CAME_TO, *chat.came_to, NOT, str(chat.target), TRY, *_marked(found, chat.target)]
        return " ".join(words)

    def _series(self, chat: Chat, right: float) -> list[Candidate]:
        """Wrong candidates that weren't `tried`, until a right one, giving up, or the most that a series may hold."""
        every, target = candidates(chat.numbers), chat.target
        good = [c for c in every if c.value == target]
        good = [c for c in good if "/" not in c.working] or good  # one way to solve most problems is enough to learn
        bad = [c for c in every if c.value != target and not held_out(chat.numbers, c.value)]
        bad.sort(key=lambda c: abs(c.value - target))
        series: list[Candidate] = []
        while True:
            left = [c for c in bad if c not in chat.tried]
            if not left or self.random.random() < right:
                return [*series, self.random.choice(good)]
            series.append(self.random.choice(left[:NEAREST] if self.random.random() < self.recipe.near else left))
            chat.tried.add(series[-1])
            if len(series) >= self.recipe.most or self.random.random() < chat.give_up:
                return series


def _answer(series: Sequence[Candidate], target: int) -> list[str]:
    return ["<think>", *_marked(series, target), "</think>", "<answer>", *series[-1].expression, "</answer>"]


def _marked(series: Sequence[Candidate], target: int) -> list[str]:
    words = [word for c in series for word in (*c.working, "yes" if c.value == target else "no", ",")]
    return [*words[:-1], "."]


def check_problems(count: int) -> dict[str, list[Problem]]:
    """Problems that training posed ("seen") and problems of the dev split ("dev"), `count` of each at most."""
    def is_dev(problem: Problem) -> bool:
        posed = json.loads(problem.metadata)
        return held_out(tuple(sorted(posed["nums"])), posed["target"])

    every = list(Countdown().problems("train"))
    return {name: list(islice((p for p in every if is_dev(p) is dev), count))
            for name, dev in (("seen", False), ("dev", True))}
