"""The options of `rrr grpo` with its two presets, and those of supervised training.

Standard library only: the command line imports it at start. Refuses values that aren't among an option's choices, and
batches that aren't whole groups.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from rrr_cli import options as shared
from rrr_cli.errors import USAGE, RrrError
from rrr_cli.options import TaskOptions, check_options, option, refuse_given

ARITHMETIC = ("Arithmetic: float32 or bfloat16; what is trained stays float32.", ("auto", "float32", "bfloat16"))
TRAINING_DEVICE = ("auto or cpu; CUDA_VISIBLE_DEVICES chooses among GPUs.", ("auto", "cpu"))

DEFAULT_LOSS = "sequence"  # --loss-per, where neither the user nor the objective says otherwise


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


def check_reward_on(value: str, flag: str) -> None:
    """Raise RrrError (exit 2) unless `value` is same or other:K."""
    if value != "same" and not re.fullmatch("other:[1-9][0-9]*", value):
        raise RrrError(f"{flag} {value}: it must be same, or other:K with a whole number K from 1 on", USAGE)


def others_of(reward_on: str) -> int:
    """K of other:K; 0 of same."""
    return int(reward_on.partition(":")[2] or 0)


def check_micro_batch(value: int | str, flag: str) -> None:
    """Raise RrrError (exit 2) unless `value` is auto or a whole number from 1 on."""
    if value != "auto" and not re.fullmatch("[1-9][0-9]*", str(value)):
        raise RrrError(f"{flag} {value}: it must be auto, or a whole number of samples from 1 on", USAGE)


def samples(options: Options) -> int | None:
    """Of a micro-batch, as the user says; None: auto."""
    return None if options.micro_batch == "auto" else int(options.micro_batch)


def share_of(options: Options, recipe: Recipe, processes: int) -> int:
    """Samples of a step in each process. Raises RrrError (exit 2): they aren't whole micro-batches."""
    own = samples(options) or max(1, recipe.batch // processes)
    if recipe.batch % (processes * own):
        raise RrrError(
            f"--batch {recipe.batch} doesn't divide into {processes} processes with micro-batches of {own}: "
            f"--batch must be a multiple of {processes * own}", USAGE)
    return recipe.batch // processes


UNITS = {"MB": 10**6, "GB": 10**9, "MIB": 2**20, "GIB": 2**30}


def bytes_of(text: str, flag: str) -> int:
    """12GB, 500MB or 16GiB as a number. Raises RrrError (exit 2)."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?) ?([MG]i?B)", text, re.IGNORECASE)
    if found is None or not float(found[1]):
        raise RrrError(f"{flag} {text}: it must be a number with its unit, such as 12GB, 500MB or 16GiB", USAGE)
    return int(float(found[1]) * UNITS[found[2].upper()])


@dataclass(frozen=True)
class Options(TaskOptions):
    """Options of `rrr grpo`. None stands for the preset's value."""

    input: Path | None = shared.input_run("failed attempts")
    limit: int | None = option(None, "Learn from at most this many failures.", least=1, panel="Run")
    model: str | None = shared.model(None, "is trained")
    preset: str = option(
        "quick", "quick (minutes on a CPU) or paper (arXiv 2505.24726); options given win over it.",
        choices=tuple(PRESETS), identity=False, panel="Method")
    objective: str = option(
        "reflection", "What is trained: {known}, or path/to/file.py:Class. reflection (the paper): the reflection's "
        "tokens, by the retry's verdict. answer: ordinary GRPO on a first answer to the same problems, without "
        "reflections. reflection+answer: reflection and retry as one conversation, by the retry's verdict; the request "
        "between isn't trained. attempts: new tries with reflections between them, each by what came of it. distil: "
        "retries, as first answers.", panel="Method")
    steps: int | None = option(
        None, "Optimiser steps.  [quick: 45, paper: 1750; as many as --token-budget takes]", least=1, panel="Optimiser")
    token_budget: int | None = option(
        None, "Stop after the step in which this many tokens were generated in all (reflections, retries, answers), "
        "unless --steps comes first.", least=1, panel="Run")
    batch: int | None = option(
        None, "Samples a step, over all processes.  [quick: 128, paper: 256]", least=2, panel="Optimiser")
    group: int | None = option(None, "Samples of the same failure.  [quick: 16, paper: 8]", least=2, panel="Method")
    lora: int | None = option(
        None, "Rank of a LoRA adapter to train; 0 trains all weights.  [quick: 16, paper: 0]", least=0, panel="LoRA")
    lr: float | None = option(None, "Highest learning rate.  [quick: 1e-3, paper: 5e-7]", least=0, panel="Optimiser")
    schedule: str | None = option(
        None, "constant, cosine or linear.  [quick: constant, paper: cosine]", choices=("constant", "cosine", "linear"),
        panel="Optimiser")
    warmup: float | None = option(
        None, "Share of the steps that warms up.  [quick: 0, paper: 0.03]", least=0, panel="Optimiser")
    reflection_tokens: int | None = shared.reflection_tokens("those of reflect; else quick: 96, paper: 512")
    max_tokens: int | None = shared.max_tokens("a retry, or of an answer")
    template_args: str | None = shared.template_args()
    keep_thoughts: bool = shared.keep_thoughts()
    save_every: int | None = option(
        None, "Steps between checkpoints.  [quick: 10, paper: 25]", least=1, identity=False, panel="Run")
    resume: bool = option(
        False, "Refuse to start anew; a run is resumed from its newest whole checkpoint anyway.", identity=False,
        panel="Run")
    beta: float = option(
        0.001, "Weight of the KL to the untrained model; 0 needs no second model.", least=0, panel="Method")
    temperature: float = option(1.0, "Of all that is sampled.", least=0.01, panel="Sampling")
    top_p: float = option(
        1.0, "Nucleus sampling; the loss assumes 1, which keeps all.", least=0.01, most=1, panel="Sampling")
    scale_rewards: str = option(
        "group", "Advantages are divided by the spread of the group, the batch, or none.",
        choices=("group", "batch", "none"), panel="Method")
    retry_context: str = shared.retry_context()
    feedback: str | None = shared.reflect_feedback("that of reflect, else binary")
    sample_failures: str = shared.sample_failures()
    freeze_actor: bool = option(
        False, "Retries are written by the model as it was before training: the reflections alone can improve.",
        panel="Reward")
    retries: int = option(1, "Retries after each reflection; its reward is their mean.", least=1, panel="Reward")
    no_answers: bool = option(
        False, "No reward where a right answer stands in the reflection, as the verifier judges.", panel="Reward")
    reward_on: str = option(
        "same", "same: a retry of the failed problem. other:K: the mean success on K other problems of the same level, "
        "with the reflection as a hint; an answer in it earns nothing there.", check=check_reward_on, panel="Reward")
    length_cost: float = option(
        0.0, "Reward taken away for each token of the reflection. With --scale-rewards group, any cost ranks a group "
        "of equal verdicts by length; none keeps it small.", least=0, panel="Reward")
    loss_per: str | None = option(
        None, "The loss is a mean over each text's tokens (sequence; GRPO), over all tokens of the step (token; DAPO), "
        "or a sum over tokens by the larger token limit (none; Dr. GRPO).  [default: attempts token, distil none, else "
        "sequence]",
        choices=("sequence", "token", "none"), panel="Method")
    attempts: int = option(
        2, "With --objective attempts: most tries of a sample, which ends with its first pass.", least=2,
        panel="Method")
    gamma: float = option(
        0.6, "With --objective attempts: what a later try's return counts for the tries before it.", least=0, most=1,
        panel="Method")
    internalise: bool = option(
        False, "With --objective attempts: also learn right retries as first answers, after the bare problem.",
        panel="Method")
    skip_dead_groups: bool = option(
        False, "Leave groups whose rewards are all equal out of the update: the same gradient for less at --beta 0; "
        "above, their part of the KL is dropped too.", panel="Method")
    refill: int = option(
        0, "Rounds a step in which groups whose rewards are all equal are sampled anew on other failures (DAPO).",
        least=0, panel="Method")
    eval_every: int | None = option(
        None, "Steps between tests of the policy on problems kept aside from the training set.", least=1, panel="Run")
    eval_limit: int = option(100, "How many mined problems are kept aside for --eval-every.", least=1, panel="Run")
    dtype: str = shared.dtype(*ARITHMETIC)
    device: str = shared.device(*TRAINING_DEVICE)
    micro_batch: int | str = option(
        "auto", "Samples a forward pass, per process, or auto: as many whole groups as fit into memory.",
        check=check_micro_batch, identity=False, panel="Hardware")
    memory: str | None = option(
        None, "Memory that a process may take to train, weights included, such as 12GB.  [default: what is free]",
        check=bytes_of, identity=False, panel="Hardware")
    shared_prefix: bool = option(
        True, "Compute a group's prompt once in training; off is TRL's own forward.", identity=False, panel="Hardware")
    gradient_checkpointing: bool = option(False, "Less memory, more time.", identity=False, panel="Hardware")
    vllm: str | None = option(
        None, "Generate with vLLM: colocate (on the training GPU) or server (trl vllm-serve).",
        choices=("colocate", "server"), panel="vLLM")
    vllm_memory: float = option(
        0.3, "Share of the GPU's memory for vLLM with --vllm colocate.", least=0.05, most=1, identity=False,
        panel="vLLM")
    vllm_url: str | None = option(
        None, "Address of the server for --vllm server.  [TRL's: http://0.0.0.0:8000]", identity=False, panel="vLLM")


# How TRL corrects for vLLM's log-probabilities, which aren't quite the policy's own: a text that is more than 3 times
# as likely in the policy as in vLLM has no gradient. TRL's defaults, set and recorded so that no change is unseen.
VLLM_CORRECTION = {
    "vllm_importance_sampling_correction": True, "vllm_importance_sampling_mode": "sequence_mask",
    "vllm_importance_sampling_clip_max": 3.0,
}


@dataclass(frozen=True)
class Supervised(TaskOptions):
    """What train-reflector and self-train have in common; defaults are those of Re-ReST's code."""

    input: Path | None = shared.input_run("attempts")
    limit: int | None = option(None, "Learn from at most this many problems.", least=1, panel="Run")
    model: str | None = shared.model(None, "is trained")
    own_samples: int | None = shared.own_samples()
    epochs: int = option(3, "Passes over the texts.", least=1, panel="Optimiser")
    batch: int = option(128, "Texts a step.", least=1, panel="Optimiser")
    lr: float | None = option(
        None, "Highest learning rate; cosine.  [SFT: 3e-4, DPO: 5e-5]", least=0, panel="Optimiser")
    warmup: float = option(0.03, "Share of the steps that warms up.", least=0, most=1, panel="Optimiser")
    lora: int = option(8, "Rank of a LoRA adapter, alpha twice the rank; 0 trains all weights.", least=0, panel="LoRA")
    lora_targets: str = option("q_proj,v_proj", "Layers that the adapter is on, or all-linear.", panel="LoRA")
    dropout: float = option(0.05, "Of the adapter.", least=0, most=1, panel="LoRA")
    held_out: float = option(
        0.05, "Share of the problems kept for the held-out loss; 0 looks at none.", least=0, most=0.5,
        panel="Optimiser")
    patience: int = option(2, "Stop after this many epochs without a lower held-out loss.", least=1, panel="Optimiser")
    max_length: int | None = option(
        None, "Longest text in tokens; longer ones are left out.  [default: the model's window]", least=2,
        panel="Hardware")
    micro_batch: int = option(
        16, "Texts a forward pass; less for less memory.", least=1, identity=False, panel="Hardware")
    dtype: str = shared.dtype(*ARITHMETIC)
    device: str = shared.device(*TRAINING_DEVICE)
    gradient_checkpointing: bool = option(False, "Less memory, more time.", identity=False, panel="Hardware")
    template_args: str | None = shared.template_args()
    keep_thoughts: bool = shared.keep_thoughts()


def check_vllm(options: Options) -> None:
    """Raise RrrError (exit 2) for an option that means nothing in this mode of vLLM."""
    if options.vllm != "colocate":
        refuse_given(options, ["vllm_memory"], "it is for --vllm colocate")
    if options.vllm != "server":
        refuse_given(options, ["vllm_url"], "it is for --vllm server")
    if options.vllm is not None:
        refuse_given(options, ["freeze_actor"], f"with --vllm {options.vllm} only the trained weights can generate")


def recipe_of(options: Options) -> Recipe:
    """The preset, with the options that were given. Raises RrrError (exit 2) for values that can't be."""
    check_options(options)
    check_vllm(options)
    if samples(options) is not None:
        refuse_given(options, ["memory"], "it is for --micro-batch auto")
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


def given_by(recipe: Recipe) -> dict[str, Any]:
    """What the options that a preset fills in come to, for the run's identity; how often it saves isn't of it."""
    return {name: value for name, value in asdict(recipe).items() if name != "save_every"}


def rate(options: Supervised, method: str = "sft") -> float:
    """The learning rate of supervised training: --lr, or the method's own (Re-ReST's for SFT, TRL's order for DPO)."""
    return options.lr if options.lr is not None else {"sft": 3e-4, "dpo": 5e-5}[method]
