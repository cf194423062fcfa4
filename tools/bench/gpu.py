"""The largest micro-batch that the peer has room for on a GPU: it doesn't find that out by itself."""

from __future__ import annotations

import gc

import torch


def largest_micro_batch(model: str, tokens: int, completion: int, choices: tuple[int, ...] = (64, 32, 16, 8, 4)) -> int:
    """Samples of `tokens` tokens of which one pass of TRL's takes the most, beside weights, gradients, what AdamW
    remembers, and a reference; all in float32 but for the arithmetic. Raises RuntimeError: not even the fewest."""
    from transformers import AutoModelForCausalLM
    from trl.trainer.utils import add_fused_lm_head

    lm = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).cuda().train()
    add_fused_lm_head(lm, temperature=1.0, outputs=("log_probs", "entropy"))
    numbers = sum(weight.numel() for weight in lm.parameters())
    held = [torch.empty(numbers, device="cuda") for _ in range(3)]  # two moments and the reference
    for weight in lm.parameters():
        weight.grad = torch.zeros_like(weight)
    found, out = 0, None
    for rows in choices:
        ids = torch.randint(6, 100, (rows, tokens), device="cuda")
        labels = ids.clone()
        labels[:, : tokens - completion] = -100
        try:
            with torch.autocast("cuda", torch.bfloat16):
                out = lm(input_ids=ids, attention_mask=torch.ones_like(ids), labels=labels, fused_lm_head=True)
            out.log_probs.sum().backward()
            found = rows
            break
        except torch.OutOfMemoryError:
            pass
        out = None
        gc.collect()
        torch.cuda.empty_cache()
    del lm, held, out
    gc.collect()
    torch.cuda.empty_cache()
    if not found:
        raise RuntimeError(f"no memory for {choices[-1]} samples")
    return found

