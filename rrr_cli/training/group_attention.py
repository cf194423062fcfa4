"""Attention of one row that holds groups, each a prompt and the completions after it: no mask over the whole row.

A completion sees its prompt and itself. The two are attended to apart and put together by their log-sum-exp (as in
flash attention, arXiv 2205.14135; ring attention, 2310.01889), so that nothing of the size rows x rows exists: on a CPU
part by part, in 16 bits on an NVIDIA GPU in two calls for all groups. Elsewhere, and with dropout, a group's
completions are one call with a mask. Reads and writes nothing. `register` puts it before transformers' own "sdpa",
which gets all calls whose mask isn't `Layout.as_mask`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from typing import Any, cast

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from rrr_cli.engines.devices import has_flash

LARGE_CHIPS = ((8, 0), (9, 0), (10, 0))  # compute capabilities
Part = tuple[slice, slice, bool]  # queries, keys, whether causal


@dataclass(frozen=True)
class Layout:
    """Where in a row its groups are: (start of the prompt, end of the prompt, end of each completion) of each."""

    bounds: tuple[tuple[int, ...], ...]
    made: dict[Any, Any] = field(default_factory=dict, repr=False, compare=False)  # once for all layers: masks, texts

    def as_mask(self, device: torch.device) -> torch.Tensor:
        """What a forward takes as its attention mask: of four dimensions, so transformers hands it to each layer as it
        is. Layers need not pass on anything else, and a checkpointed layer gets it again in backward."""
        mask = torch.ones(1, 1, 1, 1, dtype=torch.bool, device=device)
        mask.group_layout = self
        return mask

    def parts(self) -> Iterator[Part]:
        """What attends to what. A completion's rows come twice: to itself, then to its prompt."""
        for start, fork, *ends in self.bounds:
            if fork > start:
                yield slice(start, fork), slice(start, fork), True
            for first, end in pairwise((fork, *ends)):
                yield slice(first, end), slice(first, end), True
            if fork > start:
                yield slice(fork, ends[-1]), slice(start, fork), False

    def mask(self, group: int, like: torch.Tensor) -> torch.Tensor:
        """What is added to the scores of a group's completions over prompt and completions: 0, or -inf where unseen."""
        key = group, like.dtype, like.device
        if key not in self.made:
            start, fork, *ends = self.bounds[group]
            segments = torch.repeat_interleave(torch.tensor([b - a for a, b in pairwise((fork, *ends))]))
            own = (segments[:, None] == segments[None, :]).tril()
            seen = torch.cat([torch.ones(len(segments), fork - start, dtype=torch.bool), own], 1)
            self.made[key] = torch.zeros(seen.shape).masked_fill(~seen, -torch.inf).to(like)[None, None]
        return cast(torch.Tensor, self.made[key])

    def texts(self, device: torch.device) -> tuple[Texts, Texts | None]:
        """Each text after itself, causally; and what goes on from prompts after these, where there is any."""
        if device not in self.made:
            edges = sorted({edge for group in self.bounds for edge in group})
            prompted = [(start, fork, ends[-1]) for start, fork, *ends in self.bounds if ends and fork > start]
            self.made[device] = (
                Texts.of([(a, b) for a, b in pairwise(edges)], None, device),
                Texts.of([(fork, end) for _, fork, end in prompted], [(start, fork) for start, fork, _ in prompted],
                         device) if prompted else None)
        return cast("tuple[Texts, Texts | None]", self.made[device])


@dataclass(frozen=True)
class Texts:
    """Texts that one call attends to: queries and keys of each, packed one text after the other."""

    rows: torch.Tensor | None  # (q,), of the queries in the whole row; None: all
    seen: torch.Tensor | None  # (k,), of the keys
    queries: torch.Tensor  # (texts + 1,) int32, where the queries of each begin and the last end
    keys: torch.Tensor
    longest: tuple[int, int]  # queries and keys of a text

    @classmethod
    def of(cls, rows: list[tuple[int, int]], seen: list[tuple[int, int]] | None, device: torch.device) -> Texts:
        """From first and last + 1 of each text's queries and keys; `seen` None: each of all rows sees itself."""
        def begins(ranges: list[tuple[int, int]]) -> torch.Tensor:
            return torch.tensor([0, *accumulate(b - a for a, b in ranges)], dtype=torch.int32, device=device)

        def places(ranges: list[tuple[int, int]]) -> torch.Tensor:
            return torch.cat([torch.arange(a, b) for a, b in ranges]).to(device)

        most = tuple(max(b - a for a, b in ranges) for ranges in (rows, seen or rows))
        if seen is None:
            return cls(None, None, begins(rows), begins(rows), (most[0], most[1]))
        return cls(places(rows), places(seen), begins(rows), begins(seen), (most[0], most[1]))

    def packed(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The queries, keys and values (N, H, D) of the texts."""
        if self.rows is None or self.seen is None:
            return query, key, value
        return query[self.rows], key[self.seen], value[self.seen]


def register() -> None:
    """From now on "sdpa" attends by a layout where the mask is one."""
    ALL_ATTENTION_FUNCTIONS["sdpa"] = attend


def attend(
    module: torch.nn.Module, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor,
    attention_mask: torch.Tensor | None, dropout: float = 0.0, scaling: float | None = None, **more: Any,
) -> tuple[torch.Tensor, None]:
    """An attention function of transformers: (1, H, N, D) and keys of as many or fewer heads to (1, N, H, D)."""
    layout: Layout | None = getattr(attention_mask, "group_layout", None)
    if layout is None:
        return sdpa_attention_forward(  # type: ignore[no-any-return]
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **more)
    device = query.device.type
    if torch.is_autocast_enabled(device):
        query, key, value = (part.to(torch.get_autocast_dtype(device)) for part in (query, key, value))
    if device == "cpu" and not dropout and query.shape[-1] == value.shape[-1]:
        out: torch.Tensor = ByParts.apply(query, key, value, layout, scaling)
    elif not dropout and by_flash(query, value):
        out = Flash.apply(query, key, value, layout, scaling)
    else:
        repeats = query.shape[1] // key.shape[1]
        out = by_masks(query, repeat_kv(key, repeats), repeat_kv(value, repeats), layout, dropout, scaling)
    return out.transpose(1, 2).contiguous(), None


def by_masks(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, layout: Layout, dropout: float, scale: float | None
) -> torch.Tensor:
    """(1, H, N, D): two calls a group, the prompt's causal, the completions' with a mask."""
    outs = []
    for group, (start, fork, *ends) in enumerate(layout.bounds):
        for first, end, mask in ((start, fork, None), (fork, ends[-1], layout.mask(group, query))):
            if end > first:
                outs.append(scaled_dot_product_attention(
                    query[:, :, first:end], key[:, :, start:end], value[:, :, start:end], attn_mask=mask,
                    dropout_p=dropout, is_causal=mask is None, scale=scale))
    return torch.cat(outs, 2)


class ByParts(torch.autograd.Function):  # type: ignore[misc]
    """PyTorch's flash attention for CPUs, part by part; saved for backward are its inputs, its output and (1, H, N)."""

    @staticmethod
    def forward(
        ctx: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, layout: Layout, scale: float | None
    ) -> torch.Tensor:
        """(1, H, N, D), in memory as (1, N, H, D)."""
        heads, length, size = query.shape[1:]
        keys, values = (repeat_kv(part, heads // key.shape[1]) for part in (key, value))
        out = query.new_zeros(1, length, heads, size).transpose(1, 2)
        logsumexp = torch.full((1, heads, length), -torch.inf, dtype=torch.float32)
        for rows, seen, causal in layout.parts():
            part, lse = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
                query[:, :, rows], keys[:, :, seen], values[:, :, seen], 0.0, causal, scale=scale)
            if causal:
                out[:, :, rows], logsumexp[:, :, rows] = part, lse
            else:
                own = logsumexp[:, :, rows]
                both = torch.logaddexp(own, lse)
                out[:, :, rows] *= (own - both).exp()[..., None].to(out.dtype)
                out[:, :, rows] += part * (lse - both).exp()[..., None].to(out.dtype)
                logsumexp[:, :, rows] = both
        ctx.save_for_backward(query, key, value, out, logsumexp)
        ctx.layout, ctx.scale = layout, scale
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """With the whole row's output and log-sum-exp each part's backward gives its share of the exact gradient."""
        query, key, value, out, logsumexp = ctx.saved_tensors
        repeats = query.shape[1] // key.shape[1]
        keys, values = repeat_kv(key, repeats), repeat_kv(value, repeats)
        gradient_q, gradient_k, gradient_v = (torch.zeros_like(part) for part in (query, keys, values))
        for rows, seen, causal in ctx.layout.parts():
            part_q, part_k, part_v = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward(
                gradients[0][:, :, rows], query[:, :, rows], keys[:, :, seen], values[:, :, seen], out[:, :, rows],
                logsumexp[:, :, rows].contiguous(), 0.0, causal, scale=ctx.scale)
            gradient_q[:, :, rows] += part_q
            gradient_k[:, :, seen] += part_k
            gradient_v[:, :, seen] += part_v
        if repeats > 1:  # each of the keys' heads is seen by `repeats` of the queries'
            gradient_k, gradient_v = (part.unflatten(1, (-1, repeats)).sum(2) for part in (gradient_k, gradient_v))
        return gradient_q, gradient_k, gradient_v, None, None


def by_flash(query: torch.Tensor, value: torch.Tensor) -> bool:
    """Whether PyTorch's flash attention for GPUs takes them."""
    size = query.shape[-1]
    # Backward of heads this wide takes more memory on the chip than the smaller GPUs have.
    most = 256 if query.is_cuda and torch.cuda.get_device_capability(query.device) in LARGE_CHIPS else 192
    return (
        has_flash(query.device) and query.dtype in (torch.bfloat16, torch.float16) and size == value.shape[-1]
        and size % 8 == 0 and size <= most)


class Flash(torch.autograd.Function):  # type: ignore[misc]
    """PyTorch's flash attention for GPUs, all texts in one call, what they go on from in another; saved for backward
    are its inputs, its output and (H, N)."""

    @staticmethod
    def forward(
        ctx: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, layout: Layout, scale: float | None
    ) -> torch.Tensor:
        """(1, H, N, D), in memory as (1, N, H, D)."""
        own, before = layout.texts(query.device)
        inputs = [part[0].transpose(0, 1) for part in (query, key, value)]  # (N, H, D)
        out, logsumexp = flash(own, inputs, True, scale)
        if before is not None:
            more, lse = flash(before, before.packed(*inputs), False, scale)
            mine = logsumexp[:, before.rows]
            both = torch.logaddexp(mine, lse)
            shares = [(part - both).exp().t()[..., None] for part in (mine, lse)]
            out[before.rows] = (out[before.rows] * shares[0] + more * shares[1]).to(out.dtype)
            logsumexp[:, before.rows] = both
        ctx.save_for_backward(query, key, value, out, logsumexp)
        ctx.layout, ctx.scale = layout, scale
        return out.transpose(0, 1)[None]

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """As that of `ByParts`."""
        query, key, value, out, logsumexp = ctx.saved_tensors
        own, before = ctx.layout.texts(query.device)
        inputs, gradient = [part[0].transpose(0, 1) for part in (query, key, value)], gradients[0][0].transpose(0, 1)
        found = flash_backward(own, gradient, inputs, out, logsumexp, True, ctx.scale)
        if before is not None:
            rows = before.rows
            more = flash_backward(
                before, gradient[rows], before.packed(*inputs), out[rows], logsumexp[:, rows].contiguous(), False,
                ctx.scale)
            for whole, part, places in zip(found, more, (rows, before.seen, before.seen), strict=True):
                whole.index_add_(0, places, part)
        return *(part.transpose(0, 1)[None] for part in found), None, None


def flash(
    texts: Texts, inputs: Sequence[torch.Tensor], causal: bool, scale: float | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Output (N, H, D) and log-sum-exp (H, N) of queries, keys and values (N, H, D)."""
    out, logsumexp, *_ = torch.ops.aten._flash_attention_forward(
        *inputs, texts.queries, texts.keys, *texts.longest, 0.0, causal, False, scale=scale)
    return out, logsumexp


def flash_backward(
    texts: Texts, gradient: torch.Tensor, inputs: Sequence[torch.Tensor], out: torch.Tensor, logsumexp: torch.Tensor,
    causal: bool, scale: float | None,
) -> tuple[torch.Tensor, ...]:
    """The gradients of queries, keys and values (N, H, D)."""
    state = torch.zeros(2, dtype=torch.uint64, device=out.device)  # of random numbers, which only dropout uses
    gradients: tuple[torch.Tensor, ...] = torch.ops.aten._flash_attention_backward(
        gradient, *inputs, out, logsumexp, texts.queries, texts.keys, *texts.longest, 0.0, causal, state,
        torch.zeros((), dtype=torch.uint64, device=out.device), scale=scale)
    return gradients
