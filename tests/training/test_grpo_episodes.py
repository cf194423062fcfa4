"""`rrr grpo` on tasks of several turns: what is trained of an episode, what ends it, and a run from mining to eval."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("trl")

import torch
from conftest import CHAT_TEMPLATE, Ran, make_random_model
from grpo_runs import GUESSING, mine, options
from test_grpo import disturb, generated, trainer_of

from rrr_cli.errors import RrrError
from rrr_cli.records import TrainStep
from rrr_cli.stages import grpo
from rrr_cli.store import artifacts
from rrr_cli.thoughts import answer_of
from rrr_cli.training.samples import Sample

ROOT = Path(__file__).parent.parent.parent
ANSWER, BOTH = "answer", "reflection+answer"


def turns_of(sample: Sample) -> list[str]:
    """What the model wrote in the try."""
    return [message.content for message in sample.attempt.transcript if message.role == "assistant"]


@pytest.mark.parametrize("objective", [ANSWER, BOTH, "distil"])
def test_an_episode_is_what_the_template_makes_of_it(tmp_path: Path, random_model: Path, objective: str) -> None:
    mine(tmp_path, GUESSING)
    trainer = trainer_of(tmp_path, random_model, task=GUESSING, objective=objective, beta=0.1)
    batch = generated(trainer)
    policy, task = trainer.rollout_func.policy, trainer.rollout_func.task
    same = 0
    for row, sample in enumerate(trainer.batch.samples):
        real = batch["completion_mask"][row].bool()
        ids, mask = batch["completion_ids"][row][real].tolist(), batch["tool_mask"][row][real].tolist()
        assert (ids, mask) == (sample.completion.ids, sample.completion.mask)
        if objective == "distil":  # after the bare problem, and without the tokens that it makes unlikely
            assert sample.prompt_ids == policy.render(tuple(sample.failure.problem.prompt), None)
            assert sum(mask) < sample.attempt.completion_tokens
            continue
        assert sum(mask) == sample.generated_tokens
        assert len(turns_of(sample)) == 3
        assert mask[0] == mask[-1] == 1
        parts = [[ids[0]]]
        for i in range(1, len(ids)):
            if mask[i] != mask[i - 1]:
                parts.append([])
            parts[-1].append(ids[i])
        texts = [policy.decode(part) for part in parts]
        words = [message.content for message in sample.attempt.transcript]
        if objective == BOTH:
            words = [sample.reflection.text, task.words["retry"], *words]
        assert texts[::2] == words[::2]
        tokenizer = policy.tokenizer  # it has no "Guess": what it makes of the environment's words, read back
        assert texts[1::2] == [
            policy.decode(tokenizer(f"user : {text} assistant :", add_special_tokens=False).input_ids)
            for text in words[1::2]
        ]
        if objective == ANSWER:
            chat = (*sample.failure.problem.prompt, *sample.attempt.transcript[:-1])
            last = len(parts[-1])
            same += policy.render(chat, None) == sample.prompt_ids + ids[:-last]
    assert objective != ANSWER or same >= 8  # all but those with a special token in a turn, which no text can hold


def test_what_is_not_a_turns_own_part_is_neither_trained_nor_shown(tmp_path: Path, random_model: Path) -> None:
    task = GUESSING.replace(":Guessing", ":GuessingAloud")
    mine(tmp_path, task)
    trainer = trainer_of(tmp_path, random_model, task=task, objective=ANSWER, beta=0.1)
    batch = generated(trainer)
    policy, dropped = trainer.rollout_func.policy, 0
    for row, sample in enumerate(trainer.batch.samples):
        real = batch["completion_mask"][row].bool()
        ids, mask = batch["completion_ids"][row][real].tolist(), batch["tool_mask"][row][real].tolist()
        trained = [i for i, learnt in zip(ids, mask, strict=True) if learnt]
        assert policy.decode(trained).split() == " ".join(turns_of(sample)).split()
        assert all(len(answer_of(turn).split()) <= 1 for turn in turns_of(sample))
        said = " ".join(f"user : {m.content} assistant :" for m in sample.attempt.transcript if m.role == "user")
        ends = trainer.eos_token_ids  # a turn that was cut is ended by the template
        shown = [i for i, learnt in zip(ids, mask, strict=True) if not learnt and i not in ends]
        assert shown == policy.tokenizer(said, add_special_tokens=False).input_ids
        if sample.attempt.invented:
            dropped += 1
            assert len(trained) < sample.generated_tokens
    assert dropped


@pytest.mark.parametrize("objective", [ANSWER, BOTH, "attempts", "distil"])
def test_the_environments_words_get_no_gradient_at_all(tmp_path: Path, objective: str) -> None:
    model = tmp_path / "wide"  # a head of full rank: see test_grpo
    model.mkdir()
    make_random_model(model, layers=1, hidden=192)
    mine(tmp_path / "run", GUESSING)
    task = GUESSING if objective in (ANSWER, BOTH) else f"{GUESSING}Easily"
    trainer = trainer_of(tmp_path / "run", model, task=task, objective=objective, beta=0.1, shared_prefix=False)
    disturb(trainer.model)
    batch = generated(trainer)
    hidden: list[torch.Tensor] = []
    trainer.model.base_model.register_forward_hook(lambda *call: hidden.append(call[2].last_hidden_state))
    loss = trainer._compute_loss(trainer.model, batch)
    (gradient_B_T_H,) = torch.autograd.grad(loss, [hidden[0]])
    predicts_own_B_T = torch.zeros(gradient_B_T_H.shape[:2], dtype=torch.bool)
    start = batch["prompt_ids"].shape[1] - 1
    predicts_own_B_T[:, start:-1] = (batch["completion_mask"] * batch["tool_mask"]).bool()
    assert (batch["completion_mask"].bool() & ~batch["tool_mask"].bool()).sum() > 16 * 2
    if objective == "distil":  # whose tokens that are dropped may be predicted from the environment's words
        assert all(sum(one.completion.mask) < one.attempt.completion_tokens for one in trainer.batch.samples)
    assert torch.all(gradient_B_T_H[~predicts_own_B_T] == 0)
    assert torch.all(gradient_B_T_H[predicts_own_B_T].abs().sum(-1) > 0)


@pytest.mark.parametrize("objective", ["reflection", ANSWER, BOTH, "attempts", "distil"])
def test_an_episode_that_outgrows_the_window_is_a_failed_try(tmp_path: Path, objective: str) -> None:
    model = tmp_path / "short"
    model.mkdir()
    make_random_model(model, context=92 if objective == ANSWER else 110)
    mine(tmp_path / "run", GUESSING)
    grpo.run(options(tmp_path / "run", model, task=f"{GUESSING}Easily", objective=objective, steps=2, max_tokens=36))
    rows = list(artifacts.read(tmp_path / "run", "rollouts"))
    full = [row for row in rows if row.transcript and row.transcript[-1].content == ""]
    if objective == "attempts":  # no room to reflect on the first try either: it was the only one
        assert any(not row.success and row.judged == 1 for row in rows)
        return
    assert full
    assert all(row.try_finish == "length" and row.reward is not None for row in full)


def test_a_first_turn_that_cannot_fit_is_refused(tmp_path: Path, random_model: Path) -> None:
    mine(tmp_path, GUESSING)
    with pytest.raises(RrrError, match="the model's window holds 256: lower --max-tokens"):
        grpo.run(options(tmp_path, random_model, task=GUESSING, objective=ANSWER, max_tokens=250))


@pytest.mark.parametrize("objective", [ANSWER, BOTH])
def test_a_template_that_rewrites_earlier_turns_is_refused(tmp_path: Path, objective: str) -> None:
    model = tmp_path / "model"
    model.mkdir()
    make_random_model(model)
    counted = CHAT_TEMPLATE.replace("{{ bos_token }} ", "{{ bos_token }} {{ messages | length }} ")
    (model / "chat_template.jinja").write_text(counted)
    mine(tmp_path / "run", GUESSING)
    grpo.run(options(tmp_path / "run", model, task=GUESSING, dry_run=True))
    with pytest.raises(RrrError, match=r"rewrites earlier turns.*choose --objective reflection, or another model"):
        grpo.run(options(tmp_path / "run", model, task=GUESSING, objective=objective, dry_run=True))


HOUSEHOLD = ["--task", "household", "--model", "tiny-household"]
SMALL = ["--steps", 3, "--batch", 8, "--group", 4, "--reflection-tokens", 24, "--max-tokens", 16, "--save-every", 1]


def test_household_from_mining_to_eval_with_a_kill_between(rrr: Callable[..., Ran], tmp_path: Path) -> None:
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    for run in (straight, killed):
        mined = rrr("mine-failures", "--run", run, *HOUSEHOLD, "--limit", 8, "--max-tokens", 16, "--device", "cpu")
        assert mined.code == 0, mined.err
    command = ["grpo", *HOUSEHOLD, *SMALL, "--device", "cpu"]
    assert rrr(*command, "--run", straight).code == 0

    process = subprocess.Popen(
        [sys.executable, "-m", "rrr_cli", *map(str, command), "--run", str(killed)], text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)}, stderr=subprocess.PIPE, stdout=subprocess.PIPE,
    )
    deadline = time.monotonic() + 400
    while not any((killed / "models" / "policy-checkpoints").glob("step-*")):
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    resumed = rrr(*command, "--run", killed)
    assert resumed.code == 0, resumed.err

    policy = killed / "models" / "policy"
    assert (policy / "adapter_model.safetensors").read_bytes() == (
        straight / "models" / "policy" / "adapter_model.safetensors").read_bytes()
    rollouts = list(artifacts.read(killed, "rollouts"))
    assert rollouts == list(artifacts.read(straight, "rollouts"))
    timeless = [name for name in TrainStep.__annotations__ if not name.startswith("seconds")]
    assert list(artifacts.read(killed, "steps", columns=timeless)) == list(
        artifacts.read(straight, "steps", columns=timeless))
    for row in rollouts:
        assert [message.role for message in row.transcript] == ["assistant", "user"] * 7 + ["assistant"] or row.success
        assert row.retry.split("\n< ")[0] == row.transcript[0].content
        assert row.trained_tokens == (row.reflection_tokens if row.advantage else 0)

    story = rrr("show", rollouts[0].attempt_id, "--run", killed)
    assert story.code == 0, story.err
    shown = " ".join(story.out.split())
    last = next(row for row in reversed(rollouts) if row.attempt_id == rollouts[0].attempt_id)
    assert f"training step {last.step}, group {last.group}" in shown
    assert "user: You arrive at" in shown
    samples = json.loads(rrr("show", rollouts[0].attempt_id, "--run", killed, "--json").out)["samples"]
    assert {sample["step"] for sample in samples} == {last.step}

    judged = rrr("eval", "--run", killed, "--task", "household", "--model", f"trained={policy}", "--limit", 2,
                 "--max-tokens", 16, "--reflection-tokens", 24, "--device", "cpu", "--json")
    assert judged.code == 0, judged.err
    (model,) = json.loads(judged.out)["models"]
    assert model["name"] == "trained"
    assert artifacts.count(killed, "evaluations") == 2
