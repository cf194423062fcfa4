"""rrr eval --tries: later tries, their curves of success against tokens, and the tests at equal tokens."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("scipy")

from rrr_cli.records import Evaluation, LaterTry
from rrr_cli.stages.curve_tables import against_table
from rrr_cli.stages.curves import curve_summary
from rrr_cli.store.artifacts import Writer, part_paths, read
from rrr_cli.store.database import answer, connect

TESTS = Path(__file__).parent.parent
PARITY = f"{TESTS / 'parity_task.py'}:Parity"
REFLECTION = "count the words"
ARMS = ("reflect", "plain", "blind")


@pytest.fixture
def scripted(tmp_path: Path) -> list[object]:
    """A model that passes in a sixth of its tries, and reflects at the length of many."""
    script = tmp_path / "script.json"
    script.write_text(json.dumps({"default": ["yes", "no", "no yes no", "yes", "no", "yes no"],
                                  "rules": [["Reflect", REFLECTION]]}))
    return ["--task", PARITY, "--engine", "scripted", "--model", f"base={script}"]


@pytest.fixture
def counting(tmp_path: Path) -> list[object]:
    return ["--run", tmp_path / "run", "--task", PARITY, "--engine", f"{TESTS / 'counting_engine.py'}:Counting",
            "--model", f"base={tmp_path}", "--limit", 3]


def evaluate(rrr: Any, *arguments: object) -> dict[str, Any]:
    ran = rrr("eval", *arguments, "--json")
    assert ran.code == 0, ran.err
    return json.loads(ran.out)


def rows(run: Path) -> dict[str, LaterTry]:
    by_id = {row.try_id: row for row in read(run, "later_tries")}
    assert len(by_id) == sum(1 for _ in read(run, "later_tries"))
    return by_id


def points(result: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    return {curve["arm"]: curve["points"] for curve in result["curves"]}


def test_each_text_has_its_tokens(rrr, scripted, tmp_path):
    evaluate(rrr, "--run", tmp_path / "run", *scripted, "--limit", 6)
    texts = dict.fromkeys(("first", "reflection", "second", "blind", "plain", "shared_reflection", "shared_retry"), 0)
    for row in read(tmp_path / "run", "evaluations"):
        for name in texts:
            text, tokens = getattr(row, name), getattr(row, f"{name}_tokens")
            assert tokens == (None if text is None else len(text.split()) + 1)
            texts[name] += text is not None
        assert (row.solves, row.shared_solves) == ((None, None) if row.first_success else (False, False))
    assert all(texts.values())


def test_controls_stop_when_they_have_spent_as_many_tokens(rrr, scripted, tmp_path):
    result = evaluate(rrr, "--run", tmp_path / "run", *scripted, "--tries", 3)
    curves = points(result)
    assert len(curves["reflect"]) == 3
    target = curves["reflect"][-1]["tokens"]
    for control in ("plain", "blind"):
        spent = [point["tokens"] for point in curves[control]]
        assert len(spent) > 3
        assert spent[-2] < target
        assert target <= spent[-1] or curves[control][-1]["value"] == 1.0, "or nothing is left to solve"
    ended: set[tuple[str, str]] = set()
    for row in sorted(rows(tmp_path / "run").values(), key=lambda row: row.number):
        assert (row.arm, row.problem_id) not in ended, "an arm ends at its first pass"
        assert (row.reflection is not None) == (row.arm == "reflect") == (row.reflector == "base")
        if row.success:
            ended.add((row.arm, row.problem_id))
    tests = {(t["tries"], t["control"]): t for t in result["at_equal_tokens"]}
    assert set(tests) == {(n, control) for n in (2, 3) for control in ("plain", "blind")}
    for (n, control), test in tests.items():
        reflecting, spent = curves["reflect"][n - 1], [point["tokens"] for point in curves[control]]
        assert test["tokens"] == reflecting["tokens"]
        assert test["control_tries"] == next(
            (k for k, t in enumerate(spent, 1) if t >= reflecting["tokens"]), len(spent))
        assert test["reached"] == (spent[test["control_tries"] - 1] >= reflecting["tokens"])
        assert test["won"] - test["lost"] == test["solved"] - test["control_solved"]


def test_any_way_to_the_same_tries_gives_the_same_rows(rrr, scripted, tmp_path):
    once, bit_by_bit = tmp_path / "once", tmp_path / "bit"
    whole = evaluate(rrr, "--run", once, *scripted, "--tries", 4)
    evaluate(rrr, "--run", bit_by_bit, *scripted)
    assert 0 < len(rows(bit_by_bit)) < len(rows(once))
    assert rows(bit_by_bit).items() <= rows(once).items()
    assert evaluate(rrr, "--run", bit_by_bit, *scripted, "--tries", 4, "--part", 3) == whole
    assert rows(bit_by_bit) == rows(once)
    assert list(read(bit_by_bit, "evaluations")) == list(read(once, "evaluations"))
    parts = part_paths(bit_by_bit, "later_tries")
    for lost in (parts[-1], parts[2]):  # as if killed within a wave; and one in the middle
        lost.unlink()
        assert evaluate(rrr, "--run", bit_by_bit, *scripted, "--tries", 4, "--part", 3) == whole
        assert rows(bit_by_bit) == rows(once)
    before = len(part_paths(bit_by_bit, "later_tries"))
    fewer = evaluate(rrr, "--run", bit_by_bit, *scripted, "--tries", 2)
    assert {t["tries"] for t in fewer["at_equal_tokens"]} == {2}
    assert len(part_paths(bit_by_bit, "later_tries")) == before


def test_a_later_try_is_shown_all_earlier_ones(rrr, counting, tmp_path):
    result = evaluate(rrr, *counting, "--tries", 3)
    shown: dict[str, dict[int, set[Any]]] = {arm: {} for arm in ARMS}
    for row in rows(tmp_path / "run").values():
        shown[row.arm].setdefault(row.number, set()).add((row.reflection, row.text))
    assert shown["reflect"] == {3: {("7", "9")}}
    assert shown["plain"] == {3: {(None, "5")}, 4: {(None, "7")}, 5: {(None, "9")}}
    assert shown["blind"] == {k: {(None, "1")} for k in (3, 4, 5)}
    assert [point["tokens"] for point in points(result)["reflect"]] == [1, 3, 5]


def test_with_the_reflection_alone_earlier_tries_are_left_out(rrr, counting, tmp_path):
    evaluate(rrr, *counting, "--tries", 3, "--retry-context", "reflection", "--temperature", 0)
    assert {(row.arm, row.reflection, row.text) for row in rows(tmp_path / "run").values()} == {("reflect", "3", "1")}


def test_greedy_there_is_no_blind_arm(rrr, counting, tmp_path):
    result = evaluate(rrr, *counting, "--temperature", 0)
    assert set(points(result)) == {"reflect", "plain"}
    gated = rrr("eval", *counting, "--temperature", 0, "--fail-under", "over_blind=0.1")
    assert gated.code == 5
    assert "the temperature is 0" in gated.err
    assert {row.arm for row in rows(tmp_path / "run").values()} == {"plain"}


def test_an_unanswered_later_try_is_asked_again(rrr, counting, tmp_path):
    (tmp_path / "refuse").write_text("7")  # messages of the reflection before try 3, and of try 4 without reflections
    first = rrr("eval", *counting, "--tries", 3, "--json")
    assert first.code == 0, first.err
    assert "3 of 3 problems have no further answer (filtered)" in first.err
    result = json.loads(first.out)
    assert result["refused_later"] == 3
    assert [point["n"] for point in points(result)["reflect"]] == [3, 3]
    assert {(row.arm, row.number) for row in rows(tmp_path / "run").values()} == {("plain", 3), ("blind", 3)}
    (tmp_path / "refuse").unlink()
    again = evaluate(rrr, *counting, "--tries", 3)
    assert "refused_later" not in again
    assert len(points(again)["reflect"]) == 3
    assert again == evaluate(rrr, *counting, "--tries", 3, "--overwrite")


def test_without_token_counts_there_is_no_curve(rrr, counting, tmp_path):
    counting[5] = str(counting[5]).replace(":Counting", ":Uncounting")
    ran = rrr("eval", *counting, "--tries", 3, "--json")
    result = json.loads(ran.out)
    assert result["curves"] == result["at_equal_tokens"] == []
    assert " ".join(ran.err.split()).count("the server counts no tokens") == 1
    assert "at an equal number of tries" in " ".join(ran.err.split())
    assert {row.number for row in rows(tmp_path / "run").values()} == {3}
    assert view(tmp_path / "run") == []


def test_each_further_try_of_an_environment_is_an_episode(rrr, tmp_path):
    script = tmp_path / "player.json"
    script.write_text(json.dumps({"default": ["1", "2", "3"], "rules": [["Reflect", "Halve what is left of it."]]}))
    flags = ["--task", f"{TESTS / 'guessing_task.py'}:Guessing", "--engine", "scripted", "--model", f"base={script}"]
    result = evaluate(rrr, "--run", tmp_path / "a", *flags, "--tries", 3)
    assert evaluate(rrr, "--run", tmp_path / "b", *flags, "--part", 9)["curves"] != result["curves"]
    assert evaluate(rrr, "--run", tmp_path / "b", *flags, "--part", 9, "--tries", 3) == result
    assert rows(tmp_path / "a") == rows(tmp_path / "b")
    tried = [row for row in rows(tmp_path / "a").values() if row.arm == "reflect"]
    assert {row.number for row in tried} == {3}
    assert all(len(row.turns or ()) == 5 for row in tried if not row.success)
    assert any(row.success for row in tried)


def test_tries_can_be_a_gate(rrr, scripted, tmp_path):
    gate = ("eval", "--run", tmp_path / "run", *scripted, "--tries", 3, "--json", "--fail-under")
    result = json.loads(rrr(*gate, "within_tries=0.01").out)
    last = next(t for t in result["at_equal_tokens"] if (t["tries"], t["control"]) == (3, "plain"))
    share = result["within_tries"][0]["value"]
    assert share == points(result)["reflect"][2]["value"]
    assert rrr(*gate, f"within_tries={share + 0.001}").code == 5
    assert rrr(*gate, "over_plain=0").code == (5 if last["won"] < last["lost"] else 0)
    assert rrr(*gate, "over_plain=1").code == 5


# By hand ---------------------------------------------------------------------------------------------------------


def record(kind: type, **values: Any) -> Any:
    plain: dict[str, Any] = {"str": "x", "int": 1, "float": 1.0, "bool": False}
    return kind(**{f.name: plain.get(str(f.type)) for f in fields(kind)} | values)


def evaluation(problem: str, first: bool, second: bool = False, blind: bool = False, **more: Any) -> Evaluation:
    """First tries of 10 tokens, reflections of 20, other tries of 5; a plain retry never passes."""
    values: dict[str, Any] = {"first_success": first, "first_tokens": 10}
    if not first:
        values |= {"reflection": "r", "reflection_tokens": 20, "solves": second, "shared_reflection": "r",
                   "shared_solves": False, "shared_success": second}
        for arm, passed in {"second": second, "blind": blind, "plain": False}.items():
            values |= {arm: "t", f"{arm}_success": passed, f"{arm}_tokens": 5}
    return record(Evaluation, evaluation_id=problem, problem_id=problem, model="m", **values | more)


def later(problem: str, arm: str, number: int, success: bool, tokens: int = 5) -> LaterTry:
    reflection = {"reflection": "r", "reflection_tokens": 20} if arm == "reflect" else {}
    return record(LaterTry, try_id=f"{problem} {arm} {number}", problem_id=problem, model="m", arm=arm, number=number,
                  success=success, tokens=tokens, **reflection)


@pytest.fixture
def tables() -> tuple[list[Evaluation], list[LaterTry]]:
    """a passes at once, b after a reflection, c with blind try 3, d never, and its plain tries leave no room."""
    evaluations = [evaluation("a", True), evaluation("b", False, second=True), evaluation("c", False),
                   evaluation("d", False)]
    tries = [later("b", "blind", 3, False), later("b", "blind", 4, False), later("b", "blind", 5, False),
             later("c", "blind", 3, True), later("d", "blind", 3, False), later("d", "blind", 4, False),
             later("b", "plain", 3, False), later("c", "plain", 3, False), later("d", "plain", 3, False, tokens=0),
             later("b", "plain", 4, False), later("c", "reflect", 3, False)]  # d has no answer to its third
    return evaluations, tries


def view(run: Path) -> list[dict[str, Any]]:
    sql = "select * exclude (run, model) from compute_curves order by arm, k"
    return answer(connect([run]), sql).read_all().to_pylist()


def test_the_curve_of_a_table_made_by_hand(tables):
    result = curve_summary(*tables, ["m"], 3)
    assert {arm: [(p["tries"], p["n"], p["value"], p["tokens"]) for p in of] for arm, of in points(result).items()} == {
        "reflect": [(1, 4, 0.25, 10), (2, 4, 0.5, 10 + 3 * 25 / 4), (3, 4, 0.5, 10 + 4 * 25 / 4)],
        "plain": [(1, 4, 0.25, 10), (2, 4, 0.25, 10 + 15 / 4), (3, 4, 0.25, (10 + 20 + 20 + 15) / 4),
                  (4, 4, 0.25, (10 + 25 + 20 + 15) / 4)],  # c has no fourth; that of d would have no room
        "blind": [(1, 4, 0.25, 10), (2, 4, 0.25, 10 + 15 / 4), (3, 4, 0.5, 10 + 30 / 4),
                  (4, 4, 0.5, (10 + 25 + 20 + 25) / 4), (5, 4, 0.5, (10 + 30 + 20 + 25) / 4)],
    }
    tests = {t["measure"]: t for t in (*result["at_equal_tokens"], *result["at_equal_tries"])}
    equal = tests["second_try over blind at equal tokens"]
    assert (equal["control_tries"], equal["reached"], equal["n"]) == (5, False, 4)
    assert (equal["won"], equal["lost"], equal["p"]) == (1, 1, 1.0)
    equal = tests["second_try over blind at equal tries"]
    assert (equal["won"], equal["lost"], equal["n"], equal["control_tries"]) == (1, 0, 4, 2)
    (solves,) = result["solves"]
    own, shared = solves["own"], solves["shared"]
    assert (own["n"], own["solving"], own["passed"], own["passed_after_solving"]) == (3, 1, 1, 1)
    assert (shared["n"], shared["solving"], shared["passed"], shared["passed_after_solving"]) == (3, 0, 1, 0)


def test_a_control_that_ended_early_is_marked_at_equal_tokens_alone(tables):
    result = curve_summary(*tables, ["m"], 3)
    shown = {equal: [list(column.cells) for column in against_table("", result[f"at_equal_{equal}"]).columns]
             for equal in ("tokens", "tries")}
    starred = {equal: [cell.endswith("*") for cell in columns[4]] for equal, columns in shown.items()}
    assert starred["tokens"] == [not test["reached"] for test in result["at_equal_tokens"]]
    assert any(starred["tokens"])
    assert not any(starred["tries"])


def test_the_view_has_the_numbers_of_the_curves(tables, tmp_path):
    for name, stored in zip(("evaluations", "later_tries"), tables, strict=True):
        with Writer(tmp_path, name, "eval", {}) as writer:
            writer.append(stored)
    curves = points(curve_summary(*tables, ["m"], 3))
    expected = [
        {"arm": arm, "k": p["tries"], "n": p["n"], "solved": round(p["value"] * p["n"]),
         "share": pytest.approx(p["value"]), "tokens": pytest.approx(p["tokens"]), "unanswered": p["unanswered"]}
        for arm in sorted(curves) for p in curves[arm]
    ]
    assert view(tmp_path) == expected
    tried = answer(connect([tmp_path]), "select arm, count(*) as n from tries group by arm order by arm").read_all()
    assert tried.to_pylist() == [{"arm": "blind", "n": 13}, {"arm": "plain", "n": 11}, {"arm": "reflect", "n": 8}]
