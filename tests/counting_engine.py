"""An engine whose reply is the number of messages it was shown: one word, which no task of these tests takes.

`--engine tests/counting_engine.py:Counting --model FOLDER`. While FOLDER/refuse exists, it gives no answer to the
chats of as many messages as that file says.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rrr_cli.engines.base import Completion, Prompt, Sampling, no_answer
from rrr_cli.options import EngineOptions


class Counting:
    """One token a reply."""

    name = "counting"
    fingerprint = "counting"
    tokens: int | None = 1

    def __init__(self, model: str) -> None:
        self.model = model

    @classmethod
    def fingerprint_of(cls, model: str, options: EngineOptions) -> str:
        return cls.fingerprint

    def close(self) -> None:
        pass

    def generate(self, prompts_B: Sequence[Prompt], sampling: Sampling) -> list[list[Completion]]:
        return [[self._reply(len(prompt.messages)) for _ in prompt.seeds] for prompt in prompts_B]

    def _reply(self, messages: int) -> Completion:
        refused = Path(self.model, "refuse")
        if refused.exists() and str(messages) in refused.read_text().split():
            return no_answer("filtered")
        return Completion(str(messages), self.tokens, "stop", messages)


class Uncounting(Counting):
    """It doesn't say how many tokens it wrote."""

    tokens = None
