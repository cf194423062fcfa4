"""The options of `rrr grpo` as TRL's GRPOConfig: every value in which the paper or we differ from TRL's defaults.

Reads and writes nothing. Refuses batches that don't divide among processes and micro-batches.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from accelerate import PartialState
from trl import GRPOConfig

from rrr_cli.training.plan import in_half, on_gpu
from rrr_cli.training.settings import DEFAULT_LOSS, VLLM_CORRECTION, Options, Recipe, share_of

# --loss-per as TRL 1.16 has it. Each is a mean over the whole step, whatever the micro-batches and processes: "dapo"
# divides by the step's trained tokens, where "bnpo" would divide by those of a micro-batch; "dr_grpo" (arXiv
# 2503.20783) divides by the samples and by `max_completion_length`, a constant.
LOSS_TYPES = {"sequence": "grpo", "token": "dapo", "none": "dr_grpo"}


def grpo_config(options: Options, recipe: Recipe, output: Path, longest: int, how: dict[str, Any]) -> GRPOConfig:
    """One optimiser step = one generation of `recipe.batch` samples, so no sample is ever off-policy.

    `longest` is the longest text in tokens that vLLM must make room for, `how` is how TRL loads the model. Raises
    RrrError (exit 2): see the module.
    """
    cpu = not on_gpu(options)
    processes = PartialState(cpu=cpu).num_processes
    return GRPOConfig(
        output_dir=str(output), max_steps=recipe.steps, seed=options.seed,
        # A process has its share of the step at once; the trainer splits it, as memory allows.
        per_device_train_batch_size=share_of(options, recipe, processes), gradient_accumulation_steps=1,
        steps_per_generation=1,
        num_generations=recipe.group, num_iterations=1, shuffle_dataset=False, remove_unused_columns=False,
        max_completion_length=max(recipe.max_tokens, recipe.reflection_tokens),  # the sampler sets its own
        temperature=options.temperature, top_p=options.top_p, top_k=0,
        learning_rate=recipe.lr, weight_decay=0.0, max_grad_norm=1.0,
        lr_scheduler_type="constant_with_warmup" if recipe.schedule == "constant" else recipe.schedule,
        warmup_steps=round(recipe.warmup * recipe.steps),
        # GRPO as RRR used it: TRL now corrects the KL's gradient for sampling from the policy (DeepSeek-V3.2).
        use_bias_correction_kl=False, beta=options.beta, scale_rewards=options.scale_rewards,
        loss_type=LOSS_TYPES[options.loss_per or DEFAULT_LOSS], model_init_kwargs=how,
        bf16=in_half(options), use_cpu=cpu,
        # The other kind loses the gradient of an adapter, whose inputs have none.
        gradient_checkpointing=options.gradient_checkpointing, gradient_checkpointing_kwargs={"use_reentrant": False},
        dataloader_pin_memory=not cpu,
        use_vllm=options.vllm is not None, vllm_mode=options.vllm or "colocate",
        vllm_gpu_memory_utilization=options.vllm_memory, vllm_server_base_url=options.vllm_url,
        vllm_max_model_length=longest, vllm_enable_sleep_mode=options.vllm == "colocate", **VLLM_CORRECTION,
        # The recorder logs, saves and shows progress.
        logging_steps=1, logging_nan_inf_filter=False, save_strategy="no", report_to="none", disable_tqdm=True,
    )
