"""The scripted engine, for tests: not a model. Answers come from a JSON file of rules.

`{"default": REPLY, "rules": [[TEXT, REPLY], …]}`: the first rule whose TEXT is in the chat's last message gives the
answer, else the default. A REPLY is a string, or a list from which the sample's seed picks. Words are counted as
tokens, so that max_tokens and the counts mean something. Refuses a file of any other shape.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from random import Random

from rrr_cli.engines.base import Completion, Prompt, Sampling
from rrr_cli.errors import RrrError
from rrr_cli.options import EngineOptions
from rrr_cli.records import content_id
from rrr_cli.text import read_text


class ScriptedEngine:
    """Replies by rule. `model` is the path of the JSON file."""

    name = "scripted"

    def __init__(self, model: str) -> None:
        """Read the rules. Raises RrrError (exit 3): no such file, or not of the shape above."""
        self.model = model
        try:
            script = json.loads(read_text(Path(model)))
            self.default = _reply(script["default"])
            self.rules = [(str(text), _reply(reply)) for text, reply in script.get("rules", [])]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RrrError(
                f'--engine scripted needs --model FILE.json with {{"default": REPLY, "rules": [[TEXT, REPLY]]}}; '
                f"{model}: {type(error).__name__}: {error}"
            ) from None
        self.fingerprint = content_id(script)

    @classmethod
    def fingerprint_of(cls, model: str, options: EngineOptions) -> str:
        """Of the rules."""
        return cls(model).fingerprint

    def close(self) -> None:
        """Nothing to free."""

    def generate(self, prompts_B: Sequence[Prompt], sampling: Sampling) -> list[list[Completion]]:
        """completions_B_N, one a seed. At temperature 0 the first reply of a list."""
        return [[self._complete(prompt, seed, sampling) for seed in prompt.seeds] for prompt in prompts_B]

    def _complete(self, prompt: Prompt, seed: int, sampling: Sampling) -> Completion:
        last = prompt.messages[-1].content
        replies = next((reply for text, reply in self.rules if text in last), self.default)
        words = (Random(seed).choice(replies) if sampling.temperature else replies[0]).split()
        stopped = len(words) < sampling.max_tokens  # the end of the turn is a token as well
        text = " ".join(words[: sampling.max_tokens])
        tokens = len(words) + 1 if stopped else sampling.max_tokens
        prompt_tokens = sum(len(m.content.split()) + 1 for m in prompt.messages)
        return Completion(text, tokens, "stop" if stopped else "length", prompt_tokens)


def _reply(value: object) -> list[str]:
    replies = [reply for reply in (value if isinstance(value, list) else [value]) if isinstance(reply, str)]
    if not replies or (isinstance(value, list) and len(replies) < len(value)):
        raise ValueError(f"a reply is a string or a list of strings, not {value!r}")
    return replies
