"""Which answers stand in a free text such as a reflection, task by task; Countdown has a file of its own."""

from __future__ import annotations

import json
from typing import Any

import pytest

from rrr_cli.errors import RrrError
from rrr_cli.records import Message, Problem
from rrr_cli.tasks import load_task
from rrr_cli.tasks.base import Task
from rrr_cli.tasks.function_calling.calls import Call
from rrr_cli.tasks.function_calling.match import Expected
from rrr_cli.tasks.function_calling.problem import make_problem as function_problem
from rrr_cli.tasks.household.problem import make_problem as household_problem
from rrr_cli.tasks.household.task import Household
from rrr_cli.tasks.layout.boxes import Box
from rrr_cli.tasks.layout.problem import Requirement
from rrr_cli.tasks.layout.problem import make_problem as layout_problem
from rrr_cli.tasks.mbpp.problem import make_problem as mbpp_problem
from rrr_cli.tasks.solves import solves

# Function calling

SCHEMA: dict[str, Any] = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
SETTINGS = {"minutes": {"type": "integer"}, "days": {"type": "array", "items": {"type": "integer"}},
            "fan": {"type": "boolean"}}
TOOLS = [{"type": "function", "function": {"name": name, "parameters": parameters}} for name, parameters in (
    ("weather", SCHEMA), ("timer", {"type": "object", "properties": SETTINGS, "required": list(SETTINGS)}))]
TIMER = Call("timer", {"minutes": 24, "days": [1, 3, 5], "fan": True})
PARIS, ROME = (Call("weather", {"city": city}) for city in ("Paris", "Rome"))


@pytest.mark.parametrize(("text", "expected", "right"), [
    ('weather(city="Paris"), or was it weather(city="Rome")?', [PARIS], True),
    ('weather(city="Paris") and then weather(city="Rome")', [ROME, PARIS], True),
    ('weather(city="Paris")', [PARIS, PARIS], False),
    ('weather(city="Paris") and again weather(city="Paris")', [PARIS, PARIS], True),
    ('weather(city="Paris")', [PARIS, ROME], False),
    ('weather(city="paris.")', [Expected("weather", {"city": ["Paris"]})], True),
    ("Call weather for Paris.", [PARIS], False),
    ("weather ok ( city = Paris ok ) yes .", [PARIS], True), ("I called weather ( city = Rome bad ) .", [PARIS], False),
    ("weather(city=Paris) and weather(city: Rome)", [PARIS, ROME], True),
    ("timer ok ( minutes = 31 - 7 = 24 ok , days = 1 3 5 , fan = true ) yes", [TIMER], True),
    ("timer ( minutes = 23 bad , days = 1 3 5 , fan = true )", [TIMER], False), ("timer(24, true)", [TIMER], False),
    ("timer ( days = [1, 3, 5] , fan = True , minutes = 24 )", [TIMER], True),
    ("None of the tools can do that.", [], False),
    ('weather(city="Paris")', [], False),
])
def test_function_calling_wants_each_expected_call(text: str, expected: list[Any], right: bool):
    problem = function_problem([Message("user", "?")], TOOLS, expected, "train", "test")
    assert solves(load_task("function_calling"), problem, text) is right


# Household

GAME = {
    "goal": {"kind": "heat", "object": "apple", "target": "countertop", "text": "heat an apple."},
    "receptacles": [
        {"name": name, "openable": openable, "contents": contents} for name, openable, contents in (
            ("countertop 1", False, ["mug 1"]), ("countertop 2", False, []), ("fridge 1", True, ["apple 1"]),
            ("microwave 1", True, []), ("cabinet 1", True, ["apple 2"]), ("cabinet 2", True, []))
    ],
}
EXPERT = ("go to fridge 1", "open fridge 1", "take apple 1 from fridge 1", "go to microwave 1",
          "heat apple 1 with microwave 1", "go to countertop 1", "move apple 1 to countertop 1")
SEARCH = "go to cabinet 2, open cabinet 2, go to countertop 2, go to countertop 1, take mug 1 from countertop 1, "
OTHER = ("Go to the cabinet 1, open the cabinet 1, take apple 2 from cabinet 1. Go to microwave 1 and heat apple 2 "
         "with microwave 1. Then go to countertop 2: put apple 2 in/on countertop 2.")


@pytest.mark.parametrize(("text", "right"), [
    ("\n".join(f"> {command}" for command in EXPERT), True),
    (OTHER, True),  # not the expert's
    (OTHER.upper(), True),
    (f"{SEARCH}and so on was wrong. {OTHER}", True),  # more commands than the 8 turns
    (f"{OTHER} Or {', '.join(EXPERT)}", True),
    ("\n".join((*EXPERT[:4], "examine apple 1", "look", "inventory", "close fridge 1", *EXPERT[4:])), True),
    ("\n".join(EXPERT[:-1]), False),
    ("\n".join(EXPERT[:4] + EXPERT[5:]), False),
    ("\n".join(EXPERT[1:]), False),  # not from the start
    ("\n".join(EXPERT).replace("fridge 1", "fridge 11"), False),
    ("The apple 1 is in fridge 1; heat it with the microwave 1 and put it on a countertop.", False),
    ("Go to fridge 1 first. You open the fridge 1. In it, you see a apple 1.", False),
])
def test_household_wants_commands_that_complete_the_task_from_the_start(text: str, right: bool):
    problem = household_problem(GAME, EXPERT, "train", "easy")
    assert solves(Household("easy"), problem, text) is right


# MBPP

ADD = mbpp_problem("Add.", "def add(a, b):\n    return a + b", ["assert add(1, 2) == 3"], "train", "easy", "easy")


@pytest.mark.parametrize(("text", "right"), [
    ("Write def add(a, b): return a + b", True), ("Better: `def add(a, b): return b + a`.", True),
    ("I had\n```python\ndef add(a, b):\n    return a\n```\nbut now\n```\ndef add(a, b):\n    return a + b\n```", True),
    ("Not\n```python\ndef add(a, b):\n    return a\n```\nbut def add(a, b):\n    return a + b", True),
    ("```python\ndef add(a, b):\n    return a + b\n```\nand never\n```python\ndef add(a, b):\n    return a\n```", True),
    ("```python\nfrom operator import add as f\n```\nand\n```python\ndef add(a, b):\n    return f(a, b)\n```", True),
    ("```python\ndef add(a, b):\n    return a\n```", False), ("return a + b", False), ("assert add(1, 2) == 3", False),
    ("```python\ndef sub(a, b):\n    return a + b\n```", False),
])
def test_mbpp_wants_code_that_passes(text: str, right: bool):
    task = load_task("mbpp")
    try:
        task.settings()  # type: ignore[attr-defined]
    except RrrError as error:
        pytest.skip(str(error))
    assert solves(task, ADD, text) is right
    assert len(list(task.answers_in(ADD, text * 20))) <= 4


# Layout

CATS = layout_problem(
    "two cats left of a dog", [Requirement("count", "cat", 2), Requirement("left", "cat", 1, "dog")],
    [Box("cat", 0, 0, 9, 9), Box("cat", 0, 50, 9, 9), Box("dog", 80, 0, 9, 9)], "train", "full-3")


@pytest.mark.parametrize(("text", "right"), [
    ("cat (0, 0, 9, 9), cat (0, 50, 9, 9) and dog (80, 0, 9, 9)", True),
    ("The cats are a cat (1,1,9,9) and below it a cat (1,60,9,9); the dog (70, 1, 20, 20) is on the right.", True),
    ("I drew a hat (0, 0, 5, 5), and it should be:\ncat (0, 0, 9, 9)\ncat (0, 50, 9, 9)\ndog (80, 0, 9, 9)", True),
    ("<layout> cat (9, 9, 9, 9)</layout> <layout> cat (0, 0, 9, 9) cat (0, 50, 9, 9) dog (80, 0, 9, 9)</layout>", True),
    ("cat (0, 0, 9, 9), dog (80, 0, 9, 9)", False), ("cat (80, 0, 9, 9), cat (80, 50, 9, 9), dog (0, 0, 9, 9)", False),
    ("Put two cats left of the dog.", False),
])
def test_layout_wants_boxes_that_meet_the_caption(text: str, right: bool):
    assert solves(load_task("layout"), CATS, text) is right


# Visual programs and HotpotQA


@pytest.fixture(scope="module")
def counting() -> tuple[Task, Problem, str]:
    """A problem whose reference is an expression of one call within another."""
    task = load_task("visual_programs", "easy")
    problem = next(p for p in task.problems("train") if json.loads(p.reference).startswith("count(filter("))
    return task, problem, json.loads(problem.reference)


def test_visual_programs_want_a_call_or_statements(counting):
    task, problem, reference = counting
    inner = reference.removeprefix("count(").removesuffix(")")
    for text in (reference, f"Use {reference}.", f"answer = {reference}", f"x = {inner}\nanswer = count(x)",
                 f"First x = {inner} and then answer = count( x ) .", f"n = {reference}; so answer = n",
                 f"`{reference}`",
                 f"Not exists({inner}) but {reference}", f"<program>\nx = {inner}\nanswer = count(x)\n</program>"):
        assert solves(task, problem, text) is True, text
    for text in (inner, f"x = {reference}", f"exists({inner})", f"not(exists({inner}))", f"count x where x = {inner}",
                 reference[:-1], "count the things"):
        assert solves(task, problem, text) is False, text


def test_hotpotqa_wants_what_is_said_to_be_the_answer():
    task = load_task("hotpotqa", "easy")
    problem = next(iter(task.problems("train")))
    gold = json.loads(problem.reference)
    for text in (f"{gold} is the answer.", f"So {gold} was the right answer", f"Answer: {gold}", f"Finish[{gold}]"):
        assert solves(task, problem, text) is True, text
    for text in (f"{gold} is not the answer.", f"{gold} answer", gold, f"Search[{gold}]", f"is {gold} the answer"):
        assert solves(task, problem, text) is False, text
