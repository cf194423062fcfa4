"""The next token of each row from its logits and a uniform number: pure.

The inverse of the cumulative distribution, in float64 and in the order of the vocabulary: see `decoding.py`. A large
vocabulary is summed in blocks, of which one is then summed token by token; the nucleus of top_p is found among the
likeliest tokens, without sorting the others.
"""

from __future__ import annotations

import torch

from rrr_cli.engines.base import Sampling

BLOCK = 256  # tokens
LARGE = 16 * BLOCK  # a vocabulary from here on is summed in blocks
LIKELIEST = 1024  # tokens among which a nucleus is sought first


def pick(logits_R_V: torch.Tensor, uniforms_R: torch.Tensor, sampling: Sampling) -> torch.Tensor:
    """Tokens (R,) from logits (R, V): argmax at temperature 0, else the inverse of the cumulative distribution at (R,)
    uniforms. V, which is no token, where a probability isn't a number."""
    vocabulary = logits_R_V.shape[1]
    if sampling.temperature == 0:
        tokens_R = logits_R_V.argmax(-1)
        return tokens_R.masked_fill(logits_R_V.gather(-1, tokens_R[:, None])[:, 0].isnan(), vocabulary)
    scaled = logits_R_V.float() if sampling.temperature == 1 else logits_R_V.float() / sampling.temperature
    probs_R_V = torch.softmax(scaled, -1)
    if sampling.top_p < 1:
        probs_R_V = nucleus(probs_R_V, sampling.top_p)
    return (inverse if vocabulary < LARGE else inverse_by_blocks)(probs_R_V, uniforms_R)


def inverse(probs_R_V: torch.Tensor, uniforms_R: torch.Tensor) -> torch.Tensor:
    """The first token whose share of the cumulative sum exceeds the uniform; never one of probability 0."""
    cdf = probs_R_V.cumsum(-1, dtype=torch.float64)
    return torch.searchsorted(cdf, uniforms_R[:, None] * cdf[:, -1:], right=True)[:, 0]


def inverse_by_blocks(probs_R_V: torch.Tensor, uniforms_R: torch.Tensor) -> torch.Tensor:
    """`inverse`, of which only the block that the uniform falls into is summed token by token."""
    vocabulary = probs_R_V.shape[1]
    whole = vocabulary // BLOCK
    sums = probs_R_V[:, : whole * BLOCK].unflatten(1, (whole, BLOCK)).sum(-1, dtype=torch.float64)
    rest = probs_R_V[:, whole * BLOCK :].sum(-1, keepdim=True, dtype=torch.float64)
    cdf = torch.cat([sums, rest], 1).cumsum(-1)
    wanted = uniforms_R[:, None] * cdf[:, -1:]
    block = torch.searchsorted(cdf, wanted, right=True).clamp(max=whole)
    before = torch.where(block > 0, cdf.gather(1, (block - 1).clamp(min=0)), 0.0)
    places = block * BLOCK + torch.arange(BLOCK, device=block.device)
    probs = probs_R_V.gather(1, places.clamp(max=vocabulary - 1)).masked_fill(places >= vocabulary, 0.0)
    within = before + probs.cumsum(-1, dtype=torch.float64)
    # both sums round, so that the block's own may end a hair before what was wanted of it
    wanted = torch.minimum(wanted, torch.nextafter(within[:, -1:], before))
    tokens_R = (block * BLOCK + torch.searchsorted(within, wanted, right=True))[:, 0]
    return tokens_R.masked_fill(~(cdf[:, -1] > 0), vocabulary)


def nucleus(probs_R_V: torch.Tensor, top_p: float) -> torch.Tensor:
    """The probabilities without those of tokens outside the smallest set that has `top_p` of them, of equal ones the
    first in the vocabulary within it."""
    most = LIKELIEST if probs_R_V.shape[1] >= LARGE else 0
    ranked = probs_R_V.topk(most).values
    if bool((ranked.sum(-1, dtype=torch.float64) <= top_p).any()):
        ranked = probs_R_V.sort(dim=-1, descending=True).values
    above = ranked.cumsum(-1, dtype=torch.float64) - ranked
    size_R = (above < top_p).sum(-1, keepdim=True)
    least = ranked.gather(1, (size_R - 1).clamp(min=0))  # in the set
    inside = probs_R_V >= least
    if bool((inside.sum(-1, keepdim=True) > size_R).any()):  # some of the least probability are outside
        equal = probs_R_V == least
        left = size_R - (probs_R_V > least).sum(-1, keepdim=True)
        inside = (probs_R_V > least) | (equal & (equal.cumsum(-1) <= left))
    return probs_R_V.masked_fill(~inside, 0.0)
