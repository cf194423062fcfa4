"""The arithmetic that a training is done in, and what `rrr grpo --dry-run` says of its memory.

Reads the headers of a model's weights, and how much memory is free; writes nothing.
"""

from __future__ import annotations

import os
from math import prod
from pathlib import Path
from typing import Any

from rrr_cli.engines.devices import free_memory, has_flash, has_gpu
from rrr_cli.engines.model_files import header
from rrr_cli.engines.model_files import weights as weight_files
from rrr_cli.training.memory import GB, USED, Cost, Shape, Weights, check_room
from rrr_cli.training.parts import Texts, even, fewest, most, starts_of
from rrr_cli.training.settings import Options, Recipe, bytes_of, samples, share_of


def on_gpu(options: Options) -> bool:
    """Whether the training runs on a GPU."""
    return options.device != "cpu" and has_gpu()


def in_half(options: Options) -> bool:
    """Whether its arithmetic is bfloat16."""
    return options.dtype == "bfloat16" or (options.dtype == "auto" and on_gpu(options))


def frozen_in_half(options: Options, recipe: Recipe) -> bool:
    """Whether weights that aren't trained are bfloat16 too: under an adapter, on a GPU.

    Not with vLLM: TRL adds the adapter to them and takes it off again at each sync, and in bfloat16 they would drift.
    """
    return recipe.lora > 0 and options.vllm is None and on_gpu(options) and in_half(options)


def numbers_in(folder: Path) -> int:
    """How many numbers a model's weights are."""
    return sum(prod(tensor["shape"]) for path in weight_files(folder) for tensor in header(path)[1].values())


def lengths(options: Options, recipe: Recipe, longest: int) -> tuple[int, int]:
    """(prompt, trained completion) in tokens of a sample at its limits; `longest` is that of the longest text."""
    written = recipe.max_tokens if options.objective in ("answer", "distil") else (
        recipe.reflection_tokens + recipe.max_tokens)
    trained = recipe.reflection_tokens if options.objective == "reflection" else written
    return max(1, longest - written), trained


def device_of(options: Options) -> Any:
    """The torch.device that trains; None where it's the CPU."""
    if not on_gpu(options):
        return None
    import torch

    return torch.device("cuda")


def plan(
    options: Options, recipe: Recipe, shape: Shape, numbers: int, longest: int, sdpa: bool = True
) -> dict[str, Any]:
    """How a step would be split, were all texts at their limits; of one process. A training splits by real lengths."""
    gpu, half = on_gpu(options), in_half(options)
    cost = Cost(
        shape, half, gpu, flash=half and has_flash(device_of(options)), shared=options.shared_prefix and sdpa,
        eager=not sdpa, trains_head=recipe.lora == 0, checkpointing=options.gradient_checkpointing)
    fixed = Weights.planned(
        numbers, shape.adapted(recipe.lora), half=half, frozen_half=frozen_in_half(options, recipe),
        reference=options.beta > 0 or options.freeze_actor).fixed
    limit = bytes_of(options.memory, "--memory") if options.memory else int(USED * free_memory(device_of(options)))
    rows = share_of(options, recipe, int(os.environ.get("WORLD_SIZE", 1)))
    texts = Texts([lengths(options, recipe, longest)] * rows, range(0, rows, recipe.group))
    if options.memory:
        check_room(options.memory, limit, fixed)
    cost, parts = split(texts, cost, limit - fixed, samples(options))
    taken = most(texts, cost, parts, gradient=True)
    largest = max(parts, key=lambda part: part.stop - part.start)
    return {
        "micro_batches": len(parts), "samples": largest.stop - largest.start,
        "groups": (largest.stop - largest.start) / recipe.group, "tokens": texts.load(largest, cost.shared).tokens,
        "estimated_gb": round(taken / GB, 2), "free_gb": round((limit - fixed) / GB, 2),
        "weights_and_optimiser_gb": round(fixed / GB, 2), "fits": taken <= limit - fixed,
        "gradient_checkpointing": cost.checkpointing,
        "estimated_from": "layers, widths and --dtype, for texts at their token limits",
        "memory_from": "--memory" if options.memory else f"{USED:.0%} of what is free now",
    }


def split(texts: Texts, cost: Cost, room: int, samples: int | None) -> tuple[Cost, list[slice]]:
    """The parts of a step, and the cost with gradient checkpointing where not even one group fits without."""
    rows = len(texts.rows)
    if samples is None and not cost.checkpointing and fewest(texts, cost, room, True, whole=True) is None:
        cost = cost.checkpointed()
    parts = rows // samples if samples else fewest(texts, cost, room, True) or rows
    return cost, even(starts_of(texts, samples), rows, max(1, parts))
