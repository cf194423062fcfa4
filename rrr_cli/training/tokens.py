"""Texts as the tokens that were sampled: what is trained is what the policy wrote, never its text read anew.

Prompts and completions that carry their token ids, and episodes that are continued token by token. Reads and writes
nothing. Refuses a chat template that rewrites earlier turns: a text can't then be one sequence.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

from rrr_cli.engines.base import Completion, Prompt
from rrr_cli.episodes import Episode
from rrr_cli.errors import RrrError
from rrr_cli.records import Message

Render = Callable[[tuple[Message, ...], str | None], list[int]]  # a chat and its tools to token ids


@dataclass(frozen=True)
class TokenPrompt(Prompt):
    """A prompt that goes to the policy as these token ids; the messages say the same as text."""

    ids: tuple[int, ...] = ()


@dataclass(frozen=True)
class TokenCompletion(Completion):
    """A completion with its tokens, the prompt's, and the log-probabilities of its own where vLLM gave them."""

    prompt_ids: list[int]
    ids: list[int]
    logps: list[float] | None
    decode: Callable[[list[int]], str] = field(repr=False, compare=False)

    def cut(self, characters: int) -> TokenCompletion:
        """Without the last characters of its text, and without the tokens that wrote them alone: these are neither
        trained nor shown."""
        text = self.text[: len(self.text) - characters]
        n = max(1, bisect_left(range(len(self.ids)), True, key=lambda n: self.decode(self.ids[:n]).startswith(text)))
        return replace(self, text=text, ids=self.ids[:n], logps=self.logps and self.logps[:n])


@dataclass(frozen=True)
class Tokens:
    """A part of a text, (T,) each: token ids, 1 where a token is trained, log-probabilities or None."""

    ids: list[int]
    mask: list[int]
    logps: list[float] | None

    @classmethod
    def written(cls, completion: TokenCompletion) -> Tokens:
        """What the policy wrote: trained."""
        return cls(completion.ids, [1] * len(completion.ids), completion.logps)

    @classmethod
    def shown(cls, ids: list[int]) -> Tokens:
        """What the policy was shown: masked out of the loss, so any number does as a log-probability."""
        return cls(ids, [0] * len(ids), [0.0] * len(ids))

    @classmethod
    def joined(cls, parts: Iterable[Tokens]) -> Tokens:
        """The parts as one; with log-probabilities if each of them has its own."""
        parts = [part for part in parts if part.ids]  # where there was no room nothing has log-probabilities
        logps = [part.logps for part in parts if part.logps is not None]
        return cls(
            [i for part in parts for i in part.ids], [m for part in parts for m in part.mask],
            [value for values in logps for value in values] if len(logps) == len(parts) else None,
        )


@dataclass
class TokenEpisode(Episode):
    """An episode whose every prompt is the tokens so far, and then what was said to the last turn.

    `start` is its first prompt where that isn't the rendered chat; `stops` are the tokens that end a turn.
    """

    render: Render = field(kw_only=True)
    stops: Sequence[int] = field(kw_only=True)
    start: list[int] | None = None
    replies: list[list[int]] = field(default_factory=list)  # between one turn of the model and its next

    def prompt(self, seeds: tuple[int, ...]) -> Prompt:
        """See Episode."""
        chat = super().prompt(seeds)
        if self.completions:
            *before, _, reply = chat.messages
            ids = reply_ids(self.render, before, reply, chat.tools)
            self.replies.append(after_turn(token_completion(self.completions[-1]).ids, ids, self.stops))
            so_far = [*token_completion(self.completions[0]).prompt_ids, *self.tokens().ids, *self.replies[-1]]
        elif self.start is None:
            return chat
        else:
            so_far = self.start
        return TokenPrompt(chat.messages, chat.seeds, chat.tools, tuple(so_far))

    def tokens(self) -> Tokens:
        """All that came after its first prompt: the model's turns are trained, the replies between them aren't."""
        first, *later = map(token_completion, self.completions)
        parts = [Tokens.written(first)]
        for reply, turn in zip(self.replies, later, strict=False):
            if turn.tokens:  # else the reply filled the window, and nothing came after it
                parts += [Tokens.shown(reply), Tokens.written(turn)]
        return Tokens.joined(parts)


@dataclass
class Thread:
    """One conversation token by token, from its first prompt on: what the model wrote, and what it was shown between.
    """

    prompt_ids: list[int]
    render: Render
    stops: Sequence[int]  # the tokens that end a turn
    parts: list[Tokens] = field(default_factory=list)

    @property
    def tokens(self) -> Tokens:
        """All that came after its first prompt."""
        return Tokens.joined(self.parts)

    @property
    def ids(self) -> list[int]:
        """All of it, as the prompt of the model's next turn."""
        return self.prompt_ids + self.tokens.ids

    def add(self, part: Tokens) -> range:
        """Append a part; its places among `tokens`."""
        start = sum(len(part.ids) for part in self.parts)
        self.parts.append(part)
        return range(start, start + len(part.ids))

    def request(self, before: Sequence[Message], words: str, tools: str | None, instead: str = "reflection") -> Tokens:
        """The user's turn after the model's last one, which `before` was the chat of, up to the start of the model's
        next. Raises RrrError as `reply_ids` does."""
        ids = reply_ids(self.render, before, Message("user", words), tools, instead)
        return Tokens.shown(after_turn(self.parts[-1].ids, ids, self.stops))


def token_completion(completion: Completion) -> TokenCompletion:
    """A completion of the policy, which has its tokens."""
    assert isinstance(completion, TokenCompletion)
    return completion


def reply_ids(
    render: Render, before: Sequence[Message], reply: Message, tools: str | None, instead: str = "reflection"
) -> list[int]:
    """The tokens from the end of the model's turn after `before` to the start of its next, `reply` between the two.

    Raises RrrError where the chat template writes the earlier turns otherwise once there are more of them; `instead`
    are the objectives that work all the same.
    """
    start = render(tuple(before), tools)
    ids = render((*before, Message("assistant", ""), reply), tools)
    if ids[: len(start)] != start:
        raise not_one_conversation("rewrites earlier turns", instead)
    return ids[len(start) :]


def not_one_conversation(what: str, instead: str) -> RrrError:
    """The error of an objective whose turns have to be one sequence; `what` the chat template does."""
    return RrrError(
        f"the model's chat template {what}, so turns that belong together aren't one conversation: choose --objective "
        f"{instead}, or another model")


def after_turn(turn_ids: list[int], reply: list[int], stops: Sequence[int]) -> list[int]:
    """`reply` without the template's end of turn where the model has written one already."""
    ended = bool(turn_ids) and turn_ids[-1] in stops and reply[0] in stops
    return reply[ended:]
