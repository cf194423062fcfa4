"""Keys and values of earlier texts, by token ids: a prompt that begins as one of them goes on from its cache.

So a retry goes on from the reflection that it follows, a reflection from the attempt, and a turn of an episode from the
turn before; where a chat template is no prefix of itself, or a text is tokenised otherwise when it is read back, the
shared beginning is shorter. Prompts stay what they are: only where keys and values come from differs, which is
rounding. Belongs to one model with one state of its weights; whoever changes them drops it. Holds a share of the free
memory: what was used longest ago leaves first.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from rrr_cli.engines.devices import free_memory
from rrr_cli.engines.key_values import Slab, Span

Ids = NDArray[np.int64]
SHARE = 1 / 8  # of the memory that is free when the first text is kept
MOST = 8 * 2**30  # bytes


class _Node:
    """Tokens that follow those of its parent: a radix tree, in which no two children begin with the same token."""

    __slots__ = ("children", "ids", "parent", "slab", "start")

    def __init__(self, ids: Ids, slab: Slab | None, start: int, parent: _Node | None) -> None:
        self.ids, self.slab, self.start, self.parent = ids, slab, start, parent
        self.children: dict[int, _Node] = {}


class PrefixCache:
    """`prefilled` and `reused` count the tokens of prompts that were computed and that came from here; equal prompts of
    one call count once. `budget`: bytes; None: chosen by what is free."""

    def __init__(self, budget: int | None = None) -> None:
        self.budget = budget
        self.prefilled = self.reused = 0
        self.clear()

    def clear(self) -> None:
        """Forget all texts: the weights have changed, or their memory is needed."""
        self._root = _Node(np.zeros(0, np.int64), None, 0, None)
        self._slabs: OrderedDict[Slab, list[_Node]] = OrderedDict()  # the one used longest ago comes first
        self.nbytes = 0

    def match(self, ids: Sequence[int]) -> list[Span]:
        """The longest beginning of `ids` that is here."""
        path, covered = self._walk(np.asarray(ids, np.int64))
        spans = []
        for node in path:
            assert node.slab is not None
            count = min(len(node.ids), covered)
            spans.append(Span(node.slab, node.start, node.start + count))
            covered -= count
        for span in reversed(spans):  # so that a beginning never leaves before what follows it
            self._slabs.move_to_end(span.slab)
        return spans

    def add(self, texts: Sequence[tuple[Sequence[int], int, int]], slab: Slab) -> None:
        """Keep a slab. `texts`: (ids, known, start): the tokens of ids from number `known` on are at `start` of the
        slab; a text whose first `known` tokens aren't here any more is passed over."""
        if self.budget is None:
            self.budget = min(MOST, int(SHARE * free_memory(slab.layers[0][0].device)))
        if slab.nbytes > self.budget:
            return
        self._slabs[slab] = []
        self.nbytes += slab.nbytes
        for ids, known, start in texts:
            self._insert(np.asarray(ids, np.int64), known, slab, start)
        while self.nbytes > self.budget:
            self._drop(next(iter(self._slabs)))

    def _insert(self, ids: Ids, known: int, slab: Slab, start: int) -> None:
        path, covered = self._walk(ids)
        if covered < known or covered == len(ids):
            return
        parent = path[-1] if path else self._root
        within = covered - sum(len(node.ids) for node in path[:-1])  # of the last node's tokens
        if within < len(parent.ids):
            self._split(parent, within)
        node = _Node(ids[covered:].copy(), slab, start + covered - known, parent)
        parent.children[int(node.ids[0])] = node
        self._slabs[slab].append(node)

    def _walk(self, ids: Ids) -> tuple[list[_Node], int]:
        """The nodes below the root that `ids` begins with, the last perhaps in part, and the tokens that they cover."""
        path: list[_Node] = []
        node, covered = self._root, 0
        while covered < len(ids) and (child := node.children.get(int(ids[covered]))) is not None:
            path.append(child)
            common = common_length(child.ids, ids[covered:])
            covered += common
            if common < len(child.ids):
                break
            node = child
        return path, covered

    def _split(self, node: _Node, at: int) -> None:
        """Make a child of its own of a node's tokens from number `at` on."""
        assert node.slab is not None
        lower = _Node(node.ids[at:], node.slab, node.start + at, node)
        lower.children, node.children = node.children, {int(lower.ids[0]): lower}
        for child in lower.children.values():
            child.parent = lower
        node.ids = node.ids[:at]
        self._slabs[node.slab].append(lower)

    def _drop(self, slab: Slab) -> None:
        """Take a slab's tokens out of the tree, and with them what follows them."""
        for node in self._slabs.pop(slab):
            assert node.parent is not None
            siblings = node.parent.children
            if siblings.get(int(node.ids[0])) is node:
                del siblings[int(node.ids[0])]
        self.nbytes -= slab.nbytes


def common_length(a: Ids, b: Ids) -> int:
    """How many tokens two texts share at their beginning."""
    n = min(len(a), len(b))
    same = a[:n] == b[:n]
    return n if same.all() else int(same.argmin())
