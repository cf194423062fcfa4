"""Which failures stages start from, and what a request to reflect says of them: --sample-failures, --feedback."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("trl")

from conftest import Ran
from grpo_runs import GUESSING, PARITY, mine, options

from rrr_cli.errors import BAD_INPUT
from rrr_cli.stages import grpo
from rrr_cli.store import artifacts


def scripted(folder: Path, said: str) -> Path:
    """A script whose reflection is INFORMED if it was shown what the verifier says, and BLIND otherwise."""
    script = folder / "script.json"
    script.write_text(json.dumps({
        "default": "one two", "rules": [
            [said, "INFORMED"], ["Reflect", "BLIND"], ["number 1", "word"], ["Using the numbers", "word"]],
    }))
    return script


@pytest.mark.parametrize(("task", "said"), [(PARITY, "the number of words is odd"), (GUESSING, "It wasn't found.")])
def test_a_request_to_reflect_says_what_the_verifier_says_only_if_it_is_asked_for(
    rrr: Callable[..., Ran], tmp_path: Path, task: str, said: str
) -> None:
    common = ["--task", task, "--engine", "scripted", "--model", scripted(tmp_path, said), "--limit", 4, "--json"]
    words = {}
    for feedback in (None, "binary", "verifier"):
        run = tmp_path / str(feedback)
        assert rrr("mine-failures", "--run", run, "--samples", 1, *common).code == 0
        chosen = ["--feedback", feedback] if feedback else []
        done = rrr("reflect", "--run", run, *common, *chosen)
        assert done.code == 0, done.err
        words[feedback] = {row.text for row in artifacts.read(run, "reflections")}
    assert words == {None: {"BLIND"}, "binary": {"BLIND"}, "verifier": {"INFORMED"}}


def test_a_retry_without_a_reflection_knows_as_much_as_the_reflector(rrr: Callable[..., Ran], tmp_path: Path) -> None:
    pytest.importorskip("scipy")
    script = tmp_path / "script.json"
    script.write_text(json.dumps({"default": "word", "rules": [
        ["short explanation", "nothing"], ["the number of words is odd\n\nPlease try again", "one two"]]}))
    common = ["--task", PARITY, "--engine", "scripted", "--model", f"base={script}", "--limit", 4]
    passed = {}
    for feedback in ("binary", "verifier"):
        assert rrr("eval", "--run", tmp_path / feedback, *common, "--feedback", feedback).code == 0
        passed[feedback] = {row.plain_success for row in artifacts.read(tmp_path / feedback, "evaluations")}
    assert passed == {"binary": {False}, "verifier": {True}}


def test_a_run_keeps_the_feedback_that_it_began_with(
    rrr: Callable[..., Ran], tmp_path: Path, random_model: Path
) -> None:
    script = scripted(tmp_path, "the number of words is odd")
    common = ["--run", tmp_path / "run", "--task", PARITY, "--engine", "scripted", "--json"]
    assert rrr("mine-failures", *common, "--model", script, "--limit", 16, "--samples", 1).code == 0
    assert rrr("reflect", *common, "--feedback", "verifier").code == 0
    assert rrr("reflect", *common).code == 0
    refused = rrr("reflect", *common, "--feedback", "binary")
    assert refused.code == BAD_INPUT
    assert 'feedback was "verifier", now "binary"' in refused.err
    evaluated = rrr("eval", *common, "--model", f"base={script}", "--model", f"other={script}")
    assert evaluated.code == 0, evaluated.err
    rows = list(artifacts.read(tmp_path / "run", "evaluations"))
    assert {row.reflection for row in rows} == {"INFORMED"}
    assert {row.shared_reflection for row in rows} == {"INFORMED"}  # on the first model's failures too
    assert rrr("eval", *common, "--model", f"base={script}", "--feedback", "binary").code == BAD_INPUT
    plan = grpo.run(options(tmp_path / "run", random_model, dry_run=True))
    assert plan["feedback"] == "verifier"


def mined_with_passes(run: Path, **config: object) -> None:
    """40 problems with three tries: even ones fail the first and the third; odd ones, the second and the third."""
    source = run.parent / f"{run.name}-source"
    mine(source, samples=3)
    problems = list(artifacts.read(source, "problems"))
    number = {problem.problem_id: index for index, problem in enumerate(problems)}
    with artifacts.Writer(run, "problems", "mine-failures", config) as writer:
        writer.append(problems)
    with artifacts.Writer(run, "attempts", "mine-failures", config) as writer:
        writer.append([
            replace(attempt, success=attempt.sample_index == 1 - number[attempt.problem_id] % 2)
            for attempt in sorted(artifacts.read(source, "attempts"), key=lambda attempt: attempt.sample_index)
        ])


def test_on_policy_failures_are_those_of_a_problems_very_first_try(
    rrr: Callable[..., Ran], tmp_path: Path, random_model: Path
) -> None:
    run = tmp_path / "run"
    mined_with_passes(run, stop_at_failure=0)
    plans = {
        kind: grpo.run(options(run, random_model, sample_failures=kind, dry_run=True))
        for kind in ("first", "on-policy")
    }
    assert {kind: plan["failures"] for kind, plan in plans.items()} == {"first": 40, "on-policy": 20}
    assert {kind: plan["sample_failures"] for kind, plan in plans.items()} == {kind: kind for kind in plans}
    summary = grpo.run(options(run, random_model, sample_failures="on-policy", steps=1))
    assert summary["failures"] == 20
    assert summary["base_pass_rate"] == 0.5  # of the tries after the failed one: a pass and a failure
    script = scripted(tmp_path, "odd")
    common = ["--run", run, "--task", PARITY, "--engine", "scripted", "--model", script, "--json"]
    for stage, kind, count in (("reflect", "first", 40), ("repair", "on-policy", 20)):
        done = rrr(stage, *common, "--sample-failures", kind)
        assert done.code == 0, done.err
        told = json.loads(done.out)
        assert told["failed_attempts"] == count
    assert json.loads(rrr("reflect", *common).out)["base_pass_rate"] == 0.25  # half of the problems fail ever after
    refused = rrr("reflect", *common, "--sample-failures", "on-policy")
    assert (refused.code, 'sample_failures was "first", now "on-policy"' in refused.err) == (BAD_INPUT, True)
    two = json.loads(rrr("reflect", *common, "--per-problem", 2, "--sample-failures", "on-policy", "--dry-run").out)
    assert two["failed_attempts"] == 40  # a failure among the first two tries of each


def test_no_pass_rate_is_told_where_mining_stopped_at_failures(
    rrr: Callable[..., Ran], tmp_path: Path
) -> None:
    mined_with_passes(tmp_path / "run", stop_at_failure=2)
    done = rrr("reflect", "--run", tmp_path / "run", "--task", PARITY, "--engine", "scripted", "--model",
               scripted(tmp_path, "odd"), "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["base_pass_rate"] is None
