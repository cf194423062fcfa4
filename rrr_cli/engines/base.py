"""The engine plug: text for prompts. Batching, shared prefixes, adapters and devices are the engine's own business."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
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


REFUSED = "refused"  # the finish_reason of a completion that there isn't


@dataclass(frozen=True)
class Completion:
    """What a model wrote."""

    text: str  # without special tokens but for the marks of a thought or a call
    tokens: int | None  # generated, end-of-turn included; None where a server doesn't say
    finish_reason: str  # stop | length | refused
    prompt_tokens: int | None
    thought: str | None = field(default=None, kw_only=True)  # where a server gives it apart from the text
    reason: str = field(default="", kw_only=True)  # refused: why

    @property
    def turn(self) -> str:
        """All that the model wrote, its thought in the marks that `thoughts.py` reads."""
        return f"<think>\n{self.thought}\n</think>\n{self.text}" if self.thought else self.text

    def cut(self, characters: int) -> Completion:
        """Without the last characters of its text; `tokens` stays what was generated."""
        return replace(self, text=self.text[: len(self.text) - characters])


def no_room(prompt_tokens: int | None) -> Completion:
    """The completion of a prompt that fills the context: empty, but it counts as an answer and is never dropped."""
    return Completion("", 0, "length", prompt_tokens)


def no_answer(reason: str) -> Completion:
    """In place of the completion of a prompt that a server refuses, or fails at each time: nobody may judge it."""
    return Completion("", 0, REFUSED, None, reason=reason)


class UnfinishedError(RrrError):
    """An engine had to stop inside a batch: what it has answered so far, and `no_answer` for the rest. Inside a stream:
    the same of the requests `numbers`, among those that it has; the others get `no_answer`."""

    def __init__(
        self, cause: RrrError, completions_B_N: list[list[Completion]], numbers: Sequence[int] = ()
    ) -> None:
        super().__init__(str(cause), cause.exit_code)
        self.completions_B_N, self.numbers = completions_B_N, numbers

    @property
    def answers(self) -> list[tuple[int, list[Completion]]]:
        """Of a stream: the number of each request with its completions_N."""
        return list(zip(self.numbers, self.completions_B_N, strict=True))


@dataclass(frozen=True)
class Request:
    """A prompt that waits for its completions."""

    number: int  # by which they are handed back
    prompt: Prompt
    max_tokens: int


# How many samples more the engine could begin with, and whether it is writing nothing -> requests for that many, or a
# few more where the last has several. Where it is writing nothing, none means that there won't be any. Asked for 0 it
# gives none, but raises if nobody waits any more: an engine should ask often.
Feed = Callable[[int, bool], Sequence[Request]]
Answers = Iterator[tuple[int, list[Completion]]]


class Streaming(Protocol):
    """An engine that takes requests while it writes others. While it has places free it may be given samples that turn
    out not to be needed, unless it has `remote`, a true attribute, as an engine that sends prompts to a service: that
    may ask money for them."""

    batch_size: int  # samples that it writes at once

    def stream(self, feed: Feed, sampling: Sampling) -> Answers:
        """The number of each request with its completions_N, in the order in which they are finished. How many tokens
        each has at most is said by the request, not by `sampling`. Raises UnfinishedError where it had to stop."""
        ...


class Engine(Protocol):
    """Generates text with one model. One that is `Streaming` too is kept busy."""

    name: str
    model: str  # as named by the user
    fingerprint: str  # of the weights and tokenizer, for provenance and resume

    def generate(self, prompts_B: Sequence[Prompt], sampling: Sampling) -> list[list[Completion]]:
        """completions_B_N: for prompt b, one completion a seed, in the order of its seeds.

        A prompt that fills the context gets `no_room` for each seed; one that is refused, `no_answer`. Raises
        UnfinishedError where it had to stop.
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


def streams(engine: Any) -> bool:
    """Whether it is `Streaming`. A class that has a `generate` of its own and inherits `stream` isn't: the two may
    write other texts."""
    own = next((cls for cls in type(engine).__mro__ if "generate" in vars(cls)), object)
    return callable(vars(own).get("stream"))


def completions_of(engine: Engine, prompts_B: Sequence[Prompt], sampling: Sampling) -> list[list[Completion]]:
    """What the engine generates, completions_B_N. Raises RrrError (exit 2): not one completion a seed, in order."""
    with blame("engine", engine, "generate()"):
        completions_B_N = engine.generate(prompts_B, sampling)
    check(engine, "generate()", [len(prompt.seeds) for prompt in prompts_B], completions_B_N)
    return completions_B_N


def streamed(engine: Streaming, feed: Feed, sampling: Sampling) -> Answers:
    """What the engine streams. Raises RrrError (exit 2): not one completion a seed of a request that it was given;
    UnfinishedError, with all requests that it was given and hasn't answered."""
    seeds: dict[int, int] = {}

    def given(free: int, idle: bool) -> Sequence[Request]:
        requests = feed(free, idle)
        seeds.update((request.number, len(request.prompt.seeds)) for request in requests)
        return requests

    with blame("engine", engine, "stream()"):
        try:
            for number, completions_N in engine.stream(given, sampling):
                check(engine, "stream()", [seeds.pop(number)], [completions_N])
                yield number, completions_N
        except UnfinishedError as error:
            check(engine, "stream()", [seeds.pop(number) for number in error.numbers], error.completions_B_N)
            rest = [[no_answer("")] * n for n in seeds.values()]
            raise UnfinishedError(error, [*error.completions_B_N, *rest], [*error.numbers, *seeds]) from None


def check(engine: Any, what: str, seeds_B: list[int], completions_B_N: Sequence[Sequence[Completion]]) -> None:
    """Raise RrrError (exit 2) unless there is one completion with a text for each seed."""
    given = [len(completions_N) for completions_N in completions_B_N]
    texts = all(isinstance(c, Completion) and isinstance(c.text, str) for row in completions_B_N for c in row)
    if given != seeds_B or not texts:
        raise RrrError(
            f"the engine {type(engine).__name__}: {what} returns "
            f"{'other things than Completion with a text' if not texts else f'{given[:5]} completions for its prompts'}"
            ": it is one list a prompt, in order, with one Completion a seed", USAGE)
