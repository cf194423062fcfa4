"""`attempts` and `distil` on batches made by hand: advantages, masks, loss and gradient against their formulas.

The samples are put into TRL's own step in place of what the policy would write.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("trl")

import torch
from grpo_runs import mine, options
from test_grpo import disturb, generated, trainer_of
from transformers import AutoModelForCausalLM

from rrr_cli.errors import USAGE, RrrError
from rrr_cli.records import Attempt, Message, Reflection
from rrr_cli.stages import grpo
from rrr_cli.tasks.base import JUDGE_CRASHED
from rrr_cli.training.objectives.attempts import returns
from rrr_cli.training.samples import Sample
from rrr_cli.training.tokens import Tokens
from rrr_cli.training.trainer import PolicyTrainer

PROMPT = [1, 5, 9, 40]
CRASH = "crash"
ONE_GROUP = {"batch": 4, "group": 4}


def judged(passed: bool | str) -> Attempt:
    """A try with this verdict, or whose judge crashed."""
    return Attempt(
        "a", "p", "parity", "train", "only", "m", "first", 0, [Message("assistant", "yes")], passed is True, 0.0,
        JUDGE_CRASHED if passed == CRASH else None, "", None, 4, 3, "stop", 0, 1.0, None, None, None)


def reflection() -> Reflection:
    return Reflection("r", "a", "p", "m", 0, "no", 2, "stop", 0, 1.0)


def written(*ids: int) -> Tokens:
    return Tokens(list(ids), [1] * len(ids), None)


def tried(*verdicts: bool | str, start: int = 10) -> Sample:
    """A sample of as many tries: each has three tokens, the second of which an environment wrote; reflections have two,
    and before each turn but the first stands a request of one."""
    parts, turns, at, token = [], [], 0, start
    for number in range(2 * len(verdicts) - 1):
        if number:
            parts.append(Tokens.shown([7]))
            at += 1
        length = 2 if number % 2 else 3
        ids = list(range(token, token + length))
        parts += [written(*ids)] if number % 2 else [written(ids[0]), Tokens.shown(ids[1:2]), written(ids[2])]
        turns.append(range(at, at + length))
        at, token = at + length, token + length
    attempts = [judged(verdict) for verdict in verdicts]
    reflections = [reflection() for _ in verdicts[1:]]
    last = Tokens.joined(parts[-3:])
    return Sample(
        None, PROMPT, Tokens.joined(parts), reflections[-1] if reflections else None, attempts[-1],
        tuple(attempts[:-1]), tuple(reflections[:-1]), tuple(turns), (),
        last if reflections and verdicts[-1] is True else None)


def scored(trainer: PolicyTrainer, samples: Sequence[Sample]) -> dict[str, torch.Tensor]:
    """The batch that the loss gets for these samples."""
    objective = trainer.rollout_func.objective
    objective.complete = lambda groups, loop, stops: [
        replace(sample, failure=group.failure, internalised=sample.internalised if internalise else None)
        for group in groups for sample in samples
    ]
    internalise = trainer.rollout_func.options.internalise
    return generated(trainer)


def gradients(loss: torch.Tensor, model: torch.nn.Module) -> list[torch.Tensor]:
    return list(torch.autograd.grad(loss, list(model.parameters())))


def plain(trainer: PolicyTrainer, model: Path) -> torch.nn.Module:
    """A copy of the policy that TRL has nothing to do with."""
    policy = AutoModelForCausalLM.from_pretrained(model)
    policy.load_state_dict(trainer.model.state_dict())
    return policy


def logps_of(model: torch.nn.Module, ids: list[int]) -> torch.Tensor:
    """log π of each token after the prompt, (T,)."""
    logits = model(torch.tensor([PROMPT + ids])).logits[0, len(PROMPT) - 1 : -1]
    return logits.log_softmax(-1).gather(-1, torch.tensor(ids)[:, None])[:, 0]


TRIES = [tried(True), tried(False, True, start=20), tried(False, False, True, start=30), tried(False, CRASH, start=50)]
# gamma 0.5: returns 1; 0.5, 1, 1; 0.25, 0.5, 0.5, 1, 1. Less the mean of the same turn's in the other samples.
ADVANTAGES = [[1 - 0.375], [0.5 - 0.625, 0.5, 0.5], [0.25 - 0.75, -0.5, -0.5, 0.0, 0.0], [0.0, 0.0, 0.0]]


def by_token(sample: Sample, advantages: Sequence[float]) -> list[float]:
    values = [0.0] * len(sample.completion.ids)
    for places, advantage in zip(sample.turns, advantages, strict=True):
        values[places.start : places.stop] = [advantage] * len(places)
    return values


def test_each_turn_earns_what_came_after_it() -> None:
    assert [returns(sample, 0.5) for sample in TRIES] == [
        [1.0], [0.5, 1.0, 1.0], [0.25, 0.5, 0.5, 1.0, 1.0], [None, None, None]]
    assert returns(tried(False, False), 0.6) == [0.0, 0.0, 0.0]
    assert returns(tried(False, True), 0.0) == [0.0, 1.0, 1.0]


@pytest.mark.parametrize("shared_prefix", [True, False])
@pytest.mark.parametrize("loss_per", ["sequence", "token", "none"])
def test_attempts_has_the_gradient_of_its_formula(
    tmp_path: Path, random_model: Path, loss_per: str, shared_prefix: bool
) -> None:
    mine(tmp_path)
    trainer = trainer_of(
        tmp_path, random_model, objective="attempts", attempts=3, gamma=0.5, internalise=True, beta=0.0,
        loss_per=loss_per, shared_prefix=shared_prefix, **ONE_GROUP)
    disturb(trainer.model)
    batch = scored(trainer, TRIES)
    for row, (sample, advantages) in enumerate(zip(TRIES, ADVANTAGES, strict=True)):
        length = len(sample.completion.ids)
        assert batch["advantages"][row, :length].tolist() == pytest.approx(by_token(sample, advantages))
        own = trainer.batch.samples[row]
        assert own.advantage == pytest.approx(advantages[0])
        sizes = [2, 2, 2, 2, 2]  # a try's two own tokens; a reflection's two
        moved = sum(size for size, advantage in zip(sizes, advantages, strict=False) if advantage)
        assert own.trained_tokens == moved + (2 if sample.internalised else 0)
    assert [own.reward for own in trainer.batch.samples] == [1.0, 0.5, 0.25, None]

    policy = plain(trainer, random_model)
    texts = [
        (sample.completion.ids, torch.tensor(sample.completion.mask), torch.tensor(by_token(sample, advantages)))
        for sample, advantages in zip(TRIES, ADVANTAGES, strict=True)
    ]
    # what is internalised is a text of its own, after the bare prompt, whose every token has advantage 1
    learnt = [(s.internalised.ids, torch.tensor(s.internalised.mask), torch.ones(3)) for s in TRIES if s.internalised]
    assert [ids for ids, _, _ in learnt] == [[25, 26, 27], [40, 41, 42]]
    tokens = sum(int(mask.sum()) for _, mask, _ in texts)

    def normalised(value: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return {"sequence": value / mask.sum() / 4, "token": value / tokens, "none": value / 4 / 10}[loss_per]

    expected = sum(
        normalised(-(weight * mask * logps_of(policy, ids)).sum(), mask) for ids, mask, weight in texts + learnt)
    loss = trainer._compute_loss(trainer.model, batch)
    for ours, theirs in zip(gradients(loss, trainer.model), gradients(expected, policy), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)
    # TRL's ratio is 1, so a trained token's part of the loss is -A; of an internalised one -log π
    value = sum(normalised(-(weight * mask).sum(), mask) for _, mask, weight in texts)
    value += sum(normalised(-(mask * logps_of(policy, ids)).sum(), mask) for ids, mask, _ in learnt)
    assert loss.item() == pytest.approx(value.item(), abs=1e-5)


def test_distil_has_the_gradient_of_its_formula(tmp_path: Path, random_model: Path) -> None:
    mine(tmp_path)
    trainer = trainer_of(tmp_path, random_model, objective="distil", beta=0.0, **ONE_GROUP)
    disturb(trainer.model)
    policy = plain(trainer, random_model)
    samples = [
        Sample(None, PROMPT, Tokens.joined([written(*range(start, start + 6)), Tokens.shown([7]), written(start + 8)]),
               reflection(), judged(second), (judged(first),))
        for start, first, second in ((10, True, True), (25, False, False), (40, False, True), (55, CRASH, CRASH))
    ]
    advantages = [1 - 1 / 3, -1 / 3, 1 - 1 / 3, 0.0]  # of three first answers that could be judged one passed
    batch = scored(trainer, samples)
    assert [own.reward for own in trainer.batch.samples] == [1.0, 0.0, 1.0, None]
    expected, dropped, kept = torch.tensor(0.0), 0, 0
    for row, (sample, advantage) in enumerate(zip(samples, advantages, strict=True)):
        logps = logps_of(policy, sample.completion.ids)
        mask = torch.tensor(sample.completion.mask) * (logps >= -5)
        own = trainer.batch.samples[row]
        assert own.completion.mask == mask.tolist() == (batch["tool_mask"] * batch["completion_mask"])[row].tolist()
        assert own.advantage == pytest.approx(advantage)
        assert own.trained_tokens == (int(mask.sum()) if advantage else 0)
        dropped, kept = dropped + sum(sample.completion.mask) - int(mask.sum()), kept + int(mask.sum())
        # RLTF-SD's sum over tokens, here divided by a constant: 4 samples of at most 10 tokens
        expected = expected - advantage * (mask * logps).sum() / 4 / 10
    assert dropped > 3 < kept
    loss = trainer._compute_loss(trainer.model, batch)
    for ours, theirs in zip(gradients(loss, trainer.model), gradients(expected, policy), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)


def test_what_vllm_wrote_after_another_prompt_gets_no_ratio(tmp_path: Path, random_model: Path) -> None:
    mine(tmp_path)
    trainer = trainer_of(tmp_path, random_model, objective="distil", beta=0.0, **ONE_GROUP)
    samples = [replace(tried(True), turns=(), others=(judged(False),)) for _ in range(4)]
    batch = scored(trainer, samples)
    shape = batch["completion_ids"].shape
    output = batch | {
        "importance_sampling_ratio": torch.zeros(4, 1), "old_per_token_logps": torch.full(shape, -4.0),
        "tool_mask": torch.ones(shape, dtype=torch.long)}
    kept = trainer._without_unlikely(output, trainer.batch.samples, -5.0)
    assert output["importance_sampling_ratio"].tolist() == [[1.0]] * 4
    assert all(sample.completion.mask == [1, 1, 1] for sample in kept)


@pytest.mark.parametrize(("changes", "message"), [
    ({"objective": "attempts", "retry_context": "reflection"}, "leave out --retry-context reflection"),
    ({"objective": "attempts", "freeze_actor": True}, "--freeze-actor True: with --objective attempts the policy"),
    ({"objective": "attempts", "scale_rewards": "none"}, "--scale-rewards none: with --objective attempts"),
    ({"objective": "attempts", "attempts": 14}, "14 tries of 8 tokens .* window holds 256: lower --attempts"),
    ({"objective": "distil", "retries": 2}, "--retries 2: with --objective distil the policy's own retry"),
    ({"objective": "distil", "attempts": 3}, "--attempts 3: it is for --objective attempts"),
    ({"objective": "answer", "internalise": True}, "--internalise True: it is for --objective attempts"),
    ({"objective": "reflection", "gamma": 0.5}, "--gamma 0.5: it is for --objective attempts"),
    ({"objective": "reflection+answer", "gamma": 0.5}, "--gamma 0.5: it is for --objective attempts"),
])
def test_options_that_mean_nothing_are_refused(
    tmp_path: Path, random_model: Path, changes: dict[str, object], message: str
) -> None:
    mine(tmp_path)
    with pytest.raises(RrrError, match=message) as error:
        grpo.run(options(tmp_path, random_model, **changes))
    if "lower" not in message:
        assert error.value.exit_code == USAGE
