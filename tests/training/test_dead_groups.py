"""Groups without a gradient: left out of the update by --skip-dead-groups, replaced by --refill, counted in `steps`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("trl")

from grpo_runs import mine, options
from test_grpo import generated, trainer_of
from test_grpo_resume import assert_same
from test_shared_prefix import relative, step

from rrr_cli.errors import RrrError
from rrr_cli.stages import grpo
from rrr_cli.store import artifacts
from rrr_cli.training import recorder
from rrr_cli.training.samples import by_group, is_dead

PAIRS = {"group": 2, "beta": 0.0}  # of two samples, about every second group is dead
OBJECTIVES = {
    "reflection": {}, "answer": {}, "reflection+answer": {}, "attempts": {"attempts": 2}, "distil": {"batch": 32},
}


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_without_dead_groups_the_gradient_is_the_same_for_fewer_tokens(
    tmp_path: Path, random_model: Path, objective: str
) -> None:
    mine(tmp_path)
    settings: dict[str, Any] = {**PAIRS, "objective": objective, **OBJECTIVES[objective]}
    (whole, all_tokens), (live, tokens) = (
        step(trainer_of(tmp_path, random_model, **settings, skip_dead_groups=skip)) for skip in (False, True))
    assert relative(live, whole) < 1e-5
    assert tokens < all_tokens


def test_a_micro_batch_of_dead_groups_alone_has_no_gradient(tmp_path: Path, random_model: Path) -> None:
    mine(tmp_path)
    settings = {**PAIRS, "skip_dead_groups": True, "micro_batch": 2}
    for shared in (True, False):
        trainer = trainer_of(tmp_path, random_model, **settings, shared_prefix=shared)
        parted, _ = step(trainer)
        assert any(is_dead(group) for group in by_group(trainer.batch.samples).values())
        whole, _ = step(trainer_of(tmp_path, random_model, **PAIRS, micro_batch=2, shared_prefix=shared))
        assert relative(parted, whole) < 1e-5


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_dead_groups_are_replaced_by_others(tmp_path: Path, random_model: Path, objective: str) -> None:
    mine(tmp_path)
    settings: dict[str, Any] = {**PAIRS, "objective": objective, **OBJECTIVES[objective]}
    dead, failures = [], []
    for rounds in (0, 3):
        trainer = trainer_of(tmp_path, random_model, **settings, refill=rounds)
        generated(trainer)
        groups = by_group(trainer.batch.samples)
        dead.append(sum(map(is_dead, groups.values())))
        failures.append([{sample.failure.attempt_id for sample in group} for group in groups.values()])
    assert dead[1] < dead[0]
    assert all(len(ids) == 1 for ids in failures[1])
    replaced = by_group(trainer.batch.replaced)
    assert len(replaced) >= dead[0] - dead[1]
    for number, (before, after) in enumerate(zip(*failures, strict=True)):
        assert (before != after) == (number in replaced)
    ids = [sample.failure.attempt_id for sample in (*trainer.batch.samples, *trainer.batch.replaced)][::2]
    assert len(set(ids)) == len(ids)  # no failure twice in a step


def test_steps_count_what_was_left_out_and_what_was_replaced_and_a_run_resumes_bit_for_bit(
    tmp_path: Path, random_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    straight, broken = tmp_path / "straight", tmp_path / "broken"
    settings = {**PAIRS, "skip_dead_groups": True, "refill": 1}
    for run in (straight, broken):
        mine(run)
    grpo.run(options(straight, random_model, **settings))
    with monkeypatch.context() as patch:
        patch.setattr(recorder.Ledger, "commit", lambda *args: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            grpo.run(options(broken, random_model, **settings))
    grpo.run(options(broken, random_model, **settings))
    assert_same(broken, straight)
    rows = list(artifacts.read(straight, "rollouts"))
    steps = list(artifacts.read(straight, "steps"))
    for row in steps:
        assert row.skipped_groups == round(8 * row.dead_groups)
        kept = sum(rollout.generated_tokens for rollout in rows if rollout.step == row.step)
        assert row.generated_tokens > kept if row.refilled_groups else row.generated_tokens == kept
    assert sum(row.refilled_groups for row in steps) > 0 < sum(row.skipped_groups for row in steps)


def test_a_refill_needs_failures_that_a_step_does_not_use(tmp_path: Path, random_model: Path) -> None:
    mine(tmp_path)
    with pytest.raises(RrrError, match="has 8 failed problems, all of which are in each step, so --refill 1"):
        grpo.run(options(tmp_path, random_model, **PAIRS, limit=8, refill=1))
