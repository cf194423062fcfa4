"""A test problem that is written a little otherwise isn't trained on; one that shares many words is counted."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice

import pytest

from rrr_cli.errors import RrrError
from rrr_cli.records import Message, Problem
from rrr_cli.tasks import load_task
from rrr_cli.training.dataset import check_no_test_prompt
from rrr_cli.training.overlap import overlap

REWRITTEN = {
    "as it is": lambda text: text,
    "other case and spaces": lambda text: f"  {text.upper()}\n\n",
    "hidden characters": lambda text: text.replace(" ", " \u200b\u2060"),
    "full-width digits": lambda text: text.translate({ord(d): ord(d) + 0xFEE0 for d in "0123456789"}),
    "other punctuation": lambda text: text.replace(",", " ;").replace(".", " !"),
    "look-alike letters": lambda text: text.replace("o", "\u043e").replace("a", "\u03b1"),
    "accents, and a glyph's variants": lambda text: text.replace("e", "e\u0301").replace("n", "n\ufe0f"),
    "markdown": lambda text: f"* **{text}**",
    "html": lambda text: text.replace("a", "&#97;"),
    "a hyphen": lambda text: text.replace("using", "us-ing").replace("Using", "Us\u2010ing"),
    "a word more": lambda text: f"Please: {text}",
    "a word less": lambda text: text.replace("equation", "", 1),
}


@pytest.fixture(scope="module")
def countdown() -> tuple[object, list[Problem], Problem]:
    task = load_task("countdown", "easy")
    return task, list(islice(task.problems("train"), 50)), list(islice(task.problems("test"), 9))[8]


def written(problem: Problem, text: str) -> Problem:
    return replace(problem, problem_id="f" * 16, split="train", prompt=[Message("user", text)])


@pytest.mark.parametrize("name", REWRITTEN)
def test_a_rewritten_test_problem_is_refused(countdown, name: str):
    task, trained, test = countdown
    text = REWRITTEN[name](test.prompt[-1].content)
    assert name == "as it is" or text != test.prompt[-1].content
    with pytest.raises(RrrError, match="among the mined problems"):
        check_no_test_prompt([*trained, written(test, text)], task)


@pytest.mark.parametrize(("task", "level"), [("countdown", "easy"), ("function_calling", "easy"), ("mbpp", "easy")])
def test_generated_splits_are_apart(task: str, level: str, capsys: pytest.CaptureFixture[str]):
    loaded = load_task(task, level)
    check_no_test_prompt(islice(loaded.problems("train"), 1500), loaded)
    assert capsys.readouterr().err == ""


def question(text: str, answer: str, id: str) -> Problem:
    return Problem(id, "any", "test", "any", [Message("user", text)], None, answer, "{}")


def test_other_answers_and_other_numbers_are_other_problems():
    test = [question(f"How many apples are {n} and {n} apples?", str(2 * n), str(n)) for n in range(20)]
    trained = [question(f"How many apples are {n} and {n} green apples?", str(2 * n + 1), f"t{n}") for n in range(20)]
    assert overlap(trained, test) == ([], [])
    assert overlap([question("How many apples are 30 and 30 apples?", "60", "t")], test) == ([], [])


def test_thirteen_words_in_a_row_are_near_but_not_the_template():
    template = "Answer the question in one word and write nothing else at all before or after it, please: "
    other = [question(f"{template}{n} {n + 1} {n + 2}", str(n), str(n)) for n in range(20)]
    story = "once a hungry grey wolf met seven tired red foxes near some old mill whose roof leaked"
    test = [*other, question(f"{template}{story}", "wolf", "x")]
    same, near = overlap([question(f"{template}{story} and why did they leave so early", "rain", "t")], test)
    assert (same, [problem.problem_id for problem in near]) == ([], ["x"])
    assert overlap([question(f"{template}{' '.join(story.split()[:12])} and bears", "rain", "t")], test) == ([], [])


def test_near_problems_are_counted_on_stderr(capsys: pytest.CaptureFixture[str]):
    story = "once a hungry grey wolf met seven tired red foxes near some old mill"

    class Stories:
        def problems(self, split: str):
            yield from [question(f"{n} {n}", str(n), str(n)) for n in range(9)]
            yield question(story, "wolf", "x")

    check_no_test_prompt([question(f"{story} and left", "rain", "t")], Stories())
    assert "1 of 10 test problems share 13 words in a row" in capsys.readouterr().err


@pytest.mark.parametrize(("one", "other"), [
    ("Zo\u00eb\u2019s well-known caf\u00e9 sold 1,200 rolls", "Zoe's well known cafe sold 1200 rolls"),
    ("3\u00bd m\u00b2 \u00d7 2 \u2212 1", "3 1/2 m^2 x 2 - 1"), ("don\u2019t", "dont"),
])
def test_spellings_of_one_problem_are_the_same(one: str, other: str):
    test = [question(one, "1", "a"), question("Something else entirely", "2", "b")]
    assert overlap([question(other, "other", "t")], test)[0] == test[:1]


@pytest.mark.parametrize(("one", "other"), [
    ("10\u00b2 + 1", "102 + 1"), ("5 - 3", "5 + 3"), ("[1, 23]", "[12, 3]"), ("2 * 3", "2 / 3"), ("-5", "5"),
    ("25, 100", "25100")])
def test_other_sums_are_other_problems(one: str, other: str):
    test = [question(f"What is {one}?", "1", "a"), question("Something else entirely", "2", "b")]
    assert overlap([question(f"What is {other}?", "other", "t")], test)[0] == []
