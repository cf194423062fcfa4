"""How many bytes a pass of training takes, by the model's shape and the lengths of its texts, and how many there are.

Reads and writes nothing. The constants count the numbers that autograd keeps in a layer of Llama's kind (norms,
queries, keys, values, the gated network), with room for norms of queries and keys; a test holds them to measured peaks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from rrr_cli.engines.devices import free_memory
from rrr_cli.errors import RrrError

GB = 10**9
USED = 0.8  # share of the free memory; the rest is for allocators' gaps, and for others on a CPU
WORKING = 0.25  # what a layer's backward takes for itself, as a share of what is kept of a layer
# Of TRL's LM head, which makes logits a tile at a time, on a GPU and not. TRL's own are wide; a CPU keeps narrow ones
# in its caches: with 1,024 tokens and 49,152 words 0.7 of the time and 0.3 of the memory.
TILE_TOKENS, TILE_WORDS = 4096, {True: 32768, False: 2048}
TILES = {True: 8.5, False: 4.5}  # float32 tiles at once where it computes by PyTorch: with backward, and without


def size_tiles(gpu: bool) -> None:
    """Set the tiles of the LM heads of this process."""
    from trl.trainer import utils

    utils._CHUNKED_LOGPROB_CHUNK_SIZE = TILE_WORDS[gpu]


def readable(size: int) -> str:
    """Bytes as a person reads them."""
    return f"{size / GB:.1f} GB" if size >= GB else f"{size / 10**6:.1f} MB"


@dataclass(frozen=True)
class Shape:
    """The sizes of a decoder: widths in numbers, of queries and of keys over all heads."""

    layers: int
    hidden: int
    feed_forward: int
    queries: int
    keys: int
    heads: int
    vocabulary: int

    @classmethod
    def of(cls, config: Any) -> Shape:
        """From a configuration of transformers; a mixture counts the experts that a token goes through."""
        text = config.get_text_config()

        def get(name: str, otherwise: int) -> int:
            try:
                found = getattr(text, name, None) or otherwise
            except Exception:  # a configuration in which layers differ may refuse to name one size
                return otherwise
            return max(found) if isinstance(found, list | tuple) else int(found)

        hidden, heads = get("hidden_size", 0), get("num_attention_heads", 1)
        inner = get("intermediate_size", 0) or get("n_inner", 4 * hidden)
        size = get("head_dim", hidden // heads)
        return cls(
            layers=get("num_hidden_layers", 1), hidden=hidden, heads=heads, vocabulary=get("vocab_size", 1),
            feed_forward=max(inner, get("num_experts_per_tok", 0) * get("moe_intermediate_size", inner)),
            queries=heads * size, keys=get("num_key_value_heads", heads) * size)

    def adapted(self, rank: int) -> int:
        """Weights of a LoRA adapter on all linear layers."""
        attention = 2 * (self.hidden + self.queries) + 2 * (self.hidden + self.keys)
        return self.layers * rank * (attention + 3 * (self.hidden + self.feed_forward))


@dataclass(frozen=True)
class Load:
    """What goes through a model in one pass."""

    tokens: int  # with padding, where there is any
    labelled: int  # that go through the head
    pairs: int  # of tokens, in the masks of attention

    def __add__(self, other: Load) -> Load:
        return Load(self.tokens + other.tokens, self.labelled + other.labelled, self.pairs + other.pairs)


def load_of(groups: Sequence[Sequence[tuple[int, int]]], shared: bool, width: int = 0) -> Load:
    """Of texts, (tokens of the prompt, of the completion) each: a prompt once a group, or all padded to `width`."""
    live = [[row for row in group if row[1]] for group in groups]
    labelled = [sum(completion for _, completion in group) for group in live]
    if not shared:
        rows = sum(map(len, live))
        return Load(rows * width, sum(labelled), rows * width**2)
    prompts = [group[0][0] if group else 0 for group in live]
    return Load(
        sum(prompts) + sum(labelled), sum(labelled),
        sum(own * (prompt + own) for prompt, own in zip(prompts, labelled, strict=True)))


@dataclass(frozen=True)
class Cost:
    """What a pass takes with this model on this kind of device."""

    shape: Shape
    half: bool = False  # bfloat16 arithmetic
    gpu: bool = False
    flash: bool = False  # attention of groups without masks on a GPU
    shared: bool = True  # a group's prompt is computed once, without a mask over the whole row
    eager: bool = False  # attention that makes and keeps all scores
    trains_head: bool = True
    checkpointing: bool = False

    @property
    def layer(self) -> int:
        """Bytes that a layer keeps of a token for its backward.

        In bfloat16 the stream and its norms stay float32, and each of the five layers that a norm feeds keeps a copy.
        """
        shape = self.shape
        ends = shape.queries + shape.keys
        # Keys, values and outputs that attention by masks copies.
        by_masks = 5 * shape.queries if self.gpu and self.shared and not self.flash else 0
        if self.half:
            return 26 * shape.hidden + 12 * ends + 8 * shape.feed_forward + 2 * by_masks
        return 4 * (6 * shape.hidden + 4 * ends + 4 * shape.feed_forward + by_masks)

    def checkpointed(self) -> Cost:
        """The same with gradient checkpointing."""
        return replace(self, checkpointing=True)

    def of(self, load: Load, gradient: bool) -> int:
        """Bytes of a pass, with its backward or without, beside weights and their gradients."""
        shape = self.shape
        scores, head = self._scores(load, gradient), self._head(load, gradient)
        if not gradient:  # of one layer at a time, then of the head
            widest = max(3 * shape.feed_forward, 4 * (shape.queries + shape.keys))
            return scores + max(head, load.tokens * (8 * shape.hidden + (2 if self.half else 4) * widest))
        kept, working = shape.layers * self.layer, WORKING * self.layer
        if self.checkpointing:  # the stream before each layer, and one layer again
            kept, working = 4 * shape.layers * shape.hidden, working + self.layer
        return scores + load.tokens * (kept + 16 * shape.hidden) + max(head, int(working * load.tokens))

    def _scores(self, load: Load, gradient: bool) -> int:
        layers = 1 if self.checkpointing or not gradient else self.shape.layers
        if self.eager:
            return 6 * self.shape.heads * load.pairs * (layers + 2)
        number = 2 if self.half else 4
        if self.shared:
            return 3 * number * load.pairs // 2 if self.gpu and not self.flash else 0  # one mask for all layers
        return number * load.pairs * (layers + 1)

    def _head(self, load: Load, gradient: bool) -> int:
        everywhere = not self.shared and not self.gpu  # TRL leaves positions out where Triton is
        tokens = load.tokens if everywhere else load.labelled
        words = min(self.shape.vocabulary, TILE_WORDS[self.gpu])
        tile = min(tokens, TILE_TOKENS) * words
        whole = (2 if self.half else 8) * min(tokens, TILE_TOKENS) * TILE_WORDS[True]
        tiles = whole if self.gpu else int(4 * tile * TILES[gradient])
        weight = 4 * self.shape.hidden * (2 * self.shape.vocabulary if self.trains_head and gradient else words)
        return tiles + weight + tokens * (12 * self.shape.hidden + 128)


@dataclass(frozen=True)
class Weights:
    """What training holds in memory beside its passes."""

    weights: int  # bytes, those of a reference too
    trained: int  # numbers
    cast: int = 0  # numbers that bfloat16 arithmetic copies

    def later(self, gradients: bool, moments: bool) -> int:
        """Bytes that the first step has still to allocate, with what AdamW remembers, unless they are there."""
        return 4 * self.trained * (not gradients) + 8 * self.trained * (not moments) + 2 * self.cast

    @property
    def fixed(self) -> int:
        """All bytes."""
        return self.weights + self.later(gradients=False, moments=False)

    @classmethod
    def planned(cls, numbers: int, adapter: int, *, half: bool, frozen_half: bool, reference: bool) -> Weights:
        """Of a model of so many numbers and an adapter of so many, or 0; a second model where there's a reference."""
        size = 2 if frozen_half else 4
        weights = numbers * (size + 4 * (reference and not adapter)) + 4 * adapter
        return cls(weights, adapter or numbers, (adapter if frozen_half else numbers + adapter) if half else 0)


def weights_of(model: Any, reference: Any, half: bool) -> Weights:
    """Of models as they are in memory, of weights in parts this device's; `reference` may be None."""
    own = list(model.parameters())
    held = own + (list(reference.parameters()) if reference is not None else [])
    return Weights(
        sum(here(w).numel() * w.element_size() for w in held), sum(here(w).numel() for w in own if w.requires_grad),
        sum(here(w).numel() for w in own if w.element_size() == 4) if half else 0)


def here(weight: Any) -> Any:
    """What of a weight is in this device's memory."""
    return weight.to_local() if hasattr(weight, "to_local") else weight


def check_room(limit_text: str, limit: int, fixed: int) -> None:
    """Raise RrrError (exit 3) where a limit leaves nothing for a pass."""
    if limit <= fixed:
        raise RrrError(f"--memory {limit_text}: weights, gradients and optimiser take {readable(fixed)} alone: "
                       "allow more, or train an adapter with --lora 16")


@dataclass
class Room:
    """How much memory a pass may take: `limit` less what is fixed, or a share of what is free on `device`."""

    device: Any
    limit: int | None = None
    sharers: int = 1  # processes that take from the same memory

    def bytes(self, weights: Weights, gradients: bool = False, moments: bool = False) -> int:
        """What is left for a pass; less than 0 where not even the weights fit. Raises RrrError (exit 3): they don't fit
        into the limit."""
        if self.limit is not None:
            check_room(readable(self.limit), self.limit, weights.fixed)
            return self.limit - weights.fixed
        return int(USED * free_memory(self.device)) // self.sharers - weights.later(gradients, moments)
