"""Generated function-calling problems, for demonstrations: a household's request, a few tools, the right call.

Level `easy`: two or three short tools, one right, in a language of about 150 words (digits and punctuation included)
that a word-level model of under a million parameters can learn. Every tool comes with a near-synonym. What makes it
hard for such a model: choosing between them, arguments that take a small step (five less than seven, half a dozen, a
sum, hours in ascending order), and optional ones that have to be left out. Level `hard`: up to four tools, one or two
requests in a sentence, numbers to 60, products, and corrections ("two , no , make it nine").

A request is its tools, the numbers and words in it and how they are put (not the phrasing around them): that is its
key, which says which split it belongs to, so no request of one split stands in the other. Draw i depends on the level,
the split and i alone; a request that was drawn before is left out. Nothing is read or written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random
from typing import Any

from rrr_cli.records import Message, Problem, content_id
from rrr_cli.tasks.function_calling.calls import Call
from rrr_cli.tasks.function_calling.problem import TEST_SHARE, make_problem
from rrr_cli.tasks.splits import split_of

LIMITS = {"train": 4000, "test": 1000}  # problems a level
NUMBER_WORDS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
ITEMS = ("eggs", "apples", "cakes", "cups")
ROOMS = ("kitchen", "hall", "bath")
# Measures that are a number in themselves, by the noun that they stand for.
MEASURES = {
    "minutes": {"half an hour": 30, "an hour": 60},
    "nights": {"a week": 7, "two weeks": 14},
    "people": {"a dozen people": 12, "half a dozen people": 6},
    **{item: {f"a dozen {item}": 12, f"half a dozen {item}": 6} for item in ITEMS},
}

INTEGER = {"type": "integer"}
BOOLEAN = {"type": "boolean"}
STRING = {"type": "string"}
ROOM = {"type": "string", "enum": list(ROOMS)}
HOURS = {"type": "array", "items": INTEGER}


@dataclass(frozen=True)
class Request:
    """One thing asked for: the words, the call that is right, and what makes two requests the same."""

    text: str
    call: Call
    key: tuple[object, ...]


# Numbers -------------------------------------------------------------------------------------------------------------


def _number(random: Random, value: int) -> str:
    """A number as a word or in digits."""
    return NUMBER_WORDS[value - 1] if value <= len(NUMBER_WORDS) and random.random() < 0.6 else str(value)


def _amount(random: Random, noun: str, hard: bool) -> tuple[str, int, tuple[object, ...]]:
    """A number of `noun` in words, its value, and how it was put. Easy values are 1 to 24, 30 and 60."""
    kinds = ["plain", "more", "less", *(["measure"] if noun in MEASURES else []), *(["times", "no"] if hard else [])]
    kind = random.choice(kinds)
    largest = 60 if hard else 24
    if kind == "measure":
        text, value = random.choice(sorted(MEASURES[noun].items()))
        return text, value, (text,)
    if kind == "more":
        a, b = random.randint(1, 12), random.randint(1, 12)
        return f"{_number(random, a)} and {_number(random, b)} more {noun}", a + b, ("more", a, b)
    if kind == "less":
        a = random.randint(2, largest // 2)
        b = random.randint(1, min(a - 1, 12))
        return f"{_number(random, b)} less than {_number(random, a)} {noun}", a - b, ("less", a, b)
    if kind == "times":
        a, b = random.randint(2, 5), random.randint(2, 12)
        return f"{_number(random, a)} times {_number(random, b)} {noun}", a * b, ("times", a, b)
    value = random.randint(1, largest)
    if kind == "no":
        wrong = random.randint(1, largest)
        return f"{_number(random, wrong)} , no , make it {_number(random, value)} {noun}", value, ("no", wrong, value)
    return f"{_number(random, value)} {noun}", value, (value,)


def _optional(random: Random, name: str, yes: str, no: str) -> tuple[str, dict[str, Any]]:
    """Words and argument of an optional boolean; a third of the time neither."""
    return random.choice([(f" {yes}", {name: True}), (f" {no}", {name: False}), ("", {})])


# Tools and what is asked of them -------------------------------------------------------------------------------------


def _timer(random: Random, hard: bool) -> Request:
    amount, minutes, put = _amount(random, "minutes", hard)
    text = random.choice([f"ring after {amount}", f"tell me when {amount} are over", f"I will come in {amount} , ring"])
    return Request(text, Call("timer", {"minutes": minutes}), ("timer", put))


def _alarm(random: Random, hard: bool) -> Request:
    hours = random.sample(range(1, 13), random.choice((2, 3, 4) if hard else (1, 2, 3)))
    said = " and ".join(f"at {_number(random, hour)}" for hour in hours)
    text = random.choice([f"ring {said}", f"wake me {said}", f"I will sleep , wake me {said}"])
    return Request(text, Call("alarm", {"hours": sorted(hours)}), ("alarm", *hours))


def _add(random: Random, hard: bool) -> Request:
    item = random.choice(ITEMS)
    amount, count, put = _amount(random, item, hard)
    words, urgent = _optional(random, "urgent", "today", "when you can")
    text = random.choice([f"we need {amount}{words}", f"put {amount} on the list{words}", f"get {amount}{words}"])
    return Request(text, Call("add", {"item": item, "count": count, **urgent}), ("add", put, item, str(urgent)))


def _remove(random: Random, hard: bool) -> Request:
    item = random.choice(ITEMS)
    amount, count, put = _amount(random, item, hard)
    text = random.choice([
        f"take {amount} off the list", f"we have {amount} , no need to get them",
        f"we need no more {item} , I got {amount}",
    ])
    return Request(text, Call("remove", {"item": item, "count": count}), ("remove", put, item))


def _lamp(random: Random, hard: bool) -> Request:
    room = random.choice(ROOMS)
    level, value, put = _amount(random, "", hard)
    text = random.choice([f"light in the {room} at {level}", f"make the {room} bright , level {level}"]).strip()
    return Request(text, Call("lamp", {"room": room, "level": value}), ("lamp", put, room))


def _heater(random: Random, hard: bool) -> Request:
    room = random.choice(ROOMS)
    level, value, put = _amount(random, "", hard)
    words, fan = _optional(random, "fan", "with the fan", "with no fan")
    text = random.choice([f"heat the {room}{words} at {level}", f"make the {room} warm{words} , level {level}"]).strip()
    return Request(text, Call("heater", {"room": room, "level": value, **fan}), ("heater", put, room, str(fan)))


def _table(random: Random, hard: bool) -> Request:
    hour = random.randint(1, 12)
    amount, people, put = _amount(random, "people", hard)
    at = f"at {_number(random, hour)}"
    text = random.choice([f"get a table for {amount} {at}", f"we are {amount} and want to eat {at}"])
    return Request(text, Call("table", {"people": people, "hour": hour}), ("table", put, hour))


def _hotel(random: Random, hard: bool) -> Request:
    people = random.randint(1, 12)
    amount, nights, put = _amount(random, "nights", hard)
    who = f"{_number(random, people)} people"
    text = random.choice([f"get a room for {who} for {amount}", f"we are {who} and want to sleep there {amount}"])
    return Request(text, Call("hotel", {"people": people, "nights": nights}), ("hotel", put, people))


@dataclass(frozen=True)
class Tool:
    """What is offered: a description, the parameters (an optional one stands in `optional`), and who asks for it."""

    description: str
    parameters: dict[str, dict[str, Any]]
    ask: Callable[[Random, bool], Request]
    near: str  # its near-synonym
    optional: tuple[str, ...] = ()


TOOLS = {
    "timer": Tool("ring after some minutes", {"minutes": INTEGER}, _timer, "alarm"),
    "alarm": Tool("ring at hours , from low to high", {"hours": HOURS}, _alarm, "timer"),
    "add": Tool("put on the list", {"item": STRING, "count": INTEGER, "urgent": BOOLEAN}, _add, "remove", ("urgent",)),
    "remove": Tool("take off the list", {"item": STRING, "count": INTEGER}, _remove, "add"),
    "lamp": Tool("light a room", {"room": ROOM, "level": INTEGER}, _lamp, "heater"),
    "heater": Tool("heat a room", {"room": ROOM, "level": INTEGER, "fan": BOOLEAN}, _heater, "lamp", ("fan",)),
    "table": Tool("book to eat", {"people": INTEGER, "hour": INTEGER}, _table, "hotel"),
    "hotel": Tool("book to sleep", {"people": INTEGER, "nights": INTEGER}, _hotel, "table"),
}


def schema_of(name: str) -> dict[str, Any]:
    """The tool as chat templates take it."""
    tool = TOOLS[name]
    required = [parameter for parameter in tool.parameters if parameter not in tool.optional]
    parameters = {"type": "object", "properties": tool.parameters, "required": required}
    return {"type": "function", "function": {"name": name, "description": tool.description, "parameters": parameters}}


# Problems ------------------------------------------------------------------------------------------------------------


def problems(level: str, split: str) -> Iterator[Problem]:
    """The `LIMITS[split]` problems of a level."""
    seen: set[str] = set()
    index = 0
    while len(seen) < LIMITS[split]:
        random = Random(f"function_calling/{level}/{split}/{index}")
        index += 1
        requests = draw(random, level, split)
        key = requests_key(requests)
        if key not in seen:
            seen.add(key)
            yield pose(random, requests, level, split)


def draw(random: Random, level: str, split: str) -> list[Request]:
    """What is asked in one problem of `split`: one request, or at the hard level one or two."""
    while True:
        count = random.choice((1, 2, 2)) if level == "hard" else 1
        requests = [random.choice(list(TOOLS.values())).ask(random, level == "hard") for _ in range(count)]
        if split_of(requests_key(requests), TEST_SHARE) == split:
            return requests


def requests_key(requests: list[Request]) -> str:
    """The key of a problem: what is asked, whatever the phrasing and the tools around it."""
    return content_id("synthetic tools", [request.key for request in requests])


def pose(random: Random, requests: list[Request], level: str, split: str) -> Problem:
    """The problem's row: the right tools, a near-synonym of each, at times one more, in any order."""
    names = [name for request in requests for name in (request.call.name, TOOLS[request.call.name].near)]
    names = list(dict.fromkeys(names))
    if len(names) == 2 and random.random() < 0.4:
        names.append(random.choice([name for name in TOOLS if name not in names]))
    random.shuffle(names)
    prompt = [Message("user", " and then ".join(request.text for request in requests) + " .")]
    return make_problem(prompt, [schema_of(name) for name in names], [r.call for r in requests], split, level)
