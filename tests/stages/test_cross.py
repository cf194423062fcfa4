"""rrr eval --cross: every model retries after every model's reflection on the same failures.

Two models with random weights, or scripts of which one knows what to reflect.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("scipy")

from parity_task import Parity

from rrr_cli.metrics import difference, mean_difference
from rrr_cli.records import LaterTry
from rrr_cli.stages.cross import in_words, matrix
from rrr_cli.store.artifacts import part_paths, read

TESTS = Path(__file__).parent.parent
PARITY, GUESSING = f"{TESTS / 'parity_task.py'}:Parity", f"{TESTS / 'guessing_task.py'}:GuessingEasily"


@pytest.fixture
def flags(tmp_path, random_model, random_adapter) -> list[object]:
    return ["--run", tmp_path / "run", "--task", PARITY, "--max-tokens", 8, "--reflection-tokens", 10, "--model",
            f"base={random_model}", "--model", f"trained={random_adapter}"]


def crossed(rrr, *flags) -> dict[str, object]:
    result = rrr("eval", *flags, "--cross", "--json")
    assert result.code == 0, result.err
    return json.loads(result.out)["cross"]


def script(path: Path, reflection: str) -> Path:
    """A model that fails, writes `reflection`, and passes after the reflection "secret"."""
    path.write_text(json.dumps({
        "default": "odd", "rules": [["short explanation", reflection], ["secret", "two words"]]}))
    return path


def test_each_model_retries_after_each_others_reflection(rrr, flags, tmp_path):
    cross = crossed(rrr, *flags)
    rows = {(r.model, r.problem_id): r for r in read(tmp_path / "run", "evaluations")}
    failed = {p for (model, p), r in rows.items() if model == "base" and not r.first_success}
    later = list(read(tmp_path / "run", "later_tries", {"arm": "cross"}))
    assert cross["n"] == len(failed) > 0
    assert Counter((r.reflector, r.model) for r in later) == {
        ("base", "trained"): len(failed), ("trained", "base"): len(failed)}
    for row in later:
        assert (row.arm, row.number) == ("cross", 2)
        assert row.reflection == rows[row.reflector, row.problem_id].shared_reflection
        assert row.success == (len(row.text.split()) % 2 == 0)
        assert 0 < row.tokens <= 8
    own = [r.shared_success for (model, p), r in rows.items() if model == "trained" and p in failed]
    assert cross["cells"]["trained"]["trained"]["value"] == pytest.approx(sum(own) / len(failed))
    other = [r.success for r in later if r.model == "trained"]
    assert cross["cells"]["base"]["trained"]["value"] == pytest.approx(sum(other) / len(failed))
    assert rrr("eval", *flags[:-2], "--cross").code == 2  # one model


def test_the_effects_say_who_earned_it(rrr, tmp_path):
    # `strong` reflects with a word that both act on; as an actor it is no better.
    weak, strong = script(tmp_path / "weak.json", "nothing"), script(tmp_path / "strong.json", "secret")
    flags = ["--run", tmp_path / "run", "--task", PARITY, "--engine", "scripted", "--retry-context", "reflection",
             "--model", f"base={weak}", "--model", f"strong={strong}", "--cross"]
    result = rrr("eval", *flags, "--json")
    cross = json.loads(result.out)["cross"]
    values = {r: {a: cell["value"] for a, cell in row.items()} for r, row in cross["cells"].items()}
    assert values == {"base": {"base": 0.0, "strong": 0.0}, "strong": {"base": 1.0, "strong": 1.0}}
    reflector, actor = cross["tests"]
    assert (reflector["difference"]["value"], reflector["won"], reflector["lost"]) == (1.0, 10, 0)
    assert reflector["p"] == pytest.approx(2 * 0.5**10)
    assert (actor["difference"]["value"], actor["won"], actor["lost"], actor["p"]) == (0.0, 0, 0, 1.0)
    shown = rrr("eval", *flags).err
    assert "strong as reflector earned +100.0 points" in " ".join(shown.split())


def test_a_frozen_actors_reflector_meets_the_actors_own_tries_at_equal_tokens(rrr, tmp_path):
    # The actor passes after what `strong` writes, and never by itself: its own tries spend as much and solve nothing.
    weak, strong = script(tmp_path / "weak.json", "nothing"), script(tmp_path / "strong.json", "secret " * 30)
    flags = ["--run", tmp_path / "run", "--task", PARITY, "--engine", "scripted", "--retry-context", "reflection",
             "--temperature", 1, "--model", f"base={weak}", "--model", f"strong={strong}", "--cross"]
    cross = crossed(rrr, *flags[:-1])
    blind = {test["control"]: test for test in cross["at_equal_tokens"]}["blind"]
    assert (blind["reflector"], blind["a"], blind["solved"], blind["control_solved"]) == ("strong", "base", 10, 0)
    assert blind["reached"]
    assert blind["control_tries"] > 3
    assert blind["p"] == pytest.approx(2 * 0.5**10)
    points = cross["curves"][0]["points"]
    assert [(point["tries"], point["value"]) for point in points] == [(1, 0.0), (2, 1.0)]
    shown = " ".join(rrr("eval", *flags).err.split())
    assert "strong reflects, base retries, at equal tokens: a second try after a reflection beats" in shown


def test_a_resumed_cross_has_the_same_rows(rrr, flags, tmp_path):
    whole = crossed(rrr, *flags)
    rows = list(read(tmp_path / "run", "later_tries", {"arm": "cross"}))
    assert crossed(rrr, *flags) == whole
    assert list(read(tmp_path / "run", "later_tries", {"arm": "cross"})) == rows
    part_paths(tmp_path / "run", "later_tries")[-1].unlink()
    assert crossed(rrr, *flags, "--part", 3, "--batch-size", 2) == whole
    again = {r.try_id: r for r in read(tmp_path / "run", "later_tries", {"arm": "cross"})}
    assert again == {r.try_id: r for r in rows}


def test_swapped_reflections_are_about_another_failure(rrr, flags, tmp_path):
    def swapped() -> dict[str, LaterTry]:
        return {r.try_id: r for r in read(tmp_path / "run", "later_tries", {"arm": "swapped"})}

    crossed(rrr, *flags, "--limit", 6)
    before = swapped()
    cross = crossed(rrr, *flags)  # more problems change no row
    after = swapped()
    assert before.items() < after.items()
    rows = {(r.model, r.problem_id): r for r in read(tmp_path / "run", "evaluations")}
    failed = {p for (model, p), r in rows.items() if model == "base" and not r.first_success}
    assert Counter((r.reflector, r.model) for r in after.values()) == dict.fromkeys(
        [("base", "base"), ("trained", "base"), ("trained", "trained")], len(failed))
    for row in after.values():
        others = {rows[row.reflector, p].shared_reflection for p in failed - {row.problem_id}}
        assert row.reflection in others
        assert row.solves is None
    own = {p: rows["base", p].second_success for p in failed}
    other = {r.problem_id: r.success for r in after.values() if (r.reflector, r.model) == ("base", "base")}
    test = cross["swapped"][0]
    assert (test["reflector"], test["actor"], test["n"]) == ("base", "base", len(failed))
    assert (test["own"]["value"], test["swapped"]["value"]) == pytest.approx(
        (sum(own.values()) / len(failed), sum(other.values()) / len(failed)))
    assert (test["won"], test["lost"]) == (
        sum(own[p] and not other[p] for p in failed), sum(other[p] and not own[p] for p in failed))


def test_general_advice_helps_as_much_where_it_is_about_another_failure(rrr, tmp_path):
    weak, strong = script(tmp_path / "weak.json", "nothing"), script(tmp_path / "strong.json", "secret")
    flags = ["--run", tmp_path / "run", "--task", PARITY, "--engine", "scripted", "--retry-context", "reflection",
             "--model", f"base={weak}", "--model", f"strong={strong}", "--cross"]
    rates = {(t["reflector"], t["actor"]): (t["own"]["value"], t["swapped"]["value"], t["p"])
             for t in crossed(rrr, *flags[:-1])["swapped"]}
    assert rates == {("base", "base"): (0.0, 0.0, 1.0), ("strong", "base"): (1.0, 1.0, 1.0),
                     ("strong", "strong"): (1.0, 1.0, 1.0)}
    shown = " ".join(rrr("eval", *flags).err.split())
    assert "strong reflects, base retries: 100.0 % of 10 failures repaired, and 100.0 % after the reflection" in shown


def test_a_single_failure_of_a_level_has_no_other(rrr, flags):
    assert crossed(rrr, *flags, "--limit", 1)["swapped"] == []


def test_a_replaced_evaluation_drops_its_crossed_retries(rrr, flags, tmp_path):
    crossed(rrr, *flags)
    assert rrr("eval", *flags, "--overwrite", "--seed", 3).code == 0
    assert list(read(tmp_path / "run", "later_tries", {"arm": "cross"})) == []
    assert crossed(rrr, *flags, "--seed", 3)["n"] > 0


def test_several_turns_are_crossed(rrr, flags, tmp_path):
    flags[flags.index(PARITY)] = GUESSING
    cross = crossed(rrr, *flags, "--limit", 12)
    later = list(read(tmp_path / "run", "later_tries", {"arm": "cross"}))
    assert len(later) == 2 * cross["n"] > 0
    assert all(len(r.turns) > 1 and r.text.startswith(r.turns[0].content) for r in later)


def test_a_problem_without_all_retries_is_left_out():
    problems = [p.problem_id for p in Parity().problems("test")]
    cells = {(r, a): dict.fromkeys(problems, r == "b") for r in "ab" for a in "ab"}
    del cells["a", "b"][problems[0]]
    assert matrix("ab", cells)["n"] == 9
    cells["a", "b"] = {}
    empty = matrix("ab", cells)
    assert (empty["n"], empty["tests"], empty["cells"]["a"]["b"], in_words(empty)) == (0, [], None, [])


def test_a_mean_difference_of_ones_and_zeros_is_the_paired_difference():
    exact, other = difference(5, 2, 12), mean_difference([1.0] * 5 + [-1.0] * 2 + [0.0] * 5)
    assert (other.value, other.low, other.high) == pytest.approx((exact.value, exact.low, exact.high))
    assert mean_difference([0.5] * 40).low > 0
