"""`rrr grpo --eval-every`: the policy is tested on mined problems that are kept aside, and the best step is kept."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("trl")

from grpo_runs import PARITY, mine, options

from rrr_cli.errors import RrrError
from rrr_cli.records import Validation
from rrr_cli.stages import grpo
from rrr_cli.store import artifacts
from rrr_cli.tasks import load_task
from rrr_cli.training import checkpoints, recorder, validation

SCRIPT = Path(__file__).parent.parent / "grpo_runs.py"
TESTED = {"eval_every": 2, "eval_limit": 10, "steps": 5}


@pytest.fixture(scope="module")
def tested(tmp_path_factory: pytest.TempPathFactory, random_model: Path) -> Path:
    """Five steps, tested at 0, 2, 4 and the last."""
    run = tmp_path_factory.mktemp("tested")
    mine(run)
    grpo.run(options(run, random_model, **TESTED))
    return run


def rows(run: Path) -> list[Validation]:
    return list(artifacts.read(run, "validations"))


def weights(run: Path, name: str = "policy") -> bytes:
    return (run / "models" / name / "model.safetensors").read_bytes()


def test_problems_kept_aside_are_of_the_train_split_and_never_trained_on(tested: Path) -> None:
    kept = {row.problem_id for row in rows(tested)}
    trained = {row.problem_id for row in artifacts.read(tested, "rollouts")}
    train = {problem.problem_id for problem in load_task(PARITY).problems("train")}
    assert len(kept) == 10
    assert kept <= train
    assert not kept & trained


def test_each_tested_step_has_a_row_for_each_problem(tested: Path) -> None:
    steps = {step: [row.problem_id for row in rows(tested) if row.step == step] for step in (0, 2, 4, 5)}
    assert len(rows(tested)) == 40
    assert len({tuple(ids) for ids in steps.values()}) == 1
    spent = {row.step: row.generated_tokens for row in rows(tested)}
    by_step = {row.step: row.generated_tokens for row in artifacts.read(tested, "steps")}
    assert spent[0] == 0
    assert spent[4] == sum(by_step[step] for step in range(1, 5))
    assert all((row.second_success is None) == row.first_success == (row.reflection is None) for row in rows(tested))


def test_testing_changes_nothing_of_the_training(tmp_path: Path, tested: Path, random_model: Path) -> None:
    mine(tmp_path)
    kept = {row.problem_id for row in rows(tested)}
    attempts = [row for row in artifacts.read(tmp_path, "attempts") if row.problem_id not in kept]
    problems = [row for row in artifacts.read(tmp_path, "problems") if row.problem_id not in kept]
    other = tmp_path / "without"
    for table, records in (("problems", problems), ("attempts", attempts)):
        with artifacts.Writer(other, table, "mine-failures", {}) as writer:
            writer.append(records)
    grpo.run(options(other, random_model, steps=5))
    assert weights(other) == weights(tested)
    assert list(artifacts.read(other, "rollouts")) == list(artifacts.read(tested, "rollouts"))


def test_the_best_step_is_a_model_of_its_own_and_the_summary_names_it(tested: Path, random_model: Path) -> None:
    summary = grpo.run(options(tested, random_model, **TESTED))
    points = summary["validation"]["curve"]
    assert [point["step"] for point in points] == [0, 2, 4, 5]
    best = max(points, key=lambda point: (point["second_try"], -point["step"]))
    assert summary["validation"]["best_step"] == best["step"]
    named = checkpoints.provenance(tested / "models" / "policy-best")
    assert (named.get("steps") or 0) == best["step"]
    assert (tested / "models" / "policy-best").exists() == (best["step"] > 0) == bool(summary["policy_best"])
    assert checkpoints.provenance(tested / "models" / "policy")["steps"] == 5


def test_a_best_step_that_others_followed_is_kept_until_the_end(
    tmp_path: Path, random_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine(tmp_path)
    monkeypatch.setattr(validation, "best", lambda points, _: next((p for p in points if p["step"] == 1), None))
    grpo.run(options(tmp_path, random_model, steps=5, eval_every=1, eval_limit=5))
    assert checkpoints.provenance(tmp_path / "models" / "policy-best")["steps"] == 1
    assert weights(tmp_path, "policy-best") != weights(tmp_path)


def test_a_crash_loses_and_doubles_no_test(
    tmp_path: Path, tested: Path, random_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine(tmp_path)
    commit = recorder.Ledger.commit

    def crash(ledger: recorder.Ledger, checkpoint: Path) -> None:
        if checkpoint.name.endswith("4"):
            raise KeyboardInterrupt
        commit(ledger, checkpoint)

    with monkeypatch.context() as patch:
        patch.setattr(recorder.Ledger, "commit", crash)
        with pytest.raises(KeyboardInterrupt):
            grpo.run(options(tmp_path, random_model, **TESTED))
    assert {row.step for row in rows(tmp_path)} == {0, 2}
    grpo.run(options(tmp_path, random_model, **TESTED))
    assert rows(tmp_path) == rows(tested)
    assert weights(tmp_path) == weights(tested)


def test_two_processes_test_as_one_does(tmp_path: Path, random_model: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    for run in (one, two):
        mine(run)
    changes = {"steps": 2, "group": 16, "device": "cpu", "lr": 1e-3, "eval_every": 1, "eval_limit": 5}
    grpo.run(options(one, random_model, **changes))
    words = [f"{key}={json.dumps(value)}" for key, value in changes.items()]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    done = subprocess.run(
        [*launcher, str(SCRIPT), str(two), str(random_model), *words], capture_output=True, text=True, timeout=150,
        env={**os.environ, "PYTHONPATH": str(SCRIPT.parent.parent)},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert rows(two) == rows(one)


def test_another_training_in_its_place_takes_the_tests_away(tmp_path: Path, random_model: Path) -> None:
    mine(tmp_path)
    grpo.run(options(tmp_path, random_model, steps=1, eval_every=1, eval_limit=4))
    assert rows(tmp_path)
    grpo.run(options(tmp_path, random_model, steps=1, overwrite=True))
    assert rows(tmp_path) == []
    assert not (tmp_path / "models" / "policy-best").exists()


def test_other_problems_kept_aside_are_another_training(tmp_path: Path, random_model: Path) -> None:
    mine(tmp_path)
    tested = {"steps": 1, "eval_every": 1, "eval_limit": 4, "limit": 8}
    grpo.run(options(tmp_path, random_model, **tested))
    kept = {row.problem_id for row in rows(tmp_path)}
    trained = {row.problem_id for row in artifacts.read(tmp_path, "rollouts")}
    other = tmp_path / "other"
    for table in ("problems", "attempts"):
        records = [r for r in artifacts.read(tmp_path, table) if r.problem_id in trained or r.problem_id not in kept]
        with artifacts.Writer(other, table, "mine-failures", {}) as writer:
            writer.append(records)
    ids = [prepared(other, random_model, **tested), prepared(tmp_path, random_model, **tested)]
    assert ids[0] != ids[1]


def prepared(run: Path, model: Path, **changes: object) -> dict[str, str]:
    """What the run's training depends on, beside its options."""
    inputs: dict[str, str] = grpo.prepare(options(run, model, **changes)).inputs
    return inputs


def test_a_frozen_actor_is_tested_as_it_is_trained(tmp_path: Path, random_model: Path) -> None:
    mine(tmp_path)
    grpo.run(options(tmp_path, random_model, steps=3, eval_every=3, eval_limit=10, freeze_actor=True, lr=1e-1))
    first = {step: [row.first_success for row in rows(tmp_path) if row.step == step] for step in (0, 3)}
    assert first[0] == first[3]  # by the untrained model, with the same seeds


def test_convergence_is_the_first_step_near_the_best(tmp_path: Path) -> None:
    passed = {0: 2, 10: 5, 20: 12, 30: 11}  # of 20
    with artifacts.Writer(tmp_path, "validations", "grpo", {}) as writer:
        writer.append([
            Validation(step, f"p{i}", i < n, None if i < n else False, 9, None, None, step * 100)
            for step, n in passed.items() for i in range(20)
        ])
    found = validation.summary(tmp_path, "first_try", samples=8)
    assert found["best_step"] == 20
    assert found["converged"] == {"step": 20, "samples": 160, "generated_tokens": 2000}
    assert found["best"]["low"] < 0.6 < found["best"]["high"]


def test_an_answer_is_tested_by_its_first_try(tmp_path: Path, random_model: Path) -> None:
    mine(tmp_path)
    summary = grpo.run(options(tmp_path, random_model, objective="answer", steps=1, eval_every=1, eval_limit=4))
    assert summary["validation"]["measure"] == "first_try"
    assert {row.second_success for row in rows(tmp_path) if not row.first_success} <= {True, False}


@pytest.mark.parametrize(("changes", "message"), [
    ({"eval_limit": 5}, "--eval-limit 5: it is for --eval-every"),
    ({"eval_every": 1, "eval_limit": 41}, "has 40 problems: mine more, or lower --eval-limit"),
    ({"eval_every": 1, "eval_limit": 38}, "has 2 failed problems, and a step needs 4"),
])
def test_too_few_problems_are_refused(
    tmp_path: Path, random_model: Path, changes: dict[str, int], message: str
) -> None:
    mine(tmp_path)
    with pytest.raises(RrrError, match=message):
        grpo.run(options(tmp_path, random_model, **changes))


def test_the_view_has_the_curve(rrr, tested: Path) -> None:
    ran = rrr("sql", "--run", tested, "--format", "jsonl",
              "select step, n, first_try, second_try, generated_tokens from validation_curve")
    assert [json.loads(line) for line in ran.out.splitlines()] == validation.curve(tested)
