"""What `--model tiny-tools` is trained on: made-up transcripts of function calling, and its chat template.

The problems are drawn as `rrr_cli/tasks/function_calling/generate.py` draws those of the easy level's train split. A
candidate is a call whose every part has a mark of its own, `add ok ( item = cups bad , count = 7 - 5 = 2 ok ) no`; an
answer thinks through a short series of them and calls the last one; a reflection says what was called and tries some
more. In the transcripts most candidates are wrong in one place (the near-synonym of the tool, the other way to put the
numbers together, hours out of order, an optional argument too many) and giving up is a matter of chance: so the model
knows a right call when it sees one, and yet fails often. Going on is a semicolon and giving up a full stop, in answers
and reflections alike.

Some failed answers take a wrong call for right, as the model itself will, and so do some reflections, which the retry
then follows: it must take what the reflection found, and not find the right call in the request again. Such turns are
given to the model and not learned.

Each part has its mark because one mark for a whole call came out right three times in four only, and a reward for
reflections then taught the model to mark wrong calls right.

Refuses to learn from the test split: no transcript poses a request that is held out.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any

from rrr_cli.records import Message, Problem
from rrr_cli.tasks.function_calling import generate as tools
from rrr_cli.tasks.function_calling.calls import Call
from rrr_cli.tasks.function_calling.problem import WORDS
from rrr_cli.tasks.splits import split_of

LARGEST = 60
HELD_OUT_SHARE = 0.30  # the test split, and above it the dev split on which the recipe was tuned
TASK = "function_calling"
MAX_TOKENS = 128
GIVEN = "given"  # role of a turn that carries no loss: see train_tiny.encode
GO_ON, STOP = ";", "."
CALLED, TRY = "I called", ". Try:"  # of a reflection

CHAT_TEMPLATE = (
    "{% if tools %}<|tools|> {% for tool in tools %}{{ tool.function.name }} : {{ tool.function.description }} ( "
    "{{ tool.function.parameters.properties | join(' , ') }} ) ; {% endfor %}<|end|>{% endif %}"
    "{% for message in messages %}<|{{ message.role }}|> {{ message.content }} <|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
SPECIAL = ["<pad>", "<unk>", "<|tools|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>"]
TAGS = ["<think>", "</think>", "<tool_call>", "</tool_call>"]
WORD = r'"[a-z]+"|\d+|[A-Za-z]+|[^\dA-Za-z]'
# The argument that an amount fills, by tool.
AMOUNTS = {"timer": "minutes", "add": "count", "remove": "count", "lamp": "level", "heater": "level",
           "table": "people", "hotel": "nights"}
OPTIONAL = {"add": "urgent", "heater": "fan"}


@dataclass(frozen=True)
class Recipe:
    """Every number that shapes the model. Shares and chances are probabilities."""

    steps: int = 2000
    batch_size: int = 32
    learning_rate: float = 2e-3  # after 50 steps of warm-up; cosine down to a tenth
    muon: float = 2.0  # Muon's rate is so many times that; AdamW alone took three times the steps for the same loss
    answer_only: float = 0.35  # transcripts that are a problem and its answer
    plain_retry: float = 0.1  # a failed answer, then another try without a reflection: the control of `rrr eval`
    right: float = 0.35  # chance that a candidate is right
    two_wrong: float = 0.2  # chance that a wrong one is wrong in two places
    give_up: tuple[float, ...] = (0.2,)  # of stopping after a wrong candidate; one of them for a whole transcript
    most: int = 5  # candidates in a series
    mistaken: float = 0.3  # failed answers, and reflections that find a call, which take a wrong one for right
    learn_wrong: bool = False  # what wrong candidates try carries loss
    habit_steps: int = 300  # at the end: the habit of giving up early, which a reward can unlearn
    habit_learning_rate: float = 1e-3
    habit_give_up: tuple[float, ...] = (*[0.2] * 3, *[0.85] * 7)


@dataclass(frozen=True)
class Candidate:
    """A call and the words that lead to it."""

    call: Call
    words: tuple[str, ...]

    @property
    def key(self) -> str:
        return json.dumps([self.call.name, self.call.arguments], sort_keys=True)

    def approved(self) -> Candidate:
        """The same with no part marked as bad."""
        return replace(self, words=tuple("ok" if word == "bad" else word for word in self.words))


def phases(recipe: Recipe) -> list[Recipe]:
    """It learns to tell right calls from wrong ones, then it gets the habit of giving up early."""
    habit = replace(
        recipe, steps=recipe.habit_steps, learning_rate=recipe.habit_learning_rate, give_up=recipe.habit_give_up,
        learn_wrong=True,
    )
    return [recipe, habit]


# The language --------------------------------------------------------------------------------------------------------


def whole_words() -> list[str]:
    """What is one token though it holds spaces or symbols."""
    return [*TAGS, WORDS["reflect"], WORDS["retry"], CALLED, TRY]


def words() -> list[str]:
    """All other words: the easy level's, and what answers are made of."""
    asked = {word for p in tools.problems("easy", "train") for word in p.prompt[-1].content.split()}
    told = {word for tool in tools.TOOLS.values() for word in tool.description.split()}
    names = {*tools.TOOLS, *(name for tool in tools.TOOLS.values() for name in tool.parameters), *tools.ITEMS,
             *tools.ROOMS}
    quoted = [f'"{name}"' for name in ("name", "arguments", *sorted(names))]
    plain = sorted(word for word in asked | told | names | {"yes", "ok", "bad", "true", "false"} if word.isalpha())
    return [*quoted, *plain, *"{}[]():=+-,;.", *map(str, range(LARGEST + 1))]


def untrained(recipe: Recipe, tokenizer: Any, ids: Sequence[int]) -> Iterator[int]:
    """Places in a transcript that carry no loss: at first what a wrong candidate tries, but for its sums and its marks.

    So the model learns to compute and to mark from wrong candidates, and to choose from right ones alone. At the end
    the wrong ones are learned as well, for without that it would hardly fail.
    """
    if recipe.learn_wrong:
        return
    marks = {*tokenizer.convert_tokens_to_ids(["ok", "bad"])}
    signs = {*tokenizer.convert_tokens_to_ids(["+", "-"])}
    start, no, *before = tokenizer.convert_tokens_to_ids(["<think>", "no", TRY, GO_ON])
    begin = 0  # where the latest candidate begins
    for i, token in enumerate(ids):
        if token in (start, *before):
            begin = i + 1
        elif token == no:
            yield from (j for j in range(begin, i) if ids[j] not in marks and ids[j - 3] not in signs)


def tools_turn(schemas: str) -> Message:
    """The tools as the chat template shows them."""
    shown = (tool["function"] for tool in json.loads(schemas))
    return Message("tools", "".join(
        f"{f['name']} : {f['description']} ( {' , '.join(f['parameters']['properties'])} ) ; " for f in shown).strip())


# Candidates ----------------------------------------------------------------------------------------------------------


def readings(put: tuple[Any, ...], value: int) -> list[tuple[int, tuple[str, ...]]]:
    """(value, working) of each way to read an amount, the right one first."""
    if put[0] in ("more", "less"):
        a, b = max(put[1:]), min(put[1:])
        total = (a + b, (str(a), "+", str(b), "=", str(a + b)))
        difference = (a - b, (str(a), "-", str(b), "=", str(a - b)))
        both = [total, difference] if put[0] == "more" else [difference, total]
        return [*both, (a, (str(a),)), (b, (str(b),))]
    other = {30: 60, 60: 30, 7: 14, 14: 7, 6: 12, 12: 6}
    values = [value, other[value]] if isinstance(put[0], str) else [value, value + 1, value - 1]
    return [(v, (str(v),)) for v in values]


def mark(right: bool) -> str:
    return "ok" if right else "bad"


def same(a: object, b: object) -> bool:
    """Equal, and of one type: True isn't 1."""
    return type(a) is type(b) and a == b


class Candidates:
    """The right call of a request, and wrong ones."""

    def __init__(self, request: tools.Request, random: Random) -> None:
        self.name, self.arguments = request.call.name, request.call.arguments
        self.random = random
        self.amount = AMOUNTS.get(self.name)
        self.readings = readings(request.key[1], self.arguments[self.amount]) if self.amount else []
        self.said = list(request.key[1:])  # hours in the order of the request
        self.right = self._build(self.name, dict(self.arguments), self.readings[:1])

    def _build(self, name: str, arguments: dict[str, Any], reading: Sequence[tuple[int, tuple[str, ...]]]) -> Candidate:
        """The call in words, the tool and each argument with its own mark."""
        words = [name, mark(name == self.name), "("]
        if reading and AMOUNTS.get(name) in arguments:
            arguments[AMOUNTS[name]] = reading[0][0]
        for key, value in arguments.items():
            said = [str(v) for v in value] if isinstance(value, list) else [json.dumps(value).strip('"')]
            if reading and key == AMOUNTS.get(name):
                said = [*reading[0][1]]
            right = name == self.name and same(value, self.arguments.get(key))
            words += [*([","] if words[-1] != "(" else []), key, "=", *said, mark(right)]
        return Candidate(Call(name, arguments), (*words, ")"))

    def wrong(self, places: int) -> Candidate:
        """A call that is wrong in so many places."""
        while True:
            made = self._wrong(places)
            if made.key != self.right.key:
                return made

    def _wrong(self, places: int) -> Candidate:
        random, name, arguments, reading = self.random, self.name, dict(self.arguments), self.readings[:1]
        slots = [key for key in arguments for _ in range(3 if key in (self.amount, "hours") else 2)]
        slots += ["tool", "tool", *([OPTIONAL[name]] * 2 if name in OPTIONAL else [])]
        for slot in dict.fromkeys(random.choice(slots) for _ in range(places)):  # a set has no order of its own
            if slot == "tool":
                name = tools.TOOLS[self.name].near
            elif slot == self.amount:
                reading = [random.choice(self.readings[1:])]
            elif slot == OPTIONAL.get(self.name):
                arguments.pop(slot, None)
                arguments |= random.choice([{}, {slot: True}, {slot: False}])
            elif slot == "hours":
                arguments[slot] = random.choice([self.said, sorted(self.said, reverse=True), sorted(self.said)[:-1] or
                                                 [min(12, self.said[0] + 1)]])
            elif slot == "item":
                arguments[slot] = random.choice(tools.ITEMS)
            elif slot == "room":
                arguments[slot] = random.choice(tools.ROOMS)
            else:  # an hour, or people
                arguments[slot] = random.choice([n for n in range(1, 13) if n != arguments[slot]])
        return self._build(name, self._moved(arguments, name), reading)

    def _moved(self, arguments: dict[str, Any], name: str) -> dict[str, Any]:
        """The arguments as the tool `name` takes them."""
        if name == self.name:
            return arguments
        number = self.readings[0][0] if self.readings else min(self.said)
        moved: dict[str, Any] = {}
        for key, schema in tools.TOOLS[name].parameters.items():
            if key in arguments:
                moved[key] = arguments[key]
            elif schema is tools.HOURS:
                moved[key] = [number]
            elif schema is tools.INTEGER:
                moved[key] = number
        return moved


# Transcripts ---------------------------------------------------------------------------------------------------------


def held_out(problem_key: str) -> bool:
    """Whether a request belongs to the test split or to the dev split."""
    return split_of(problem_key, HELD_OUT_SHARE) == "test"


class Transcripts:
    """An endless stream of chats, the tools as their first turn."""

    def __init__(self, recipe: Recipe, seed: int) -> None:
        self.recipe = recipe
        self.random = Random(seed)

    def __iter__(self) -> Iterator[list[Message]]:
        while True:
            yield self.transcript()

    def transcript(self) -> list[Message]:
        """An answer alone, or a failed one with a retry, after a reflection or (the control) without one."""
        recipe, random = self.recipe, self.random
        while True:
            requests = tools.draw(random, "easy", "train")
            if not held_out(tools.requests_key(requests)):
                break
        posed: Problem = tools.pose(random, requests, "easy", "train")
        made = Candidates(requests[0], random)
        tried: set[str] = set()
        give_up = random.choice(recipe.give_up)

        def series(right: float = recipe.right) -> list[Candidate]:
            return self._series(made, tried, right, give_up)

        kind = random.random()
        asked = [tools_turn(str(posed.tools)), *posed.prompt]
        if kind < recipe.answer_only:
            return [*asked, answer(series(), made.right.key)]
        failed = series(right=0.0)
        turns = [*asked, self._failure(failed)]
        retry = Message("user", WORDS["retry"])
        if kind < recipe.answer_only + recipe.plain_retry:
            return [*turns, retry, answer(series(), made.right.key)]
        reflected = series()
        found = reflected[-1].key if reflected[-1] == made.right else ""
        role = "assistant"
        if found and random.random() < recipe.mistaken:
            # The right call can be told from the request; only this shows that a retry takes what the reflection found.
            mistake = made.wrong(1)
            reflected[-1], found, role = mistake.approved(), mistake.key, GIVEN
        words = [CALLED, *failed[-1].words, TRY, *marked(reflected, found)]
        turns += [Message("user", WORDS["reflect"]), Message(role, " ".join(words))]
        if found:
            return [*turns, retry, answer(reflected[-1:], found)]
        return [*turns, retry, answer(series(), made.right.key)]

    def _failure(self, series: Sequence[Candidate]) -> Message:
        """The answer that gives up, or one that takes its last call for right, which isn't to be learned."""
        if self.random.random() >= self.recipe.mistaken:
            return answer(series, found="")
        return replace(answer([*series[:-1], series[-1].approved()], series[-1].key), role=GIVEN)

    def _series(self, made: Candidates, tried: set[str], right: float, give_up: float) -> list[Candidate]:
        """Wrong candidates that weren't `tried`, until the right one, giving up, or the most that a series may hold."""
        series: list[Candidate] = []
        while True:
            if self.random.random() < right:
                return [*series, made.right]
            drawn = (made.wrong(2 if self.random.random() < self.recipe.two_wrong else 1) for _ in range(20))
            wrong = next((c for c in drawn if c.key not in tried), None)
            if wrong is None:  # few are left
                return [*series, made.right] if right or not series else series
            tried.add(wrong.key)
            series.append(wrong)
            if len(series) >= self.recipe.most or self.random.random() < give_up:
                return series


def marked(series: Sequence[Candidate], found: str) -> list[str]:
    """The candidates, the one whose key is `found` with a yes."""
    words = [w for c in series for w in (*c.words, "yes" if c.key == found else "no", GO_ON)]
    return [*words[:-1], STOP]


def answer(series: Sequence[Candidate], found: str) -> Message:
    call = series[-1].call
    arguments = " , ".join(f'"{k}" : {json.dumps(v)}' for k, v in call.arguments.items())
    written = f'{{ "name" : "{call.name}" , "arguments" : {{ {arguments} }} }}'
    return Message("assistant", " ".join(["<think>", *marked(series, found), "</think>", "<tool_call>", written,
                                          "</tool_call>"]))


def check_problems(count: int) -> dict[str, list[Problem]]:
    """`count` problems whose requests training may have posed ("seen"), and as many of the dev split ("dev")."""
    found: dict[str, list[Problem]] = {"seen": [], "dev": []}
    index = 0
    while min(map(len, found.values())) < count:
        random = Random(f"check/{index}")
        requests = tools.draw(random, "easy", "train")
        posed = tools.pose(random, requests, "easy", "train")
        rows = found["dev" if held_out(tools.requests_key(requests)) else "seen"]
        if len(rows) < count:
            rows.append(posed)
        index += 1
    return found
