"""The training pass alone: log-probabilities of a step's reflections, and their gradient.

Ours computes a group's prompt once; the peer is the plain forward with `logits_to_keep`, as it is written by hand. Each
answer has the pass's peak memory (above weights and gradients); the first leaves the gradient in a file.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from meter import Meter, forget_peak, peak_mib
from shapes import CONTEXT, MARKS, Shape, make_model

GRADIENT = "gradient.pt"

Pass = Callable[[Any, torch.Tensor, int], torch.Tensor]  # model, ids (B, P + L), L -> log-probabilities (B, L)


def shared(model: Any, ids_B_T: torch.Tensor, length: int) -> torch.Tensor:
    """The pass of our trainer."""
    from rrr_cli.training.shared_prefix import log_probabilities

    return log_probabilities(model, ids_B_T, torch.ones_like(ids_B_T), length)[0]


def plain(model: Any, ids_B_T: torch.Tensor, length: int) -> torch.Tensor:
    """Every row with its prompt; the LM head on the completion alone."""
    from trl.trainer.utils import selective_log_softmax

    out = model(input_ids=ids_B_T, attention_mask=torch.ones_like(ids_B_T), logits_to_keep=length + 1, use_cache=False)
    logps: torch.Tensor = selective_log_softmax(out.logits[:, :-1], ids_B_T[:, -length:])
    return logps


def ours(shape: Shape, folder: Path, meter: Meter) -> None:
    """See `shared`."""
    from trl.trainer.utils import add_fused_lm_head

    from rrr_cli.training.memory import size_tiles
    from rrr_cli.training.shared_prefix import longest

    size_tiles(gpu=False)
    model = load(shape, folder)
    add_fused_lm_head(model, temperature=1.0, outputs=("log_probs", "entropy"))  # as GRPOTrainer does
    assert longest(model) >= CONTEXT
    serve(shape, model, shared, folder / GRADIENT, meter)


def stock(shape: Shape, folder: Path, meter: Meter) -> None:
    """See `plain`."""
    serve(shape, load(shape, folder), plain, folder / GRADIENT, meter)


def load(shape: Shape, folder: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(make_model(shape.model, folder), dtype=torch.float32).train()


def serve(shape: Shape, model: Any, one_pass: Pass, gradient: Path, meter: Meter) -> None:
    """Answer with a pass and its peak each time."""
    ids_B_T = batch(shape, model.config.vocab_size)
    weights_B_1 = torch.linspace(-1, 1, shape.rows)[:, None]  # in place of advantages
    one_pass(model, ids_B_T[: shape.group, -12:], 4).sum().backward()  # so that the gradients have their memory

    def work() -> dict[str, Any]:
        model.zero_grad(set_to_none=False)
        before = forget_peak()
        (one_pass(model, ids_B_T, shape.reflection) * weights_B_1).mean().backward()
        peak = peak_mib() - before
        if not gradient.exists():
            torch.save(torch.cat([p.grad.flatten() for p in model.parameters()]), gradient)
        return {"peak_mib": peak, "lengths": list(ids_B_T.shape)}

    meter.repeat(work)


def batch(shape: Shape, vocabulary: int) -> torch.Tensor:
    """Ids (B, P + L), a prompt a group."""
    draw = torch.Generator().manual_seed(1)
    prompts = torch.randint(len(MARKS), vocabulary, (shape.rows // shape.group, shape.prompt), generator=draw)
    completions = torch.randint(len(MARKS), vocabulary, (shape.rows, shape.reflection), generator=draw)
    return torch.cat([prompts.repeat_interleave(shape.group, 0), completions], 1)


def same_gradient(folder: Path) -> str:
    """How far the two gradients are apart, relative to the largest. Raises AssertionError: more than 1e-5."""
    ours, stock = (torch.load(folder / name / GRADIENT) for name in ("ours", "stock"))
    apart = float((ours - stock).abs().max() / stock.abs().max())
    assert apart <= 1e-5, f"the gradients differ by {apart:.1e} of the largest"
    return f"gradients equal to {apart:.0e}"
