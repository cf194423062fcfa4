"""The options of `rrr grpo` with its two presets, those of supervised training, and which of them make another run.

Standard library only: the command line imports it at start. Refuses values that aren't among an option's choices, and
batches that aren't whole groups.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from rrr_cli.errors import USAGE, RrrError
from rrr_cli.options import RunOptions, check_options, option, own_samples, retry_context


@dataclass(frozen=True)
class Recipe:
    """The part of the options that a preset fills in."""

    steps: int
    batch: int
    group: int
    lora: int
    lr: float
    schedule: str
    warmup: float
    reflection_tokens: int
    max_tokens: int
    save_every: int


PRESETS = {
    "quick": Recipe(
        steps=45, batch=128, group=16, lora=16, lr=1e-3, schedule="constant", warmup=0.0, reflection_tokens=96,
        max_tokens=96, save_every=10,
    ),
    # RRR, section 4.3: batch, steps, learning rate and schedule. It doesn't publish group size or token limits.
    "paper": Recipe(
        steps=1750, batch=256, group=8, lora=0, lr=5e-7, schedule="cosine", warmup=0.03, reflection_tokens=512,
        max_tokens=1024, save_every=25,
    ),
}

# They say where or how fast, not what: a run may be gone on with under others.
NOT_CONFIGURATION = {
    "run", "input", "overwrite", "dry_run", "preset", "resume", "save_every", "micro_batch", "shared_prefix",
    "gradient_checkpointing", "device", "vllm_memory", "vllm_url",
}


@dataclass(frozen=True)
class Options(RunOptions):
    """Options of `rrr grpo`. None stands for the preset's value."""

    input: Path | None = option(None, "Run whose failures are learnt from.  [default: --run itself]")
    model: str | None = option(None, "Model to train: tiny, a folder, or a hub id.  [default: the one mined]")
    preset: str = option(
        "quick", "quick (minutes on a CPU) or paper (arXiv 2505.24726); options given win over it.",
        choices=tuple(PRESETS),
    )
    objective: str = option(
        "reflection",
        "What is trained. reflection (the paper): the reflection's tokens, by the retry's verdict. answer: ordinary "
        "GRPO on a first answer to the same problems, without reflections. reflection+answer: reflection and retry as "
        "one conversation, by the retry's verdict; the request between isn't trained. Or path/to/file.py:Class.",
    )
    steps: int | None = option(
        None, "Optimiser steps.  [quick: 45, paper: 1750; as many as --token-budget takes]", least=1
    )
    token_budget: int | None = option(
        None, "Stop after the step in which this many tokens were generated in all (reflections, retries, answers), "
        "unless --steps comes first.", least=1,
    )
    batch: int | None = option(None, "Samples a step, over all processes.  [quick: 128, paper: 256]", least=2)
    group: int | None = option(None, "Samples of the same failure.  [quick: 16, paper: 8]", least=2)
    lora: int | None = option(
        None, "Rank of a LoRA adapter to train; 0 trains all weights.  [quick: 16, paper: 0]", least=0
    )
    lr: float | None = option(None, "Highest learning rate.  [quick: 1e-3, paper: 5e-7]", least=0)
    schedule: str | None = option(
        None, "constant, cosine or linear.  [quick: constant, paper: cosine]", choices=("constant", "cosine", "linear")
    )
    warmup: float | None = option(None, "Share of the steps that warms up.  [quick: 0, paper: 0.03]", least=0)
    reflection_tokens: int | None = option(None, "Most tokens of a reflection.  [quick: 96, paper: 512]", least=1)
    max_tokens: int | None = option(None, "Most tokens of a retry, or of an answer.  [quick: 96, paper: 1024]", least=1)
    save_every: int | None = option(None, "Steps between checkpoints.  [quick: 10, paper: 25]", least=1)
    resume: bool = option(False, "Refuse to start anew; a run goes on from its newest whole checkpoint anyway.")
    beta: float = option(0.001, "Weight of the KL to the untrained model; 0 needs no second model.", least=0)
    temperature: float = option(1.0, "Of all that is sampled.", least=0.01)
    top_p: float = option(1.0, "Nucleus sampling; the loss assumes 1, which keeps all.", least=0.01, most=1)
    scale_rewards: str = option(
        "group", "Advantages are divided by the spread of the group, the batch, or none.",
        choices=("group", "batch", "none"),
    )
    retry_context: str = retry_context()
    zero_leaks: bool = option(False, "No reward where the reflection holds the reference answer word for word.")
    dtype: str = option(
        "auto", "Arithmetic: float32 or bfloat16; weights stay float32.  [auto: bfloat16 on a GPU]",
        choices=("auto", "float32", "bfloat16"),
    )
    device: str = option("auto", "auto or cpu; CUDA_VISIBLE_DEVICES chooses among GPUs.", choices=("auto", "cpu"))
    micro_batch: int | None = option(None, "Samples a forward pass, per process; less for less memory.", least=1)
    shared_prefix: bool = option(True, "Compute a group's prompt once in training; off is TRL's own forward.")
    gradient_checkpointing: bool = option(False, "Less memory, more time.")
    vllm: str | None = option(
        None, "Generate with vLLM: colocate (on the training GPU) or server (trl vllm-serve).",
        choices=("colocate", "server"),
    )
    vllm_memory: float = option(0.3, "Share of the GPU's memory for vLLM with --vllm colocate.", least=0.05)
    vllm_url: str | None = option(None, "Address of the server for --vllm server.  [TRL's: http://0.0.0.0:8000]")


@dataclass(frozen=True)
class Supervised(RunOptions):
    """What train-reflector and self-train have in common; defaults are those of Re-ReST's code."""

    input: Path | None = option(None, "Run whose attempts are learnt from.  [default: --run itself]")
    model: str | None = option(None, "Model to train: tiny, a folder, or a hub id.  [default: the one mined]")
    own_samples: int | None = own_samples()
    epochs: int = option(3, "Passes over the texts.", least=1)
    batch: int = option(128, "Texts a step.", least=1)
    lr: float | None = option(None, "Highest learning rate; cosine.  [SFT: 3e-4, DPO: 5e-5]", least=0)
    warmup: float = option(0.03, "Share of the steps that warms up.", least=0, most=1)
    lora: int = option(8, "Rank of a LoRA adapter, alpha twice the rank; 0 trains all weights.", least=0)
    lora_targets: str = option("q_proj,v_proj", "Layers that the adapter is on, or all-linear.")
    dropout: float = option(0.05, "Of the adapter.", least=0, most=1)
    held_out: float = option(
        0.05, "Share of the problems kept for the held-out loss; 0 looks at none.", least=0, most=0.5
    )
    patience: int = option(2, "Stop after this many epochs without a lower held-out loss.", least=1)
    max_length: int | None = option(
        None, "Longest text in tokens; longer ones are left out.  [default: the model's window]", least=2
    )
    micro_batch: int = option(16, "Texts a forward pass; less for less memory.", least=1)
    dtype: str = option(
        "auto", "Arithmetic: float32 or bfloat16; weights stay float32.  [auto: bfloat16 on a GPU]",
        choices=("auto", "float32", "bfloat16"),
    )
    device: str = option("auto", "auto or cpu; CUDA_VISIBLE_DEVICES chooses among GPUs.", choices=("auto", "cpu"))
    gradient_checkpointing: bool = option(False, "Less memory, more time.")


def recipe_of(options: Options) -> Recipe:
    """The preset, with the options that were given. Raises RrrError (exit 2) for values that can't be."""
    check_options(options)
    given = {f.name: getattr(options, f.name) for f in fields(Recipe) if getattr(options, f.name) is not None}
    recipe = replace(PRESETS[options.preset], **given)
    if options.token_budget is not None and options.steps is None:
        if recipe.schedule != "constant" or recipe.warmup > 0:
            raise RrrError(
                f"--token-budget {options.token_budget}: a learning rate that changes needs to know how many --steps "
                f"there are: give them too, or --schedule constant --warmup 0", USAGE,
            )
        recipe = replace(recipe, steps=-(-options.token_budget // recipe.batch))  # a sample is at least one token
    if recipe.batch % recipe.group:
        raise RrrError(
            f"--batch {recipe.batch} is not a multiple of --group {recipe.group}, and a step is made of whole groups: "
            f"try --batch {max(1, recipe.batch // recipe.group) * recipe.group}",
            USAGE,
        )
    return recipe


def configuration(options: Options | Supervised, recipe: Recipe | None = None) -> dict[str, Any]:
    """The options that define the weights and the rows; a run is gone on with only under the same ones."""
    values = asdict(options) | (asdict(recipe) if recipe else {})
    return {name: value for name, value in values.items() if name not in NOT_CONFIGURATION}
