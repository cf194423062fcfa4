"""The largest micro-batch that the peer has room for on a GPU: it doesn't find that out by itself."""

from __future__ import annotations

import gc

import torch


def largest_micro_batch(model: str, rows: int, tokens: int, completion: int) -> int:
    """The largest power of two of a step's `rows` samples, of `tokens` tokens each, that one pass of TRL's has room for
    beside weights, gradients, what AdamW remembers, and a reference; all in float32 but for the arithmetic.

    Raises RuntimeError: not even one sample.
    """
    from transformers import AutoModelForCausalLM
    from trl.trainer.utils import add_fused_lm_head

    lm = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).cuda().train()
    add_fused_lm_head(lm, temperature=1.0, outputs=("log_probs", "entropy"))
    numbers = sum(weight.numel() for weight in lm.parameters())
    held = [torch.empty(numbers, device="cuda") for _ in range(3)]  # two moments and the reference
    for weight in lm.parameters():
        weight.grad = torch.zeros_like(weight)
    found, out = 0, None
    for samples in [2**k for k in range(6, -1, -1) if rows % 2**k == 0]:
        ids = torch.randint(6, 100, (samples, tokens), device="cuda")
        labels = ids.clone()
        labels[:, : tokens - completion] = -100
        try:
            with torch.autocast("cuda", torch.bfloat16):
                out = lm(input_ids=ids, attention_mask=torch.ones_like(ids), labels=labels, fused_lm_head=True)
            out.log_probs.sum().backward()
            found = samples
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
        raise RuntimeError("no memory for one sample")
    return found
