"""One step of decoding: the model's logits of each row's next token. Pure tensors.

On a CPU a step's attention covers the columns in use. On a GPU starting a step's thousands of small kernels takes many
times longer than running them, so the step is recorded once (as a CUDA graph) and then replayed: every shape in it is
fixed, and attention covers the whole buffer, of which a mask hides what isn't written yet.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from weakref import WeakSet

import torch
from transformers.cache_utils import Cache

from rrr_cli.engines.devices import arithmetic
from rrr_cli.engines.key_values import Buffer
from rrr_cli.engines.shared_attention import Shared, SharedAttention

#: Models of which no step can be recorded: something in them waits for the GPU.
UNRECORDABLE: WeakSet[Any] = WeakSet()


class Growing:
    """Steps whose attention covers the columns in use, one more each time."""

    def __init__(
        self, model: Any, buffers: Sequence[Buffer], shared: Shared | None, attention: SharedAttention,
        first_R: torch.Tensor, length_R: torch.Tensor, context: int,
    ) -> None:
        """`first_R`: the first column of each row; `length_R`: the tokens before the one that the first step feeds."""
        self.model, self.shared, self.attention = model, shared, attention
        self.buffers, self.cache, self.context = buffers, Cache(layers=list(buffers)), context
        self.taken, self.width = 0, buffers[0].get_seq_length()
        self.length_R = length_R
        columns = torch.arange(buffers[0].capacity, device=first_R.device)
        self.mask_R_T = (columns >= first_R[:, None]).long()

    def __call__(self, token_R: torch.Tensor) -> torch.Tensor:
        """Feed a token of each row; logits (R, V)."""
        # a finished row runs on until the rebuild: its position must stay inside the context
        position_R = (self.length_R + self.taken).clamp(max=self.context - 1)
        self.taken += 1
        with self.attention.seeing(self.shared):
            logits: torch.Tensor = self.model(
                input_ids=token_R[:, None], attention_mask=self.mask_R_T[:, : self.width + self.taken],
                position_ids=position_R[:, None], past_key_values=self.cache, use_cache=True, logits_to_keep=1,
            ).logits[:, -1]
        return logits

    def close(self) -> None:
        """Leave the buffers with what was written."""


class Recorded(Growing):
    """Steps of one shape, recorded at the second and replayed from then on, where device and model allow it."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        device = self.length_R.device
        self.position_R_1 = self.length_R[:, None].clamp(max=self.context - 1)
        self.token_R_1 = torch.zeros_like(self.position_R_1)
        self.column = torch.tensor([self.width], device=device)
        seen_R_T = self.mask_R_T.bool()
        seen_R_T[:, self.width :] = False
        self.mask = torch.zeros(seen_R_T.shape, device=device, dtype=arithmetic(self.model)).masked_fill(
            ~seen_R_T, -torch.inf)[:, None, None]
        self.graph: Any = None
        self.logits_R_V: torch.Tensor | None = None
        for buffer in self.buffers:
            buffer.fix(self.column)

    def __call__(self, token_R: torch.Tensor) -> torch.Tensor:
        """As `Growing`; the next call writes over what this one gives."""
        self.token_R_1.copy_(token_R[:, None])
        self.mask.index_fill_(3, self.column, 0)
        if self.taken == 1 and self._recordable:
            self._record()
        if self.graph is not None:
            self.graph.replay()
        else:
            self.logits_R_V = self._forward() if self.taken else self._first()
        self.taken += 1
        self.column += 1
        self.position_R_1.add_(1).clamp_(max=self.context - 1)
        assert self.logits_R_V is not None
        return self.logits_R_V

    @property
    def _recordable(self) -> bool:
        return self.column.is_cuda and self.model not in UNRECORDABLE

    def _first(self) -> torch.Tensor:
        """A step that is taken as it is. It shows whether the model waits for the GPU, which a recording can't."""
        if not self._recordable:
            return self._forward()
        mode = torch.cuda.get_sync_debug_mode()
        with warnings.catch_warnings(action="ignore"):  # a prototype, says PyTorch
            torch.cuda.set_sync_debug_mode("error")
        try:
            return self._forward()
        except torch.OutOfMemoryError:
            raise
        except RuntimeError:
            UNRECORDABLE.add(self.model)
        finally:
            torch.cuda.set_sync_debug_mode(mode)
        return self._forward()  # into the same column

    def _record(self) -> None:
        graph, device = torch.cuda.CUDAGraph(), self.column.device
        try:
            # Where a recording fails, PyTorch leaves the stream that it chose.
            with torch.cuda.stream(torch.cuda.current_stream(device)), \
                    torch.cuda.graph(graph, stream=torch.cuda.Stream(device), capture_error_mode="thread_local"):
                self.logits_R_V = self._forward()
        except torch.OutOfMemoryError:
            raise
        except RuntimeError:
            UNRECORDABLE.add(self.model)
            torch.cuda.synchronize(device)
        else:
            self.graph = graph

    def _forward(self) -> torch.Tensor:
        with self.attention.seeing(self.shared):
            logits: torch.Tensor = self.model(
                input_ids=self.token_R_1, attention_mask=self.mask, position_ids=self.position_R_1,
                past_key_values=self.cache, use_cache=True, logits_to_keep=1,
            ).logits[:, -1]
        return logits

    def close(self) -> None:
        """See `Growing`."""
        self.graph = None
        for buffer in self.buffers:
            buffer.release(self.width + self.taken)


@contextmanager
def steps(fixed: bool, *args: Any) -> Iterator[Growing]:
    """Steps for as long as this lasts; `fixed`: of one shape."""
    made = (Recorded if fixed else Growing)(*args)
    try:
        yield made
    finally:
        made.close()
