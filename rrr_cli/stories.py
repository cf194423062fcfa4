"""What happens with one problem, as a generator: it asks for what a model writes and for verdicts, and ends with rows.

So many can be told side by side (`flow.py`), or one alone. Reads and writes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from rrr_cli.engines.base import Prompt

if TYPE_CHECKING:
    from rrr_cli.rollout import Loop


@dataclass(frozen=True)
class Write:
    """What a story asks of a loop's model: completions_B_N."""

    loop: Loop
    prompts: Sequence[Prompt]
    max_tokens: int


@dataclass(frozen=True)
class Judge:
    """What a story asks of a verifier: `judge(items)`, a verdict an item. Those of several stories are judged together.
    """

    judge: Callable[[list[Any]], Sequence[Any]]
    items: Sequence[Any]


T = TypeVar("T")
Story = Generator[Write | Judge, Any, T]  # it asks, is sent what it asked for, and ends with T


def finished(story: Story[T]) -> T:
    """What a story ends with, told alone."""
    answer: Any = None
    while True:
        try:
            asked = story.send(answer)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]
        answer = (
            asked.loop.write(asked.prompts, asked.max_tokens) if isinstance(asked, Write) else
            asked.judge(list(asked.items)))
