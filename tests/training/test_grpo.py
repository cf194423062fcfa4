"""`rrr grpo`: only reflections are trained, by TRL's own loss; what it writes is what happened; what it refuses."""

from __future__ import annotations

import inspect
import json
import statistics
from collections import defaultdict
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import pytest

pytest.importorskip("trl")

import torch
from conftest import make_random_model
from grpo_runs import PARITY, mine, options
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM
from trl import GRPOConfig, GRPOTrainer
from trl.generation.vllm_generation import VLLMGeneration

from rrr_cli.engines import decoding
from rrr_cli.engines.base import Prompt, Sampling
from rrr_cli.engines.models import resolve
from rrr_cli.errors import NO_BACKEND, NOTHING, USAGE, RrrError
from rrr_cli.prompts import reflect_chat
from rrr_cli.stages import grpo
from rrr_cli.store import artifacts
from rrr_cli.training.dataset import TrainingOrder
from rrr_cli.training.policy_engine import PolicyEngine, in_memory
from rrr_cli.training.session import Session
from rrr_cli.training.settings import VLLM_CORRECTION
from rrr_cli.training.trainer import PolicyTrainer


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, random_model: Path) -> Path:
    """A run after four steps, at a learning rate that changes the policy."""
    run = tmp_path_factory.mktemp("trained")
    mine(run)
    grpo.run(options(run, random_model, beta=0.1))
    return run


def trainer_of(run: Path, model: Path, **changes: object) -> PolicyTrainer:
    """The trainer that `rrr grpo` builds, before its first step."""
    session = grpo.prepare(options(run, model, **changes))
    assert isinstance(session, Session)
    session.configure()
    return session.trainer()


def generated(trainer: PolicyTrainer) -> dict[str, torch.Tensor]:
    """One scored generation batch, as the loss gets it."""
    rows = next(iter(trainer.get_train_dataloader()))
    trainer.current_gradient_accumulation_steps = 1
    trainer.model.train()
    return trainer._generate_and_score_completions(rows)


def disturb(model: torch.nn.Module) -> None:
    """Move the policy away from its reference, so that the KL term and its gradient aren't zero."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.02 * torch.randn(weight.shape, generator=generator)


def test_trl_still_has_the_methods_that_the_trainer_overrides() -> None:
    expected = {
        "_generate_and_score_completions": ["self", "inputs"],
        "_compute_loss": ["self", "model", "inputs"],
        "_prepare_inputs": ["self", "generation_batch"],
        "training_step": ["self", "model", "inputs", "num_items_in_batch"],
        "_get_per_token_logps_and_entropies": [
            "self", "model", "input_ids", "attention_mask", "logits_to_keep", "batch_size", "compute_entropy"
        ],
    }
    for name, parameters in expected.items():
        found = list(inspect.signature(getattr(GRPOTrainer, name)).parameters)[: len(parameters)]
        assert found == parameters, f"this TRL is not 1.16: GRPOTrainer.{name}{found}; adapt training/trainer.py"
    assert "rollout_func" in inspect.signature(GRPOTrainer.__init__).parameters
    prompts = list(inspect.signature(VLLMGeneration.generate).parameters)[:4]
    assert prompts == ["self", "prompts", "images", "num_generations"], "adapt training/policy_engine.py"


@pytest.mark.parametrize("objective", ["reflection", "answer", "reflection+answer"])
def test_the_loss_is_trls_and_the_closed_form(tmp_path: Path, random_model: Path, objective: str) -> None:
    mine(tmp_path)
    trainer = trainer_of(tmp_path, random_model, beta=0.1, objective=objective)
    disturb(trainer.model)
    batch = generated(trainer)
    assert batch["advantages"].abs().sum() > 0

    loss = trainer._compute_loss(trainer.model, batch)
    gradients = torch.autograd.grad(loss, list(trainer.model.parameters()))

    plain = GRPOTrainer(
        model=str(random_model), reward_funcs=lambda completions, **_: [0.0] * len(completions), args=trainer.args,
        train_dataset=trainer.train_dataset, processing_class=trainer.processing_class,
    )
    plain.model.load_state_dict(trainer.model.state_dict())
    plain.model.train()
    plain.current_gradient_accumulation_steps = 1
    stock = plain._compute_loss(plain.model, batch)
    assert loss.item() == pytest.approx(stock.item(), abs=1e-6)
    for ours, theirs in zip(gradients, torch.autograd.grad(stock, list(plain.model.parameters())), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)

    reference = AutoModelForCausalLM.from_pretrained(random_model)
    policy = AutoModelForCausalLM.from_pretrained(random_model)
    policy.load_state_dict(trainer.model.state_dict())
    expected = closed_form(policy, reference, batch, beta=0.1)
    assert loss.item() == pytest.approx(expected.item(), abs=1e-5)
    for ours, theirs in zip(gradients, torch.autograd.grad(expected, list(policy.parameters())), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)


def closed_form(
    policy: torch.nn.Module, reference: torch.nn.Module, batch: dict[str, torch.Tensor], beta: float,
    mean: Callable[[list[torch.Tensor]], torch.Tensor] = lambda rows: torch.stack([row.mean() for row in rows]).mean(),
) -> torch.Tensor:
    """GRPO's objective written row by row, without padding: mean over rows of the mean over the trained tokens, or
    `mean` of each row's tokens."""
    losses = []
    for row in range(len(batch["advantages"])):
        prompt = batch["prompt_ids"][row][batch["prompt_mask"][row].bool()]
        real = batch["completion_mask"][row].bool()
        completion = batch["completion_ids"][row][real]
        trained = batch["tool_mask"][row][real].bool() if "tool_mask" in batch else torch.ones_like(real[real])
        ids = torch.cat([prompt, completion])[None]
        logps = []
        for model in (policy, reference):
            logits = model(ids).logits[0, len(prompt) - 1 : -1]
            logps.append(logits.log_softmax(-1).gather(-1, completion[:, None])[:, 0])
        ratio = (logps[0] - logps[0].detach()).exp()
        difference = logps[1].detach() - logps[0]
        kl = difference.exp() - difference - 1
        losses.append((-ratio * batch["advantages"][row] + beta * kl)[trained])
    return mean(losses)


def test_no_logit_outside_the_reflection_gets_a_gradient(tmp_path: Path) -> None:
    # With no more words than dimensions the head has full rank, so a hidden state's gradient is zero exactly where
    # the gradient of its logits is.
    model = tmp_path / "wide"
    model.mkdir()
    make_random_model(model, layers=1, hidden=192)
    mine(tmp_path / "run")
    trainer = trainer_of(tmp_path / "run", model, beta=0.1, shared_prefix=False)
    disturb(trainer.model)
    head = trainer.model.get_output_embeddings().weight
    assert torch.linalg.matrix_rank(head) == head.shape[0]
    batch = generated(trainer)

    hidden: list[torch.Tensor] = []
    trainer.model.base_model.register_forward_hook(lambda *call: hidden.append(call[2].last_hidden_state))
    loss = trainer._compute_loss(trainer.model, batch)
    (gradient_B_T_H,) = torch.autograd.grad(loss, [hidden[0]])

    prompt_length = batch["prompt_ids"].shape[1]
    predicts_reflection_B_T = torch.zeros(gradient_B_T_H.shape[:2], dtype=torch.bool)
    predicts_reflection_B_T[:, prompt_length - 1 : -1] = batch["completion_mask"].bool()
    assert torch.all(gradient_B_T_H[~predicts_reflection_B_T] == 0)
    assert torch.all(gradient_B_T_H[predicts_reflection_B_T].abs().sum(-1) > 0)  # the KL term reaches every token


def test_the_training_forward_sees_the_rendered_prompt_and_the_reflection_and_nothing_else(
    tmp_path: Path, random_model: Path
) -> None:
    mine(tmp_path)
    trainer = trainer_of(tmp_path, random_model)
    batch = generated(trainer)
    sampler = trainer.rollout_func
    for row, sample in enumerate(trainer.batch.samples):
        failure = sample.failure
        prompt = batch["prompt_ids"][row][batch["prompt_mask"][row].bool()].tolist()
        chat = reflect_chat(failure.problem.prompt, failure.transcript, sampler.task.words["reflect"])
        assert prompt == sampler.policy.render(chat, None)
        ids = batch["completion_ids"][row][batch["completion_mask"][row].bool()].tolist()
        assert sampler.policy.decode(ids) == sample.reflection.text
        assert len(ids) == sample.reflection.tokens


def test_equal_prompts_are_prefilled_once(
    tmp_path: Path, random_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine(tmp_path)
    trainer = trainer_of(tmp_path, random_model)
    calls: list[tuple[list[list[int]], list[tuple[int, ...]]]] = []
    sample = decoding.sample

    def spy(model: object, prompts: list[list[int]], seeds: list[tuple[int, ...]], *more: object, **rest: int):
        calls.append((prompts, seeds))
        return sample(model, prompts, seeds, *more, **rest)

    monkeypatch.setattr(decoding, "sample", spy)
    generated(trainer)
    (reflect, reflect_seeds), (retry, retry_seeds) = calls
    assert len(reflect) == 4
    for prompts, seeds in ((reflect, reflect_seeds), (retry, retry_seeds)):
        assert len({tuple(ids) for ids in prompts}) == len(prompts)
        assert len({seed for seeds_N in seeds for seed in seeds_N}) == sum(map(len, seeds)) == 16
    chat = trainer.batch.samples[0].failure.problem.prompt
    engine = PolicyEngine(trainer.rollout_func.policy, in_memory(trainer), 0, 256, trainer.eos_token_ids)
    first, other, again = (Prompt(tuple(chat) * n, (seed,)) for n, seed in ((1, 1), (2, 2), (1, 1)))
    written = engine.generate([first, other, again], Sampling(max_tokens=9))
    assert list(map(len, calls[-1][1])) == [2, 1]
    assert written[0] == written[2] == engine.generate([again], Sampling(max_tokens=9))[0]


def test_texts_after_an_update_are_of_the_new_weights(
    tmp_path: Path, random_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def texts() -> list[tuple[str, str]]:
        generated(trainer)
        return [(row.reflection.text, row.attempt.transcript[0].content) for row in trainer.batch.samples]

    mine(tmp_path)
    trainer = trainer_of(tmp_path, random_model)
    before = texts()
    disturb(trainer.model)
    after = texts()
    assert trainer.batch.reused > 0
    sample = decoding.sample
    monkeypatch.setattr(
        decoding, "sample", lambda *given, cache, **options: sample(*given, **options, sharing=10**9))
    assert texts() == after != before


def test_rollouts_are_whole_groups_with_the_verifiers_reward_and_the_groups_advantage(trained: Path) -> None:
    rollouts = list(artifacts.read(trained, "rollouts"))
    assert len(rollouts) == 4 * 16
    assert {row.reward for row in rollouts} == {0.0, 1.0}
    groups = defaultdict(list)
    for row in rollouts:
        words = row.retry.split()
        assert row.success == (words != [] and len(words) % 2 == 0)  # an empty text never passes
        assert row.reward == float(row.success)
        groups[row.step, row.group].append(row)
    assert sorted(groups) == [(step, group) for step in range(1, 5) for group in range(4)]
    for rows in groups.values():
        assert [row.sample_index for row in rows] == [0, 1, 2, 3]
        assert len({row.attempt_id for row in rows}) == 1
        rewards = [row.reward for row in rows]
        for row in rows:
            expected = (row.reward - statistics.fmean(rewards)) / (statistics.stdev(rewards) + 1e-4)
            assert row.advantage == pytest.approx(expected, abs=1e-5)
            assert row.trained_tokens == (row.reflection_tokens if row.advantage else 0)


def test_steps_agree_with_their_rollouts(trained: Path) -> None:
    rollouts = defaultdict(list)
    for row in artifacts.read(trained, "rollouts"):
        rollouts[row.step].append(row)
    steps = list(artifacts.read(trained, "steps"))
    assert [step.step for step in steps] == [1, 2, 3, 4]
    assert steps[0].kl == pytest.approx(0, abs=1e-6)
    assert all(step.kl > 0 for step in steps[1:])
    for step in steps:
        rows = rollouts[step.step]
        assert step.reward_mean == pytest.approx(statistics.fmean(row.reward for row in rows))
        dead = [g for g in range(4) if len({row.reward for row in rows if row.group == g}) == 1]
        assert step.dead_groups == len(dead) / 4
        assert step.reflection_length == statistics.fmean(row.reflection_tokens for row in rows)
        assert 0 < step.seconds_update < step.seconds
        assert 0 < step.prefilled_tokens < step.reused_tokens  # a retry goes on from the reflection before it


def test_the_policy_is_a_model_folder_that_differs_from_its_base(trained: Path, random_model: Path) -> None:
    policy = resolve(str(trained / "models" / "policy"))
    before, after = (load_file(folder / "model.safetensors") for folder in (random_model, policy.path))
    assert before.keys() == after.keys()
    assert any(not torch.equal(before[name], after[name]) for name in before)
    assert (policy.path / "chat_template.jinja").read_text() == (random_model / "chat_template.jinja").read_text()
    assert not (trained / "models" / "policy-checkpoints").exists()


def test_a_judge_that_crashes_is_left_out_not_counted_as_wrong(tmp_path: Path, random_model: Path) -> None:
    mine(tmp_path)
    grpo.run(options(tmp_path, random_model, task=PARITY.replace("Parity", "Crashing"), steps=1, max_tokens=9))
    rollouts = list(artifacts.read(tmp_path, "rollouts"))
    crashed = [row for row in rollouts if row.error_type == "judge_crashed"]
    assert crashed
    assert all(row.reward is None and row.success is None and row.advantage == 0 for row in crashed)
    (step,) = artifacts.read(tmp_path, "steps")
    assert step.reward_mean == pytest.approx(statistics.fmean(r.reward for r in rollouts if r.reward is not None))


def test_a_step_is_judged_together_by_a_task_that_judges_many_at_once(tmp_path: Path, random_model: Path) -> None:
    mine(tmp_path)
    grpo.run(options(tmp_path, random_model, task=PARITY.replace("Parity", "Together"), steps=1))
    assert {row.success for row in artifacts.read(tmp_path, "rollouts")} == {True, False}


def test_a_task_that_cannot_judge_here_ends_training_with_its_own_words(tmp_path: Path, random_model: Path) -> None:
    mine(tmp_path)
    with pytest.raises(RrrError, match="nothing to judge with here") as caught:
        grpo.run(options(tmp_path, random_model, task=PARITY.replace("Parity", "Unequipped"), steps=1))
    assert caught.value.exit_code == NO_BACKEND


def test_a_reflection_that_solves_earns_nothing_with_no_answers(tmp_path: Path, random_model: Path) -> None:
    mine(tmp_path)
    grpo.run(options(tmp_path, random_model, steps=2, batch=64, no_answers=True))
    leaks = [row for row in artifacts.read(tmp_path, "rollouts") if row.solves and row.success]
    assert leaks
    assert all(row.reward == 0.0 for row in leaks)


@pytest.mark.parametrize("cost", [0.0, 0.01])  # a cost of length isn't a success
def test_it_stops_and_says_so_when_nothing_is_ever_rewarded(tmp_path: Path, random_model: Path, cost: float) -> None:
    mine(tmp_path)
    impossible = options(
        tmp_path, random_model, task=PARITY.replace("Parity", "Impossible"), steps=3, length_cost=cost)
    with pytest.raises(RrrError, match="can't yet solve any of these 40 problems: none of the 48") as error:
        grpo.run(impossible)
    assert error.value.exit_code == NOTHING
    assert artifacts.count(tmp_path, "rollouts") == 48  # the evidence is kept
    assert not (tmp_path / "models" / "policy").exists()


def test_lora_trains_an_adapter_whose_reference_is_the_base_model(tmp_path: Path, random_model: Path) -> None:
    mine(tmp_path)
    trainer = trainer_of(tmp_path, random_model, lora=4, beta=0.1)
    assert trainer.ref_model is None
    assert trainer.beta == 0.1
    batch = generated(trainer)
    before = batch["ref_per_token_logps"]
    with torch.no_grad():
        for name, weight in trainer.model.named_parameters():
            if "lora_B" in name:
                weight += 0.1
    rows = next(iter(trainer.get_train_dataloader()))
    again = trainer._generate_and_score_completions(rows)  # the adapter has moved, the reference has not
    assert not torch.equal(again["completion_ids"], batch["completion_ids"])
    base = AutoModelForCausalLM.from_pretrained(random_model)
    for scored in (batch, again):
        ids = torch.cat([scored["prompt_ids"], scored["completion_ids"]], 1)
        mask = torch.cat([scored["prompt_mask"], scored["completion_mask"]], 1)
        expected, _, _ = trainer._get_per_token_logps_and_entropies(
            fused(base), ids, mask, scored["completion_ids"].shape[1]
        )
        torch.testing.assert_close(scored["ref_per_token_logps"], expected)
    assert before.shape[0] == 16

    grpo.run(options(tmp_path, random_model, lora=4, steps=1))
    policy = resolve(str(tmp_path / "models" / "policy"))
    assert policy.adapter == tmp_path / "models" / "policy"
    assert policy.path == random_model
    modules = json.loads((policy.adapter / "adapter_config.json").read_text())["target_modules"]
    assert modules == sorted(modules)  # the same training, the same fingerprint
    assert len(modules) > 5
    with pytest.raises(RrrError, match="is a LoRA adapter"):
        grpo.run(options(tmp_path, policy.adapter, overwrite=True))


def fused(model: torch.nn.Module) -> torch.nn.Module:
    """`model` with the LM head that TRL's log-probability code expects."""
    from trl.trainer.utils import add_fused_lm_head

    add_fused_lm_head(model)
    return model


def test_each_pass_takes_every_failure_at_most_once_and_step_k_depends_on_nothing_but_k() -> None:
    def order(seed: int, groups: range) -> list[int]:
        return list(map(TrainingOrder(failures=10, groups=4, seed=seed).failure, groups))

    first, second = order(0, range(8)), order(0, range(8, 16))
    assert len(set(first)) == len(set(second)) == 8
    assert first != second
    assert order(0, range(10**9, 10**9 - 9, -1))[::-1] == order(0, range(10**9 - 8, 10**9 + 1))
    assert order(1, range(8)) != first


@pytest.mark.parametrize(("changes", "message"), [
    ({"batch": 18}, "--batch 18 is not a multiple of --group 4, and a step is made of whole groups: try --batch 16"),
    ({"preset": "huge"}, "--preset huge: it must be one of quick, paper"),
    ({"vllm": "remote"}, "--vllm remote: it must be one of colocate, server"),
    ({"micro_batch": 5}, "--batch must be a multiple of 5"),
])
def test_options_that_cannot_be_are_refused(tmp_path: Path, random_model: Path, changes: dict, message: str) -> None:
    mine(tmp_path)
    with pytest.raises(RrrError, match=message) as error:
        grpo.run(options(tmp_path, random_model, **changes))
    assert error.value.exit_code == USAGE


def test_unfit_failures_are_refused_before_the_first_step(tmp_path: Path, random_model: Path) -> None:
    empty, few, test = (tmp_path / name for name in ("empty", "few", "test"))
    with pytest.raises(RrrError, match=r"has no attempts\. Type: rrr mine-failures"):
        grpo.run(options(empty, random_model))
    mine(few)
    with pytest.raises(RrrError, match=r"has 40 failed problems, and a step needs 64 .*: mine more"):
        grpo.run(options(few, random_model, batch=256))
    with pytest.raises(RrrError, match="the model's window holds 256: lower --reflection-tokens"):
        grpo.run(options(few, random_model, max_tokens=300))
    with pytest.raises(RrrError, match=r"has attempts at parity, not countdown\. Type: --task parity"):
        grpo.run(options(few, random_model, task="countdown"))
    mine(test, split="test")
    with pytest.raises(RrrError, match="is of the test split, and training on it would spoil the test"):
        grpo.run(options(test, random_model))
    assert not (few / "rollouts").exists()


def test_a_dry_run_resolves_the_preset_and_writes_nothing(tmp_path: Path, random_model: Path) -> None:
    mine(tmp_path)
    changes = {"preset": "paper", "lr": None, "steps": None, "batch": 32, "dry_run": True}
    plan = grpo.run(options(tmp_path, random_model, **changes))
    assert plan["lr"] == 5e-7
    assert plan["steps"] == 1750
    assert plan["schedule"] == "cosine"
    assert plan["batch"] == 32
    assert plan["failures"] == 40
    assert not (tmp_path / "rollouts").exists()
    json.dumps(plan)


def test_the_correction_for_vllm_is_the_one_that_the_pages_name() -> None:
    defaults = {f.name: f.default for f in fields(GRPOConfig)}
    assert {name: defaults[name] for name in VLLM_CORRECTION} == VLLM_CORRECTION  # TRL's own, which it may change
