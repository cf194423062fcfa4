"""What a reflection earns and who retries: `rrr grpo --freeze-actor`, `--retries`, `--reward-on`, `--length-cost`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("trl")

import torch
from conftest import Ran
from grpo_runs import GUESSING, PARITY, mine, options
from test_grpo import closed_form, disturb, generated, trainer_of
from test_grpo_resume import assert_goes_on
from transformers import AutoModelForCausalLM

from rrr_cli.engines import weights
from rrr_cli.engines.models import resolve
from rrr_cli.errors import BAD_INPUT, USAGE, RrrError
from rrr_cli.prompts import HINT, hint_chat
from rrr_cli.rollout import Loop
from rrr_cli.stages import grpo
from rrr_cli.store import artifacts
from rrr_cli.training.policy_engine import PolicyEngine, decoded


@pytest.mark.parametrize("special", [
    {"lora": 4, "retries": 2}, {"beta": 0.0}, {"beta": 0.1, "reward_on": "other:2"}, {"task": f"{GUESSING}Easily"},
])
def test_a_frozen_actor_writes_what_the_untrained_model_writes_however_long_one_trains(
    tmp_path: Path, random_model: Path, monkeypatch: pytest.MonkeyPatch, special: dict[str, object]
) -> None:
    mine(tmp_path, GUESSING if "task" in special else PARITY)
    loops: list[tuple[Loop, list[object]]] = []
    play = Loop.play

    def spy(loop: Loop, phase: str, episodes: list[list[object]]) -> object:
        copies = [[replace(e, transcript=[], completions=[], thoughts=[]) for e in row] for row in episodes]
        loops.append((loop, [phase, copies, play(loop, phase, episodes)]))
        return loops[-1][1][2]

    monkeypatch.setattr(Loop, "play", spy)
    grpo.run(options(tmp_path, random_model, freeze_actor=True, steps=3, **special))
    loop, (phase, episodes, written) = loops[2]
    untrained = weights.load(resolve(str(random_model)), torch.float32)
    engine = loop.engine
    assert isinstance(engine, PolicyEngine)
    fresh = PolicyEngine(
        engine.policy, decoded(lambda: nullcontext(untrained), engine.stops), None, engine.window, engine.stops)
    assert engine.fingerprint == fresh.fingerprint == engine.policy.fingerprint
    trained = AutoModelForCausalLM.from_pretrained(tmp_path / "models" / "policy")
    policy = PolicyEngine(engine.policy, decoded(lambda: nullcontext(trained), engine.stops), 3, 256, engine.stops)
    copies = [[replace(e, transcript=[], completions=[], thoughts=[]) for e in row] for row in episodes]
    assert play(replace(loop, engine=fresh), phase, episodes) == written
    assert [a.transcript for row in play(replace(loop, engine=policy), phase, copies) for a in row] != [
        a.transcript for row in written for a in row]


def test_a_reflection_earns_the_mean_of_its_retries_less_its_length(tmp_path: Path, random_model: Path) -> None:
    one, three = tmp_path / "one", tmp_path / "three"
    for run, count in ((one, 1), (three, 3)):
        mine(run)
        grpo.run(options(run, random_model, steps=1, retries=count, length_cost=0.01, sample_failures="on-policy"))
    single, rows = (list(artifacts.read(run, "rollouts")) for run in (one, three))
    assert [(r.reflection, r.retry) for r in rows] == [(r.reflection, r.retry) for r in single]
    assert len({r.judged_passed for r in rows}) > 1
    for row in rows:
        assert row.judged == 3
        assert row.reward == pytest.approx(row.judged_passed / 3 - 0.01 * row.reflection_tokens)
        assert row.generated_tokens >= row.reflection_tokens + row.retry_tokens + 2
    step = next(artifacts.read(three, "steps"))
    assert step.generated_tokens == sum(row.generated_tokens for row in rows)


@pytest.mark.parametrize(("task", "turns"), [(PARITY, 1), (f"{GUESSING}Easily", 5)])
def test_a_reflection_is_tried_on_other_problems_the_same_for_its_group(
    tmp_path: Path, random_model: Path, task: str, turns: int
) -> None:
    mine(tmp_path, PARITY if task == PARITY else GUESSING)
    trainer = trainer_of(tmp_path, random_model, task=task, reward_on="other:3")
    tried: list[dict[str, set[tuple[str, ...]]]] = []
    for _ in range(2):
        generated(trainer)
        groups: dict[str, set[tuple[str, ...]]] = defaultdict(set)
        for sample in trainer.batch.samples:
            others = tuple(attempt.problem_id for attempt in sample.tries)
            assert len({*others, sample.failure.problem.problem_id}) == 4
            assert all(attempt.reflection_id == sample.reflection.reflection_id for attempt in sample.tries)
            assert {len(attempt.transcript) for attempt in sample.tries} == {turns}
            assert sample.reward == pytest.approx(sum(attempt.success for attempt in sample.tries) / 3)
            groups[sample.failure.attempt_id].add(others)
        assert len(groups) == 4
        assert {len(sets) for sets in groups.values()} == {1}
        tried.append(dict(groups))
        trainer.state.global_step += 1
    assert tried[0] != tried[1]
    plan = grpo.run(options(tmp_path, random_model, task=task, reward_on="other:3", dry_run=True))
    assert plan["template: hint"] == HINT
    assert "template: reflection_only" not in plan


def test_a_hint_stands_after_the_other_problem(tmp_path: Path, random_model: Path) -> None:
    mine(tmp_path)
    session = grpo.prepare(options(tmp_path, random_model, reward_on="other:1"))
    failure = session.failures[0]
    other, = session.objective.others.of(failure, seed=1)
    chat = hint_chat(other.prompt, "yes no")
    assert chat[-1].content == f"{other.prompt[-1].content}\n\n{HINT.format(reflection='yes no')}"
    assert failure.transcript[0] not in chat


@pytest.mark.parametrize(("loss_per", "mean"), [
    ("token", lambda rows: torch.cat(rows).mean()),
    ("none", lambda rows: torch.cat(rows).sum() / (len(rows) * 10)),  # 10: the larger token limit
])
def test_the_loss_is_a_mean_over_the_whole_step_in_closed_form(
    tmp_path: Path, random_model: Path, loss_per: str, mean: Callable[[list[torch.Tensor]], torch.Tensor]
) -> None:
    mine(tmp_path)
    for parts in (1, 4):
        trainer = trainer_of(tmp_path, random_model, loss_per=loss_per, beta=0.1, micro_batch=16 // parts)
        disturb(trainer.model)
        batch = generated(trainer)
        assert batch["advantages"].abs().sum() > 0
        for start in range(0, 16, 16 // parts):
            trainer._part(trainer.model, batch, slice(start, start + 16 // parts), True, None)
        reference, policy = (AutoModelForCausalLM.from_pretrained(random_model) for _ in range(2))
        policy.load_state_dict(trainer.model.state_dict())
        closed_form(policy, reference, batch, 0.1, mean).backward()
        for ours, theirs in zip(trainer.model.parameters(), policy.parameters(), strict=True):
            torch.testing.assert_close(ours.grad, theirs.grad, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("loss_per", ["sequence", "token", "none"])
def test_no_micro_batch_changes_a_steps_gradient(tmp_path: Path, random_model: Path, loss_per: str) -> None:
    norms, entropies = [], []
    for size in (16, 4):
        run = tmp_path / str(size)
        mine(run)
        grpo.run(options(run, random_model, loss_per=loss_per, steps=1, micro_batch=size))
        first = next(artifacts.read(run, "steps"))
        norms.append(first.grad_norm)
        entropies.append(first.entropy)
    assert norms[0] == pytest.approx(norms[1], rel=1e-3)
    assert norms[0] > 0
    assert entropies[0] == pytest.approx(entropies[1], rel=1e-5)


def test_an_interrupted_training_with_a_frozen_actor_goes_on_bit_for_bit(
    tmp_path: Path, random_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"freeze_actor": True, "retries": 2, "beta": 0.0, "feedback": "verifier"}
    assert_goes_on(tmp_path, random_model, monkeypatch, **settings)


@pytest.mark.parametrize(("changes", "code", "message"), [
    ({"reward_on": "others"}, USAGE, "--reward-on others: it must be same, or other:K with a whole number K from 1 on"),
    ({"reward_on": "other:0"}, USAGE, "--reward-on other:0: it must be same"),
    ({"reward_on": "other:40"}, BAD_INPUT,
     "--reward-on other:40 needs 41 failed problems of each level, and of only there are 40: lower K"),
    ({"reward_on": "other:2", "retries": 2}, USAGE, "--retries 2: with --reward-on other:2 the failed problem isn't"),
    ({"reward_on": "other:2", "retry_context": "reflection"}, USAGE, "--retry-context reflection: with --reward-on"),
    ({"objective": "reflection+answer", "freeze_actor": True}, USAGE, "--freeze-actor True: --objective reflection"),
    ({"objective": "reflection+answer", "retries": 2}, USAGE, "--retries 2: --objective reflection"),
    ({"objective": "answer", "reward_on": "other:2"}, USAGE, "--reward-on other:2: it is about reflections"),
    ({"objective": "answer", "feedback": "verifier"}, USAGE, "--feedback verifier: it is about reflections"),
    ({"freeze_actor": True, "vllm": "server"}, USAGE, "--freeze-actor True: with --vllm server only the trained"),
])
def test_a_reward_that_means_nothing_is_refused_in_one_line(
    tmp_path: Path, random_model: Path, changes: dict[str, object], code: int, message: str
) -> None:
    mine(tmp_path)
    with pytest.raises(RrrError, match=message.replace("+", r"\+")) as error:
        grpo.run(options(tmp_path, random_model, **changes))
    assert error.value.exit_code == code
    assert "\n" not in str(error.value)


def test_the_options_of_the_reward_have_a_panel_and_a_dry_run_says_what_they_come_to(
    rrr: Callable[..., Ran], tmp_path: Path, random_model: Path
) -> None:
    words = rrr("grpo", "--help").out
    panel = words.partition("\nReward:\n")[2].partition("\n\n")[0]
    for flag in ("--freeze-actor", "--retries", "--no-answers", "--reward-on", "--length-cost"):
        assert flag in panel
    mine(tmp_path)
    plan = grpo.run(options(tmp_path, random_model, dry_run=True))
    assert (plan["loss_per"], plan["feedback"], plan["reward_on"]) == ("sequence", "binary", "same")
