"""The model as it was before its training, as an engine: with `grpo --freeze-actor` it writes the retries.

With LoRA it is the policy without its adapter; otherwise TRL's reference, or (--beta 0) a copy that is loaded once.
Reads a model's folder; writes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from peft import PeftModel

from rrr_cli.engines import weights
from rrr_cli.engines.models import resolve
from rrr_cli.engines.prefix_cache import PrefixCache
from rrr_cli.training.policy import Policy
from rrr_cli.training.policy_engine import PolicyEngine, decoded, in_arithmetic


class Untrained:
    """What `policy` was before its training."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self._copy: Any = None

    def engine(self, trainer: Any, window: int, cache: PrefixCache) -> PolicyEngine:
        """What retries in a step of `trainer`; `cache` is of these weights alone."""
        stops = trainer.eos_token_ids
        generate = decoded(lambda: self._model(trainer), stops, cache)
        return PolicyEngine(self.policy, generate, None, window, stops)

    @contextmanager
    def _model(self, trainer: Any) -> Iterator[Any]:
        if isinstance(trainer.accelerator.unwrap_model(trainer.model_wrapped), PeftModel):
            with in_arithmetic(trainer, trainer.model_wrapped) as trained, trained.disable_adapter():
                yield trained
        else:
            frozen = self._frozen(trainer) if trainer.ref_model is None else trainer.ref_model
            with in_arithmetic(trainer, frozen) as model:
                yield model

    def _frozen(self, trainer: Any) -> Any:
        """A copy from the policy's files, in the arithmetic that TRL gives its reference."""
        if self._copy is None:
            copy = weights.load(resolve(str(self.policy.path)), torch.float32)
            self._copy = trainer.accelerator.prepare_model(copy, evaluation_mode=True)
        return self._copy


def writers(trainer: Any, untrained: Untrained | None) -> list[Any]:
    """The models whose weights write texts: the policy, and TRL's reference where it stands for the policy before."""
    reference = [trainer.ref_model] if untrained is not None and trainer.ref_model is not None else []
    return [trainer.model_wrapped, *reference]
