"""Tries at an environment: turns, caps, retries, repairs, evaluation; by the command line, with scripted models."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest

from rrr_cli.prompts import split_repair
from rrr_cli.stages.votes import vote
from rrr_cli.store.artifacts import read

TASK = f"{Path(__file__).parent.parent / 'guessing_task.py'}:Guessing"
# Halving needs three guesses at most; this player doesn't always halve.
PLAYER = {
    "default": ["4", "4", "2"],
    "rules": [
        ["higher than 4", ["6", "7"]], ["lower than 4", ["2", "1"]], ["higher than 2", ["3", "5"]],
        ["lower than 2", "1"], ["higher than 6", "7"], ["lower than 6", "5"], ["higher than 1", ["3", "2"]],
        ["lower than 7", ["5", "6"]], ["Reflect", "I should halve what is left."], ["again from the start", "4"],
        ["higher than 5", "6"],
    ],
}


@pytest.fixture
def player(tmp_path: Path) -> list[object]:
    """The options that name the scripted player, and the run."""
    script = tmp_path / "player.json"
    script.write_text(json.dumps(PLAYER))
    return ["--engine", "scripted", "--task", TASK, "--run", tmp_path / "run", "--model", script]


def test_an_episode_ends_won_or_out_of_turns(rrr, player, tmp_path: Path):
    ran = rrr("mine-failures", *player, "--samples", 4, "--stop-at-failure", 0, "--json")
    assert ran.code == 0, ran.err
    attempts = list(read(tmp_path / "run", "attempts"))
    assert len(attempts) == 28 * 4
    turns = Counter()
    for a in attempts:
        roles = [m.role for m in a.transcript]
        assert roles == ["assistant", "user"] * (len(roles) // 2) + ["assistant"]
        guesses = [m.content for m in a.transcript[::2]]
        assert len(guesses) <= 3
        assert a.success or len(guesses) == 3
        assert [m.content.split()[-1].rstrip(".") for m in a.transcript[1::2]] == guesses[:-1]
        assert a.completion_tokens == 2 * len(guesses)
        turns[len(guesses)] += 1
    assert len(turns) == 3, "some games end early"
    assert len({a.attempt_id for a in attempts}) == len(attempts)


def test_the_same_episodes_come_out_of_any_batch(rrr, player, tmp_path: Path):
    rrr("mine-failures", *player, "--samples", 4, "--stop-at-failure", 0)
    whole = {a.attempt_id: a for a in read(tmp_path / "run", "attempts")}
    ran = rrr("mine-failures", *player, "--samples", 4, "--stop-at-failure", 0, "--part", 5, "--overwrite")
    assert ran.code == 0, ran.err
    assert {a.attempt_id: a for a in read(tmp_path / "run", "attempts")} == whole


def test_a_retry_starts_over_after_the_failed_episode(rrr, player, tmp_path: Path):
    rrr("mine-failures", *player)
    ran = rrr("reflect", *player, "--json")
    assert ran.code == 0, ran.err
    result = json.loads(ran.out)
    assert result["retries"] == result["failed_attempts"] > 0
    retries = [a for a in read(tmp_path / "run", "attempts") if a.phase == "retry"]
    assert all(a.transcript[0].content == "4" for a in retries), "the scripted player halves on a retry"
    failed = {a.attempt_id: a for a in read(tmp_path / "run", "attempts") if a.phase == "first"}
    shown = sum(len(m.content.split()) + 1 for m in failed[retries[0].parent_id].transcript)
    assert retries[0].prompt_tokens > shown


def test_a_repairs_reasoning_is_kept_apart(rrr, player, tmp_path: Path):
    script = tmp_path / "reflector.json"
    rules = [["wasn't found", "<reflection> 4 halves it. </reflection> 4"], ["failed", "3"], *PLAYER["rules"]]
    script.write_text(json.dumps({**PLAYER, "rules": rules}))
    rrr("mine-failures", *player)
    command = ["repair", *player, "--reflector", script]
    ran = rrr(*command, "--json")
    assert ran.code == 0, ran.err
    result = json.loads(ran.out)
    repairs = [a for a in read(tmp_path / "run", "attempts") if a.phase == "repair"]
    assert len(repairs) == result["repairs"] == result["failed_attempts"] > 0
    assert sum(a.success for a in repairs) == result["repairs_passed"] > 0
    assert {(a.reasoning, a.transcript[0].content, a.model) for a in repairs} == {("4 halves it.", "4", str(script))}
    assert rrr(*command, "--json").out == ran.out, "nothing is left to do"
    ran = rrr(*command, "--feedback", "binary")
    assert ran.code == 3
    assert "feedback" in ran.err
    rrr(*command, "--feedback", "binary", "--overwrite")
    repairs = [a for a in read(tmp_path / "run", "attempts") if a.phase == "repair"]
    assert {a.transcript[0].content for a in repairs} == {"3"}
    shown = rrr("show", "--run", tmp_path / "run", repairs[0].attempt_id)
    assert "repair" in shown.out


def test_gold_feedback_is_refused_for_the_test_split(rrr, player, tmp_path: Path):
    rrr("mine-failures", *player, "--split", "test")
    ran = rrr("repair", *player, "--feedback", "gold")
    assert ran.code == 2
    assert "test split" in ran.err


def test_eval_shows_every_model_the_whole_shared_episode(rrr, player, tmp_path: Path):
    *options, script = player
    other = tmp_path / "other.json"
    other.write_text(json.dumps({**PLAYER, "default": "2"}))
    ran = rrr("eval", *options, f"base={script}", "--model", f"other={other}", "--json")
    assert ran.code == 0, ran.err
    rows = list(read(tmp_path / "run", "evaluations"))
    episodes = {r.problem_id: r for r in rows if r.model == "base"}
    assert any(r.turns for r in rows)
    for r in rows:
        if r.shared_attempt is not None:
            assert r.shared_attempt == episodes[r.problem_id].first
            assert r.shared_attempt.count("<") == 2, "three guesses and what was said to two of them"


def test_votes_count_answers_and_the_oracle_repairs_failures(rrr, player, tmp_path: Path):
    *options, script = player
    ran = rrr("eval", *options, f"base={script}", "--self-consistency", 5, "--reflect-all", "--oracle", "--json")
    assert ran.code == 0, ran.err
    (model,) = json.loads(ran.out)["models"]
    assert {"self_consistency", "reflect_all", "oracle"} < model.keys()
    rows = list(read(tmp_path / "run", "evaluations"))
    assert sum(r.oracle_success for r in rows) >= sum(r.first_success for r in rows)
    assert all(r.oracle_success for r in rows if r.first_success)
    assert all(r.voted is not None and r.reflected is not None for r in rows)
    measures = {c["measure"] for c in json.loads(ran.out)["comparisons"]}
    assert {"self_consistency over first_try", "oracle over blind_second_try"} < measures
    assert "more samples a problem" in ran.err
    ran = rrr("eval", *options, f"base={script}", "--reflect-all")
    assert ran.code == 2
    assert "--self-consistency" in ran.err


def test_most_votes_win_and_the_earliest_of_equals():
    def said(*answers: str | None) -> str | None:
        rows = [SimpleNamespace(answer=a, n=i) for i, a in enumerate(answers)]
        return f"{vote(rows).answer}{vote(rows).n}"  # type: ignore[arg-type]

    assert said("a", "b", "b") == "b1"
    assert said("a", "b", "b", "a") == "a0"
    assert said(None, None, "b") == "b2"
    assert said(None, None) == "None0"


@pytest.mark.parametrize(("text", "expected"), [
    ("<reflection> a </reflection> b", ("a", "b")), ("b", (None, "b")),
    ("a</reflection>b</reflection>", ("a", "b</reflection>")),
    ("<reflection> a", (None, "<reflection> a")), ("", (None, "")),
])
def test_a_repair_is_split_after_its_reflection(text: str, expected: tuple[str | None, str]):
    assert split_repair(text) == expected
