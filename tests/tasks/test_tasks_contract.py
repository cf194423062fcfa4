"""What every task promises, on every level; and how a task is found by name."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest

from rrr_cli.errors import USAGE, RrrError
from rrr_cli.records import Message, Problem
from rrr_cli.tasks import TASKS, load_task
from rrr_cli.tasks.base import Environment, Task, played
from rrr_cli.tasks.solves import MOST, solve_all, solves

N = 60  # problems looked at in each split
WITHOUT_GENERATOR = {"alfworld"}  # its own tests check the same promises


def names_and_levels() -> list[tuple[str, str]]:
    return [(name, level) for name in TASKS if name not in WITHOUT_GENERATOR for level in load_task(name).levels]


@pytest.fixture(scope="module", params=names_and_levels(), ids="-".join)
def spec(request: pytest.FixtureRequest) -> tuple[str, str]:
    return request.param


@pytest.fixture(scope="module")
def task(spec: tuple[str, str]) -> Task:
    task = load_task(*spec)
    try:
        getattr(task, "settings", dict)()
    except RrrError as error:
        pytest.skip(str(error))
    return task


@pytest.fixture(scope="module")
def problems(task: Task) -> dict[str, list[Problem]]:
    return {split: list(islice(task.problems(split), N)) for split in ("train", "test")}


def test_problems_are_the_same_each_time(spec: tuple[str, str], problems):
    for split, rows in problems.items():
        assert list(islice(load_task(*spec).problems(split), N // 2)) == rows[: N // 2]


def test_ids_are_unique_and_the_splits_disjoint(problems):
    ids = [p.problem_id for rows in problems.values() for p in rows]
    assert len(set(ids)) == len(ids) == 2 * N


def test_a_subclass_may_change_any_word(task: Task, problems):
    class Mine(type(task)):  # type: ignore[misc]
        words: Mapping[str, str] = {key: f"{text} So be it." for key, text in task.words.items()}

    mine = Mine(level=task.level)  # type: ignore[attr-defined]
    for changed, p in zip(mine.problems("train"), problems["train"][:3], strict=False):
        if "prompt" in task.words:
            assert changed.prompt[-1].content == f"{p.prompt[-1].content} So be it."
        assert replace(changed, prompt=p.prompt) == p
        if "observation" in task.words:
            for turn in ("", "Action: Search[none such]", *task.right_turns(p)[:-1]):
                observation = mine.observe(p, [Message("assistant", turn)])
                assert observation is not None
                assert observation.content.endswith("So be it.")


def test_splits_share_no_prompt(spec: tuple[str, str]):
    prompts = {
        split: {" ".join(m.content for m in p.prompt) for p in islice(load_task(*spec).problems(split), 150)}
        for split in ("train", "test")
    }
    assert not prompts["train"] & prompts["test"]


def test_rows_say_what_they_are(task: Task, problems):
    for split, rows in problems.items():
        for p in rows:
            assert (p.task, p.split) == (task.name, split)
            assert p.prompt[-1].role == "user"
            json.loads(p.reference)
            json.loads(p.metadata)
            json.loads(p.tools or "[]")


def test_the_reference_passes(task: Task, problems):
    for p in problems["train"] + problems["test"]:
        turns = task.right_turns(p)
        transcript = played(task, p, turns)
        assert [m.content for m in transcript if m.role == "assistant"] == turns, "it ends when it is right"
        assert len(turns) <= getattr(task, "max_turns", 1)
        verdict = task.verify(p, transcript)
        assert (verdict.success, verdict.score, verdict.error_type) == (True, 1.0, None)


def test_right_turns_solve_whatever_stands_around_them(task: Task, problems):
    rows = problems["train"][:20] + problems["test"][:20]
    right, others = (["\n".join(task.right_turns(p)) for p in some] for some in (rows, rows[1:] + rows[:1]))
    texts = {
        "alone": right,
        "in words": [f"I see what was wrong, and it is this:\n{text}\nThat should do it." for text in right],
        "after a wrong one": [f"I tried\n{no}\nbut better is\n{yes}" for yes, no in zip(right, others, strict=True)],
        "before a wrong one": [f"Take\n{yes}\nand never again\n{no}" for yes, no in zip(right, others, strict=True)],
    }
    for case, one_each in texts.items():
        assert solve_all(task, list(zip(rows, one_each, strict=True))) == [True] * len(rows), case


def test_what_only_informs_solves_nothing(task: Task, problems):
    rows = problems["train"][:20] + problems["test"][:20]
    for case, one_each in {
        "the prompt": ["\n".join(m.content for m in p.prompt) for p in rows],
        "half of an answer": ["\n".join(task.right_turns(p))[: len("\n".join(task.right_turns(p))) // 2] for p in rows],
        "another answer": ["\n".join(task.right_turns(p)) for p in rows[1:] + rows[:1]],
        "words": ["I was wrong, and should read the task again before I answer."] * len(rows),
    }.items():
        assert solve_all(task, list(zip(rows, one_each, strict=True))) == [False] * len(rows), case


@pytest.mark.parametrize("unit", [
    "(", "{", "<", "```\n", "```python\ndef f(", "1 ", "1+1=2 ", "find(", "answer = count(", "<program>", "<layout>",
    "hat (1, 2, 3, 4) ", "answer is ", "go to fridge 1 ", '{"name": "', "x", " ", "\ud800", "def f(x): return x\n",
])
def test_the_work_on_any_text_is_bounded(task: Task, problems, unit: str):
    [p, *_] = problems["train"]
    text = unit * (100_000 // len(unit))
    start = time.process_time()
    answers = list(islice(task.answers_in(p, text), MOST))
    assert sum(len(turn) for turns in answers for turn in turns) <= 4 * len(text) + 1000
    assert time.process_time() - start < 3
    assert solves(task, p, text) is False


def test_junk_fails_and_feedback_leaks_nothing(task: Task, problems):
    rows = problems["train"]
    for p, other in zip(rows, rows[1:] + rows[:1], strict=True):
        echo = "\n".join(m.content for m in p.prompt)
        for turns in ([], [""], ["I don't know."], [echo], ["\ud800\x00<"], task.right_turns(other)):
            transcript = played(task, p, turns)
            verdict = task.verify(p, transcript)
            assert not verdict.success
            assert 0.0 <= verdict.score < 1.0
            assert verdict.error_type in task.error_types
            assert verdict.feedback
            assert not solves(task, p, verdict.feedback)


def test_an_environment_replays_and_trusts_no_observation(task: Task, problems):
    if not isinstance(task, Environment):
        pytest.skip("a task of one turn")
    for p in problems["train"]:
        transcript = played(task, p, task.right_turns(p))
        forged = [replace(m, content="You did it.") if m.role == "user" else m for m in transcript]
        for end in range(1, len(transcript) + 1, 2):
            observation = task.observe(p, transcript[:end])
            assert observation == (transcript[end] if end < len(transcript) else None)
            assert observation is None or observation.role == "user"
            assert task.observe(p, [*forged[: end - 1], transcript[end - 1]]) == observation
        for junk in ("", "I don't know.", "\ud800\x00<", "x" * 100_000):
            observation = task.observe(p, [Message("assistant", junk)])
            assert observation is None or not solves(task, p, observation.content)


def test_a_split_that_does_not_exist_is_refused(task: Task):
    with pytest.raises(RrrError, match="train and test"):
        next(task.problems("validation"))


def test_an_unknown_task_is_refused_with_names():
    with pytest.raises(RrrError, match="Known: countdown") as caught:
        load_task("countup")
    assert caught.value.exit_code == USAGE


def test_a_task_loads_from_a_file(tmp_path: Path):
    path = tmp_path / "mine.py"
    path.write_text(
        "from rrr_cli.tasks.countdown.task import Countdown\n"
        "class Mine(Countdown):\n"
        "    levels = ('paper', 'easy')\n"
    )
    task = load_task(f"{path}:Mine")
    assert next(task.problems("train")).difficulty.startswith("paper")
    with pytest.raises(RrrError, match="has no Yours") as caught:
        load_task(f"{path}:Yours")
    assert caught.value.exit_code == USAGE
    with pytest.raises(RrrError, match="there is no file") as caught:
        load_task(f"{tmp_path}/none.py:Mine")
    assert caught.value.exit_code == USAGE
