"""The engine plug: text for prompts. Batching, shared prefixes, adapters and devices are the engine's own business."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Protocol

from rrr_cli.errors import USAGE, RrrError
from rrr_cli.options import EngineOptions
from rrr_cli.plugs import blame
from rrr_cli.records import Message


@dataclass(frozen=True)
class Prompt:
    """A chat to continue, once for each seed. A completion depends on its seed, not on its neighbours."""

    messages: tuple[Message, ...]
    seeds: tuple[int, ...]  # one completion a seed; N of them
    tools: str | None = None  # JSON list of tool schemas


@dataclass(frozen=True)
class Sampling:
    """How to sample. temperature 0 is greedy; top_p 1 keeps the whole distribution."""

    temperature: float = 1.0
    top_p: float = 1.0
    max_tokens: int = 512

    @classmethod
    def of(cls, options: Any, **resolved: Any) -> Sampling:
        """The options of the same names, so that a new field reaches every engine; `resolved` is what stands for None.
        """
        return cls(**{f.name: getattr(options, f.name) for f in fields(cls)} | resolved)


@dataclass(frozen=True)
class Completion:
    """What a model wrote."""

    text: str  # with its thought, and without special tokens but for the marks of a thought or a call
    tokens: int  # generated, end-of-turn included
    finish_reason: str  # stop | length
    prompt_tokens: int


def no_room(prompt_tokens: int) -> Completion:
    """The completion of a prompt that fills the context: empty, but it counts as an answer and is never dropped."""
    return Completion("", 0, "length", prompt_tokens)


class Engine(Protocol):
    """Generates text with one model."""

    name: str
    model: str  # as named by the user
    fingerprint: str  # of the weights and tokenizer, for provenance and resume

    def generate(self, prompts_B: Sequence[Prompt], sampling: Sampling) -> list[list[Completion]]:
        """completions_B_N: for prompt b, one completion a seed, in the order of its seeds.

        A prompt that fills the context gets `no_room` for each seed.
        """
        ...

    def close(self) -> None:
        """Free the model's memory, so that the next model fits on the device. The engine can't generate after this."""
        ...


class NamedEngine(Engine, Protocol):
    """An engine that `--engine` can name. Built as `cls(model, *, …)`: its keyword-only arguments are the options of
    `rrr_cli.options.EngineOptions` that it uses. Any other option that a user gives is refused.
    """

    @classmethod
    def fingerprint_of(cls, model: str, options: EngineOptions) -> str:
        """What `fingerprint` will be, without loading the model. Raises RrrError: no such model (exit 3)."""
        ...


def completions_of(engine: Engine, prompts_B: Sequence[Prompt], sampling: Sampling) -> list[list[Completion]]:
    """What the engine generates, completions_B_N. Raises RrrError (exit 2): not one completion a seed, in order."""
    with blame("engine", engine, "generate()"):
        completions_B_N = engine.generate(prompts_B, sampling)
        given = [len(completions_N) for completions_N in completions_B_N]
        texts = all(isinstance(c, Completion) and isinstance(c.text, str) for row in completions_B_N for c in row)
    if given != [len(prompt.seeds) for prompt in prompts_B] or not texts:
        raise RrrError(
            f"the engine {type(engine).__name__}: generate() returns "
            f"{'other things than Completion with a text' if not texts else f'{given[:5]} completions for its prompts'}"
            ": it is one list a prompt, in order, with one Completion a seed", USAGE)
    return completions_B_N
