"""A step's batch in parts that fit into memory: how many, and again in smaller ones where memory ran out after all.

Parts are runs of whole groups, which share their prompts, down to a group each; then of samples. Says on stderr what a
step takes, and when it has to take less. Reads and writes nothing else. Refuses a sample that doesn't fit alone.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from accelerate.utils import gather_object

from rrr_cli.engines.loading import is_memory, said
from rrr_cli.errors import RrrError
from rrr_cli.training.memory import Cost, readable
from rrr_cli.training.parts import Texts, even, fewest, most, starts_of

T = TypeVar("T")
CURE = "type --gradient-checkpointing, fewer --reflection-tokens, or --lora 16"


@dataclass
class MicroBatches:
    """How each pass over a batch is split. `samples`: of a part, where the user says so; else what fits."""

    cost: Cost
    room: Callable[[], int]  # bytes that a pass may take now
    checkpoint: Callable[[], None]  # switches gradient checkpointing on
    samples: int | None = None
    processes: int = 1
    quiet: bool = False
    least: dict[bool, int] = field(default_factory=lambda: {True: 1, False: 1})  # parts, with gradient and without
    announced: bool = False

    def fit(self, texts: Texts, gradient: bool, run: Callable[[list[slice]], T]) -> T:
        """What `run` gives for the parts; after an out-of-memory error it runs once more, with smaller ones.

        Raises RrrError (exit 3): a sample alone is too much, or it was in one of several processes.
        """
        while True:
            parts = self.parts(texts, gradient)
            try:
                return run(parts)
            except Exception as error:
                if not is_memory(error):
                    raise
                words = said(error)
            self._halve(texts, gradient, parts, words)  # out here nothing holds the tensors of what failed

    def parts(self, texts: Texts, gradient: bool) -> list[slice]:
        """The parts of a pass, as many in every process."""
        rows, starts = len(texts.rows), texts.starts
        count = max(self._count(texts, gradient), min(rows, self.least[gradient]))
        if self.processes > 1:  # a part's loss is gathered from all of them
            count = max(gather_object([count]))
        if self.samples and count == rows // self.samples:
            starts = starts_of(texts, self.samples)
        parts = even(starts, rows, count)
        if gradient and not self.announced:
            self._announce(texts, parts)
        return parts

    def _count(self, texts: Texts, gradient: bool) -> int:
        rows = len(texts.rows)
        if self.samples:
            return max(1, rows // self.samples)
        room = self.room()
        if gradient and not self.cost.checkpointing and fewest(texts, self.cost, room, gradient, whole=True) is None:
            self._checkpoint("not even one group fits into memory")
        return fewest(texts, self.cost, room, gradient) or rows

    def _checkpoint(self, why: str) -> None:
        self._say(f"{why}: gradient checkpointing is on")
        self.cost = self.cost.checkpointed()
        self.checkpoint()

    def _halve(self, texts: Texts, gradient: bool, parts: list[slice], words: str) -> None:
        """Smaller parts from now on, or checkpointing where parts are groups already."""
        gc.collect()
        import torch

        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        samples, groups = max(part.stop - part.start for part in parts), len(texts.starts)
        if self.processes > 1:
            less = f"type --micro-batch {samples // 2}" if samples > 1 else CURE
            raise RrrError(f"memory ran out in training, in parts of {samples} samples ({words}): {less}")
        if gradient and not self.samples and not self.cost.checkpointing and len(parts) >= groups:
            self._checkpoint(f"memory ran out in training, in parts of {samples} samples ({words})")
        elif samples == 1:
            raise RrrError(f"memory ran out in training on one sample ({words}): {CURE}")
        else:
            count = 2 * len(parts)
            self.least[gradient] = min(count, groups) if len(parts) < groups else min(count, len(texts.rows))
            self._say(f"memory ran out in training, in parts of {samples} samples ({words}): the step is trained once "
                      f"more in {self.least[gradient]} parts, as all from here on")

    def _announce(self, texts: Texts, parts: list[slice]) -> None:
        self.announced = True
        loads = [texts.load(part, self.cost.shared) for part in parts]
        tokens, taken = max(load.tokens for load in loads), most(texts, self.cost, parts, gradient=True)
        samples = max(part.stop - part.start for part in parts)
        chosen = "by --micro-batch" if self.samples else f"of {readable(self.room())} free"
        self._say(f"a step is trained in {len(parts)} part{'s' * (len(parts) > 1)} of {samples} samples, {tokens} "
                  f"tokens: about {readable(taken)}, {chosen}")

    def _say(self, line: str) -> None:
        if not self.quiet:
            print(f"rrr: {line}", file=sys.stderr)
