"""What is trained is the model, whole: policy and reference, in GRPO and in supervised training."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("trl")

from grpo_runs import PARITY, mine, options

from rrr_cli.errors import BAD_INPUT, RrrError
from rrr_cli.stages import grpo


@pytest.fixture
def broken(random_model: Path, tmp_path: Path) -> Path:
    """The random model without the norm at its end."""
    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(random_model, tmp_path / "broken")
    tensors = load_file(folder / "model.safetensors")
    del tensors["model.norm.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.mark.parametrize("command", ["grpo", "self-train"])
def test_a_model_that_lacks_a_tensor_is_not_trained(rrr, broken, tmp_path, command):
    run = tmp_path / "run"
    mine(run)
    kept = run / "models" / "policy"
    kept.mkdir(parents=True)
    before = sorted(run.rglob("*"))
    texts = ("--texts", "own") if command == "self-train" else ()
    ran = rrr(command, "--run", run, "--task", PARITY, "--model", broken, "--overwrite", *texts)
    assert (ran.code, ran.out) == (BAD_INPUT, ""), ran.err
    assert "1 tensors aren't in its files (model.norm.weight)" in ran.err.splitlines()[-1]
    assert "Traceback" not in ran.err
    assert sorted(run.rglob("*")) == before


def test_policy_and_reference_compute_the_soft_cap(random_model, tmp_path):
    import torch
    from transformers import Gemma2Config, Gemma2ForCausalLM

    torch.manual_seed(0)
    folder = shutil.copytree(random_model, tmp_path / "capped")
    size = json.loads((folder / "config.json").read_text())["vocab_size"]
    Gemma2ForCausalLM(Gemma2Config(
        vocab_size=size, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, head_dim=16, max_position_embeddings=256, attn_logit_softcapping=0.5, pad_token_id=0,
        bos_token_id=1, eos_token_id=2)).save_pretrained(folder)
    mine(tmp_path / "run")
    session = grpo.prepare(options(tmp_path / "run", folder, beta=0.01))
    session.configure()
    trainer = session.trainer()
    kinds = {model.config._attn_implementation for model in (trainer.model, trainer.ref_model)}
    assert kinds == {"eager"}
    assert all(map(torch.equal, trainer.model.state_dict().values(), trainer.ref_model.state_dict().values()))


def test_a_configuration_that_names_another_class_is_refused(random_model, tmp_path):
    folder = shutil.copytree(random_model, tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"architectures": ["LlamaModel"]}))
    mine(tmp_path / "run")
    refused_dry_or_not(tmp_path / "run", folder, "names LlamaModel .*LlamaForCausalLM")


def test_a_dry_run_refuses_cut_weights_as_the_training_does(random_model, tmp_path):
    folder = shutil.copytree(random_model, tmp_path / "model")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    mine(tmp_path / "run")
    refused_dry_or_not(tmp_path / "run", folder, "is cut")


def refused_dry_or_not(run: Path, model: Path, says: str) -> None:
    """A training and the process of its dry run, which has no torch, end with the same line."""
    with pytest.raises(RrrError, match=says) as caught:
        grpo.prepare(options(run, model))
    assert caught.value.exit_code == BAD_INPUT
    command = ["grpo", "--run", run, "--task", PARITY, "--model", model, "--dry-run"]
    ran = subprocess.run([sys.executable, "-m", "rrr_cli", *map(str, command)], capture_output=True, text=True)
    assert (ran.returncode, ran.stdout) == (BAD_INPUT, "")
    assert ran.stderr.splitlines()[-1] == f"rrr: {caught.value}"
