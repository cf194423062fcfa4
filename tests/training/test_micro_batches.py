"""`rrr grpo --micro-batch auto`: a step in as many parts as fit, the same gradient; and once more where none did."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("trl")

import torch
from grpo_runs import mine, options
from safetensors.torch import load_file
from test_grpo import disturb, trainer_of
from test_shared_prefix import relative, step

from rrr_cli.errors import BAD_INPUT, USAGE, RrrError
from rrr_cli.stages import grpo
from rrr_cli.store import artifacts
from rrr_cli.training import plan as plans
from rrr_cli.training import session as sessions
from rrr_cli.training.memory import Shape
from rrr_cli.training.parts import Texts, even, starts_of
from rrr_cli.training.settings import recipe_of
from rrr_cli.training.trainer import PolicyTrainer

QWEN = Shape(layers=28, hidden=1536, feed_forward=8960, queries=1536, keys=256, heads=12, vocabulary=151936)  # 1.5B


def gradient_of(run: Path, model: Path, least: int = 1, **changes: Any) -> tuple[list[torch.Tensor], int, Any]:
    """A first step's gradient in at least so many parts, the tokens it took, and how its trainer splits."""
    trainer = trainer_of(run, model, **changes)
    disturb(trainer.model)
    trainer.micro.least[True] = least
    return *step(trainer), trainer.micro


@pytest.mark.parametrize("changes", [
    {"beta": 0.1}, {"beta": 0.1, "loss_per": "token"}, {"loss_per": "none", "skip_dead_groups": True},
    {"objective": "attempts", "internalise": True, "beta": 0.0},
])
def test_the_gradient_is_the_same_in_parts_of_unequal_size(
    tmp_path: Path, random_model: Path, changes: dict[str, Any]
) -> None:
    mine(tmp_path)
    whole, tokens, _ = gradient_of(tmp_path, random_model, **changes)
    for parts in (3, 5):  # of 4 groups of 4: of 1, 1 and 2 groups; of 3 and 4 samples
        found, computed, _ = gradient_of(tmp_path, random_model, parts, **changes)
        assert relative(found, whole) < 1e-5
        if "skip_dead_groups" not in changes:  # a part of dead groups alone has a forward of one token
            assert computed == tokens if parts == 3 else computed > tokens


def test_as_many_whole_groups_as_fit_and_all_of_them_where_there_is_room(
    tmp_path: Path, random_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine(tmp_path)
    whole, tokens, _ = gradient_of(tmp_path, random_model)
    assert "a step is trained in 1 part of 16 samples" in capsys.readouterr().err
    # Weights and optimiser take 1.8 MB, a pass over 4, 2 and 1 groups 4.2, 2.1 and 1.1, or 0.6 with checkpointing.
    for size, parts, checkpoints in (("7MB", 1, False), ("5MB", 2, False), ("3.2MB", 4, False), ("2.5MB", 4, True)):
        found, computed, micro = gradient_of(tmp_path, random_model, memory=size)
        said = capsys.readouterr().err
        assert f"is trained in {parts} part{'s' * (parts > 1)} of {16 // parts} samples" in said
        assert ("not even one group fits into memory: gradient checkpointing is on" in said) == checkpoints
        assert micro.cost.checkpointing == checkpoints
        assert computed == tokens
        assert relative(found, whole) < 1e-5


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """A machine on which a pass over more than `most` tokens asks for memory that isn't there: PyTorch's own error."""
    border = {"most": 0, "failed": 0}
    build = sessions.Session.trainer

    def trainer(session: sessions.Session) -> PolicyTrainer:
        built = build(session)

        def too_much(module: Any, arguments: Any, fields: dict[str, Any]) -> None:
            if torch.is_grad_enabled() and module.training and fields["input_ids"].numel() > border["most"]:
                border["failed"] += 1
                torch.empty(1 << 55, dtype=torch.uint8)

        built.model.base_model.register_forward_pre_hook(too_much, with_kwargs=True)
        return built

    monkeypatch.setattr(sessions.Session, "trainer", trainer)
    return border


def test_a_step_that_memory_ran_out_in_is_trained_once_more_in_smaller_parts(
    tmp_path: Path, random_model: Path, small: dict[str, int], capsys: pytest.CaptureFixture[str]
) -> None:
    enough, short = tmp_path / "enough", tmp_path / "short"
    results = []
    for run, most, changes in ((enough, 10**9, {"micro_batch": 4}), (short, 100, {})):
        mine(run)
        small["most"] = most
        capsys.readouterr()
        grpo.run(options(run, random_model, steps=2, beta=0.1, **changes))
        weights = load_file(run / "models" / "policy" / "model.safetensors")
        results.append((weights, [json.loads(line) for line in rows_of(run)]))
    said = [line for line in capsys.readouterr().err.splitlines() if "memory ran out" in line]
    assert len(said) == small["failed"] == 2  # 16 samples, 8, and then 4 for the rest of the run
    assert "parts of 16 samples" in said[0]
    assert "the step is trained once more in 4 parts, as all from here on" in said[1]
    (before, rows), (after, again) = results
    assert rows == again  # the same texts: nothing was sampled twice
    for name in before:
        torch.testing.assert_close(after[name], before[name], rtol=0, atol=0)


def rows_of(run: Path) -> list[str]:
    """The rollouts and the steps of a run, but for seconds."""
    kept = []
    for table in ("rollouts", "steps"):
        for row in artifacts.read(run, table):
            values = {k: v for k, v in vars(row).items() if not k.startswith("seconds")}
            kept.append(json.dumps(values, default=vars, sort_keys=True))
    return kept


def test_where_not_even_one_sample_fits_it_says_what_to_type(
    tmp_path: Path, random_model: Path, small: dict[str, int], capsys: pytest.CaptureFixture[str]
) -> None:
    mine(tmp_path)
    with pytest.raises(RrrError, match=r"ran out in training on one sample .*: type --gradient-checkpointing") as error:
        grpo.run(options(tmp_path, random_model))
    assert error.value.exit_code == BAD_INPUT
    said = capsys.readouterr().err
    assert said.count("gradient checkpointing is on") == 1  # before groups are torn apart
    assert "in parts of 1 samples" not in said


@pytest.mark.parametrize("lora", [0, 4])
def test_gradient_checkpointing_changes_no_gradient(tmp_path: Path, random_model: Path, lora: int) -> None:
    mine(tmp_path)
    found = []
    for on in (False, True):
        trainer = trainer_of(tmp_path, random_model, beta=0.1, lora=lora, gradient_checkpointing=on)
        if lora:
            with torch.no_grad():
                for name, weight in trainer.model.named_parameters():
                    weight += 0.1 * ("lora_B" in name)  # at 0 the other half has no gradient
        gradients, tokens = step(trainer)
        found.append(([g for g in gradients if g is not None], tokens))
    (plain, tokens), (again, computed) = found
    assert tokens == computed  # prompts are shared all the same
    assert len(plain) == len(again)
    assert relative(again, plain) < 1e-5


def test_under_an_adapter_the_base_is_bfloat16_on_a_gpu_and_the_adapter_float32(
    tmp_path: Path, random_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine(tmp_path)
    chosen = options(tmp_path, random_model, lora=4)
    assert not plans.frozen_in_half(chosen, recipe_of(chosen))  # here
    with monkeypatch.context() as patch:
        patch.setattr(plans, "on_gpu", lambda options: True)
        assert plans.frozen_in_half(chosen, recipe_of(chosen))
        for other in ({"lora": 0}, {"dtype": "float32"}, {"vllm": "colocate"}):
            given = options(tmp_path, random_model, **{"lora": 4, **other})
            assert not plans.frozen_in_half(given, recipe_of(given))
    monkeypatch.setattr(sessions, "frozen_in_half", lambda options, recipe: recipe.lora > 0)
    trainer = trainer_of(tmp_path, random_model, lora=4, dtype="bfloat16", beta=0.1)
    kinds = {w.requires_grad: set() for w in trainer.model.parameters()}
    for weight in trainer.model.parameters():
        kinds[weight.requires_grad].add(weight.dtype)
    assert kinds == {False: {torch.bfloat16}, True: {torch.float32}}
    gradients, _ = step(trainer)
    assert any(g.abs().sum() > 0 for g in gradients if g is not None)


def test_the_plan_for_one_and_a_half_billion_weights_on_80_gb(
    tmp_path: Path, random_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plans, "on_gpu", lambda options: True)
    unset = {"batch": None, "group": None, "lora": None, "reflection_tokens": None, "max_tokens": None}
    given = options(tmp_path, random_model, preset="paper", memory="80GB", vllm="colocate", **unset)
    plan = plans.plan(given, recipe_of(given), QWEN, 1_543_714_304, longest=700 + 512 + 1024)
    assert plan["weights_and_optimiser_gb"] == pytest.approx(33.96, abs=0.1)  # 24.7 and a reference's 6.2, 3.1 of casts
    assert (plan["groups"], plan["samples"], plan["micro_batches"]) == (2, 16, 16)
    assert plan["tokens"] == 2 * (700 + 8 * 512)
    assert plan["fits"]
    assert not plan["gradient_checkpointing"]
    small = plans.plan(
        options(tmp_path, random_model, preset="paper", memory="48GB", **unset), recipe_of(given), QWEN,
        1_543_714_304, longest=700 + 512 + 1024)
    assert small["gradient_checkpointing"]
    assert small["fits"]


def test_a_dry_run_says_how_a_step_is_split(tmp_path: Path, random_model: Path) -> None:
    mine(tmp_path)
    plan = grpo.run(options(tmp_path, random_model, dry_run=True, memory="1GB"))["memory"]
    assert plan["micro_batches"] == 1
    assert plan["samples"] == 16
    assert plan["memory_from"] == "--memory"
    assert plan["free_gb"] == pytest.approx(1 - plan["weights_and_optimiser_gb"], abs=0.01)


@pytest.mark.parametrize("dry_run", [True, False])
@pytest.mark.parametrize(("changes", "code", "message"), [
    ({"micro_batch": 5}, USAGE, "--batch 16 doesn't divide into 1 processes with micro-batches of 5"),
    ({"memory": "0.1MB"}, BAD_INPUT, "--memory 0.1 ?MB: weights, gradients and optimiser take .* MB alone: allow more"),
])
def test_what_a_training_can_not_keep_is_refused_by_a_dry_run_too(
    tmp_path: Path, random_model: Path, dry_run: bool, changes: dict[str, Any], code: int, message: str
) -> None:
    mine(tmp_path)
    with pytest.raises(RrrError, match=message) as error:
        grpo.run(options(tmp_path, random_model, dry_run=dry_run, **changes))
    assert error.value.exit_code == code


def test_a_dry_run_splits_micro_batches_as_the_training_does(tmp_path: Path, random_model: Path) -> None:
    mine(tmp_path)
    plan = grpo.run(options(tmp_path, random_model, dry_run=True, batch=24, group=8, micro_batch=12))["memory"]
    assert (plan["micro_batches"], plan["samples"]) == (2, 12)


@pytest.mark.parametrize(("changes", "message"), [
    ({"micro_batch": "some"}, "--micro-batch some: it must be auto, or a whole number of samples from 1 on"),
    ({"micro_batch": 0}, "--micro-batch 0: it must be auto"),
    ({"memory": "12"}, "--memory 12: it must be a number with its unit, such as 12GB"),
    ({"memory": "1GB", "micro_batch": 4}, "--memory 1GB: it is for --micro-batch auto; leave it out"),
])
def test_what_is_no_size_is_refused(tmp_path: Path, random_model: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(RrrError, match=message) as error:
        grpo.run(options(tmp_path, random_model, **changes))
    assert error.value.exit_code == USAGE


def test_parts_are_whole_groups_while_there_are_enough_of_them() -> None:
    starts, rows = [0, 4, 8, 12, 16], 20
    assert even(starts, rows, 2) == [slice(0, 8), slice(8, 20)]
    assert even(starts, rows, 5) == [slice(i, i + 4) for i in starts]
    torn = even(starts, rows, 7)
    assert [part.stop - part.start for part in torn] == [2, 3, 3, 3, 3, 3, 3]
    assert torn[-1].stop == rows
    assert starts_of(Texts([(1, 1)] * rows, starts), 4) == starts
    assert starts_of(Texts([(1, 1)] * rows, starts), 10) == [0]


def test_a_configuration_that_names_no_single_size_has_a_shape() -> None:
    class Layers:
        hidden_size, num_hidden_layers, vocab_size, num_attention_heads = 8, 2, 50, 2
        intermediate_size = (16, 32)

        def get_text_config(self) -> Layers:
            return self

        @property
        def head_dim(self) -> int:
            raise ValueError("it differs between layers")

    assert Shape.of(Layers()) == Shape(2, 8, 32, queries=8, keys=8, heads=2, vocabulary=50)
