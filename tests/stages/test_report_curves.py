"""rrr report: success against tokens, who earned the repairs, and whether reflections answer."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("matplotlib")
pytest.importorskip("scipy")

from test_report import HOSTILE, Page, evaluations, report, rounded, row, store

from rrr_cli.records import Evaluation, LaterTry, Validation, content_id
from rrr_cli.stages import swapped
from rrr_cli.stages.cross_curves import against_own_tries, in_words, reflector_arms
from rrr_cli.stages.tries import arms_of
from rrr_cli.text import UNSAFE

PARITY = f"{Path(__file__).parent.parent / 'parity_task.py'}:Parity"
ARMS = {"reflect": "second", "blind": "blind", "plain": "plain"}
Tries = dict[tuple[str, str], list[list[tuple[bool, int]]]]  # (model, arm) -> tries of each problem: passed, tokens


def tries(names: tuple[str, ...], n: int = 40, most: int = 5) -> Tries:
    """Arms of which each ends at its first pass; those without reflections are cheaper and have more tries."""
    draw, arms = random.Random(3), {}
    for name in names:
        firsts = [(draw.random() < 0.4, draw.randrange(5, 15)) for _ in range(n)]
        for arm in ARMS:
            arms[name, arm] = [[first] for first in firsts]
            for problem in arms[name, arm]:
                while not problem[-1][0] and len(problem) < (3 if arm == "reflect" else most):
                    problem.append((draw.random() < 0.3, draw.randrange(5, 40 if arm == "reflect" else 15)))
    return arms


def rows_of(arms: Tries, names: tuple[str, ...]) -> tuple[list[Evaluation], list[LaterTry]]:
    """The rows of both tables that say the same. A reflection has 2 tokens."""
    rows, later = [], []
    for name in names:
        for i, ((passed, tokens), *_) in enumerate(arms[name, "reflect"]):
            values: dict[str, Any] = {"first_success": passed, "first_tokens": tokens}
            for arm, column in ARMS.items():
                for number, (success, cost) in enumerate(arms[name, arm][i][1:], 2):
                    reflecting = {"reflection": "x", "reflection_tokens": 2} if arm == "reflect" else {}
                    cost -= 2 * bool(reflecting)
                    if number == 2:
                        values |= {column: "x", f"{column}_success": success, f"{column}_tokens": cost, **reflecting}
                    else:
                        later.append(row(
                            LaterTry, try_id=f"{name}{arm}{i}{number}", problem_id=f"p{i}", model=name, arm=arm,
                            number=number, success=success, tokens=cost, **reflecting))
            rows.append(row(Evaluation, evaluation_id=f"{name}{i}", problem_id=f"p{i}", model=name, **values))
    return rows, later


def solved(problem: list[tuple[bool, int]], k: int) -> bool:
    return any(success for success, _ in problem[:k])


def mean_tokens(problems: list[list[tuple[bool, int]]], k: int) -> float:
    return sum(tokens for problem in problems for _, tokens in problem[:k]) / len(problems)


def equal_tokens(arms: Tries, names: tuple[str, ...]) -> Iterator[tuple[Any, ...]]:
    """Reflecting within n tries against the smallest number of tries of a control that costs as much."""
    for name in names:
        mine = arms[name, "reflect"]
        for n in (2, 3):
            for control in ("blind", "plain"):
                other = arms[name, control]
                k = next((k for k in range(1, 6) if mean_tokens(other, k) >= mean_tokens(mine, n)), 5)
                outcomes = [(solved(a, n), solved(b, k)) for a, b in zip(mine, other, strict=True)]
                yield name, n, control, k, outcomes.count((True, False)), outcomes.count((False, True))


def test_the_first_figure_is_success_against_tokens(rrr, tmp_path):
    names = ("base", "trained")
    arms = tries(names)
    rows, later = rows_of(arms, names)
    store(tmp_path / "run", "evaluations", "eval", rows)
    store(tmp_path / "run", "later_tries", "eval", later)
    figures, text = report(rrr, tmp_path / "run", "-o", tmp_path / "r.html")
    reported = figures["runs"][0]
    assert {(c["model"], c["arm"]): [(p["tries"], p["n"], p["tokens"], p["value"]) for p in c["points"]]
            for c in reported["curves"]} == {
        key: [(k, 40, pytest.approx(mean_tokens(problems, k)), sum(solved(p, k) for p in problems) / 40)
              for k in range(1, max(map(len, problems)) + 1)]
        for key, problems in arms.items()}
    assert [tuple(t[key] for key in ("a", "tries", "control", "control_tries", "won", "lost"))
            for t in reported["at_equal_tokens"]] == list(equal_tokens(arms, names))
    assert {t["reached"] for t in reported["at_equal_tokens"]} == {True, False}
    page = Page(text)
    figure = next(attributes for tag, attributes in page.tags if tag == "svg")
    assert figure["aria-label"] == "run: share solved against mean tokens spent"
    last = reported["curves"][0]["points"][-1]
    assert f"{100 * last['value']:.1f}{100 * last['low']:.1f}–{100 * last['high']:.1f}" in page.shown
    statement = next(sql for sql in page.sql if "from compute_curves order by" in sql)
    pasted = rrr("sql", "--run", tmp_path / "run", "--format", "jsonl", statement)
    assert [json.loads(line)["model"] for line in pasted.out.splitlines()].count("base") == 3 + 5 + 5


def test_a_server_that_counts_no_tokens_has_no_figure(rrr, tmp_path):
    rows, later = rows_of(tries(("base",)), ("base",))
    rows[3] = row(Evaluation, **vars(rows[3]) | {"first_tokens": None})
    store(tmp_path / "run", "evaluations", "eval", rows)
    store(tmp_path / "run", "later_tries", "eval", later)
    reported = report(rrr, tmp_path / "run", "-o", tmp_path / "r.html")[0]["runs"][0]
    assert reported["curves"] == reported["at_equal_tokens"] == []
    assert any(why.startswith("Success against tokens: ") for why in reported["left_out"])


def test_a_try_without_an_answer_counts_as_not_solved(rrr, tmp_path):
    """Of three problems one was never tried again, and the context of one was full."""
    arms: Tries = {("base", arm): [[(False, 4), (True, 6)], [(False, 4), (False, 8)], [(False, 4), (False, 2)]]
                   for arm in ARMS}
    rows, later = rows_of(arms, ("base",))
    rows[2] = row(Evaluation, **vars(rows[2]) | {"blind_tokens": 0})
    later += [row(LaterTry, try_id=f"{arm}{i}", problem_id="p1", model="base", arm=arm, number=i, tokens=9)
              for arm, i in (("plain", 3), ("blind", 3), ("blind", 4))]
    store(tmp_path / "run", "evaluations", "eval", rows)
    store(tmp_path / "run", "later_tries", "eval", later)
    reported = report(rrr, tmp_path / "run", "-o", tmp_path / "r.html")[0]["runs"][0]
    blind = next(c["points"] for c in reported["curves"] if c["arm"] == "blind")
    assert [(p["tries"], p["n"], p["unanswered"]) for p in blind] == [(1, 3, 0), (2, 3, 0), (3, 3, 0), (4, 3, 0)]
    plain = next(c["points"] for c in reported["curves"] if c["arm"] == "plain")
    assert [(p["tries"], p["n"], p["unanswered"]) for p in plain] == [(1, 3, 0), (2, 3, 0), (3, 3, 1)]


@pytest.mark.parametrize("temperature", [1, 0])
def test_curves_and_matrix_are_those_of_eval(rrr, tmp_path, temperature):
    names, flags = ("base", "strong", "other"), []
    for i, name in enumerate(names):
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps({"default": ["odd", "two words"], "rules": [
            ["short explanation", ["nothing", "secret"][: i + 1]], ["secret", ["two words", "two words", "odd"]]]}))
        flags += ["--model", f"{name}={path}"]
    common = ["--run", tmp_path / "run", "--task", PARITY, "--engine", "scripted", "--retry-context", "reflection",
              "--temperature", temperature]
    result = rrr("eval", *common, *flags[:4], "--cross", "--json")
    assert rrr("eval", *common, *flags).code == 0  # the third is crossed with none
    figures, text = report(rrr, tmp_path / "run", "-o", tmp_path / "r.html")
    evaluated, reported = json.loads(result.out), figures["runs"][0]
    for key in {"curves", "at_equal_tokens"} & evaluated.keys():
        own = [entry for entry in reported[key] if entry.get("model", entry.get("a")) != "other"]
        assert rounded(own) == rounded(evaluated[key])
    expected = {key: evaluated["cross"][key] for key in reported["cross"]}
    assert rounded(reported["cross"]) == rounded(expected)
    cell = expected["cells"]["strong"]["base"]
    shown = " ".join(Page(text).shown.split())
    assert f"strong {100 * cell['value']:.1f}{100 * cell['low']:.1f}–{100 * cell['high']:.1f}" in shown
    assert "strong as reflector earned" in shown
    sentences = in_words(evaluated["cross"]["at_equal_tokens"])
    assert len(sentences) == 2 * temperature  # greedy tries are the first one again, and so no controls
    assert all(sentence in shown for sentence in [*sentences, *swapped.in_words(evaluated["cross"]["swapped"])])


def test_crossed_retries_meet_the_actors_own_tries_at_equal_tokens(rrr, tmp_path):
    """Base retries after each other model's reflections. Of one no server counted the tokens."""
    names, draw = ("base", "trained", "uncounted"), random.Random(5)
    rows, later = rows_of(tries(names), names)
    failed = [r.problem_id for r in rows if r.model == "base" and not r.first_success]
    rows = [row(Evaluation, **vars(r) | {"shared_success": False}) if r.problem_id in failed else r for r in rows]
    crossed = [
        row(LaterTry, try_id=content_id(reflector, actor, problem), problem_id=problem, model=actor, arm="cross",
            number=2, reflector=reflector, reflection="x", success=draw.random() < 0.6, tokens=draw.randrange(5, 15),
            reflection_tokens=None if reflector == "uncounted" else draw.randrange(5, 30))
        for reflector in names for actor in names if reflector != actor for problem in failed]
    store(tmp_path / "run", "evaluations", "eval", rows)
    store(tmp_path / "run", "later_tries", "eval", later)
    store(tmp_path / "run", "later_tries", "eval-cross", crossed)
    figures, text = report(rrr, tmp_path / "run", "-o", tmp_path / "r.html")
    arms = reflector_arms([r for r in rows if r.model == "base"], [one for one in crossed if one.model == "base"])
    own = arms_of([r for r in rows if r.model == "base"], [one for one in later if one.model == "base"])
    expected = against_own_tries("base", arms, {arm: own[arm] for arm in ("blind", "plain")})["at_equal_tokens"]
    assert {test["reflector"] for test in expected} == {"trained"}
    assert rounded(figures["runs"][0]["cross"]["at_equal_tokens"]) == rounded(expected)
    statement = next(sql for sql in Page(text).sql if "crossings" in sql)
    pasted = [json.loads(line) for line in rrr(
        "sql", "--run", tmp_path / "run", "--format", "jsonl", statement).out.splitlines()]
    assert [(line["control"], line["won"], line["lost"]) for line in pasted
            if line["model"] == {"reflector": "trained", "actor": "base"}] == [
        (test["control"], test["won"], test["lost"]) for test in expected]


def test_names_of_crossed_models_are_shown_as_text(rrr, tmp_path):
    names = tuple(name + " ".join(HOSTILE) for name in ("base", "trained"))
    rows = evaluations(names, 20)
    store(tmp_path / "run", "evaluations", "eval", rows)
    store(tmp_path / "run", "later_tries", "eval-cross", [
        row(LaterTry, try_id=content_id(r.evaluation_id), problem_id=r.problem_id, model=r.model, arm="cross", number=2,
            reflector=names[r.model == names[0]], success=True) for r in rows if r.shared_success is not None])
    figures, text = report(rrr, tmp_path / "run", "-o", tmp_path / "r.html")
    assert figures["runs"][0]["cross"]["reflectors"] == list(names)
    assert figures["runs"][0]["cross"]["at_equal_tokens"] == []  # no tokens are counted
    assert not UNSAFE.search(text)
    assert "<script" not in text


def test_reflections_that_answer_stand_beside_the_gain(rrr, tmp_path):
    old = evaluations(("base", "trained"))
    rows = [row(Evaluation, **vars(r) | {"solves": None if r.reflection is None else r.problem_id < "8"}) for r in old]
    store(tmp_path / "run", "evaluations", "eval", rows)
    figures, text = report(rrr, tmp_path / "run", "-o", tmp_path / "r.html")
    shown = " ".join(Page(text).shown.split())
    for model in figures["runs"][0]["models"]:
        own = [r for r in rows if r.model == model["name"] and r.reflection is not None]
        passed = [r for r in own if r.second_success]
        gain = 100 * (model["second_try"]["value"] - model["first_try"]["value"])
        assert f"{sum(bool(r.solves) for r in passed)} of {len(passed)} {gain:+.1f}" in shown
        assert f" {100 * sum(bool(r.solves) for r in own) / len(own):.1f}" in shown


@pytest.mark.parametrize("retries", [True, False])
def test_problems_kept_aside_are_shown_step_by_step(rrr, tmp_path, retries):
    rows = [
        row(Validation, step=step, problem_id=f"p{i}", first_success=i < step, generated_tokens=1000 * step, tokens=i,
            second_success=i < 2 * step if retries and i >= step else None)
        for step in (0, 5, 10) for i in range(20)
    ]
    store(tmp_path / "run", "validations", "grpo", rows)
    page = Page(report(rrr, tmp_path / "run", "-o", tmp_path / "r.html")[1])
    titles = [a["aria-label"] for tag, a in page.tags if tag == "svg"]
    assert titles == ["run: problems kept aside, solved by step"]
    shown = " ".join(page.shown.split())
    assert "10 10,000 50.0" in shown
    assert ("100.083.2–100.0" in shown) == retries  # all 20 in two tries at step 10
