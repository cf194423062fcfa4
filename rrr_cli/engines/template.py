"""How a chat template is used: the arguments that the user gives it, its date, and what it does to thoughts.

Arguments are one JSON object (`--template-args`). Its "date" stands for today in a template that prints the date, so
that the same chat is the same prompt on another day. Reads a model's template files; writes nothing. Refuses anything
but a JSON object, arguments that are rrr's own, and a date that isn't one.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from rrr_cli.engines.loading import said
from rrr_cli.errors import USAGE, RrrError
from rrr_cli.records import Message
from rrr_cli.thoughts import OPEN, PAIRS

TODAY = "strftime_now"  # what a template calls to know the date
DATE = "date"
OURS = {
    "messages", "conversation", "tools", "tokenize", "add_generation_prompt", "continue_final_message", "return_dict",
    "return_tensors", "return_assistant_tokens_mask", "chat_template", "tokenizer_kwargs", "padding", "truncation",
    "max_length", TODAY,
}
PROBE = "probe_thought"


@dataclass(frozen=True)
class Template:
    """The arguments of every rendering, as JSON; and whether thoughts of earlier turns are shown as plain words where
    the chat template drops them."""

    arguments: str | None = None
    keep_thoughts: bool = True

    @property
    def keywords(self) -> dict[str, Any]:
        """What `apply_chat_template` gets beside the chat."""
        values = parsed(self.arguments)
        if DATE in values:
            day = datetime.fromisoformat(values[DATE])
            values[TODAY] = lambda format: day.strftime(format)
        return values

    def text(self, tokenizer: Any, turns: Sequence[Message], tools: str | None = None, to_continue: bool = True) -> str:
        """The chat as the template writes it, to its end or to the start of the model's next turn. Raises RrrError
        (exit 3): the template refuses it."""
        from jinja2 import TemplateError

        try:
            return str(tokenizer.apply_chat_template(
                [{"role": m.role, "content": m.content} for m in turns], tools=json.loads(tools) if tools else None,
                add_generation_prompt=to_continue, tokenize=False, **self.keywords))
        except TemplateError as error:
            roles = ", ".join(dict.fromkeys(m.role for m in turns))
            raise RrrError(
                f"the model's chat template refused a chat of roles {roles}: {error}; use an instruction-tuned model"
            ) from None
        except Exception as error:  # whatever the template's own expressions raise
            if self.arguments:
                raise RrrError(
                    f"--template-args {self.arguments}: the model's chat template can't use them: {error}", USAGE
                ) from None
            raise RrrError(f"the model's chat template fails ({said(error)}); fetch the model again, or use another "
                           "one") from None


DEFAULT = Template()


def parsed(arguments: str | None) -> dict[str, Any]:
    """The value of --template-args. Raises RrrError (exit 2): not a JSON object, an argument of rrr's own, or no date.
    """
    try:
        values = json.loads(arguments or "{}")
    except ValueError as error:
        raise RrrError(f"--template-args {arguments} is not JSON: {error}", USAGE) from None
    if not isinstance(values, dict):
        raise RrrError(
            f'--template-args {arguments}: it must be a JSON object, such as \'{{"enable_thinking": false}}\'', USAGE)
    if ours := sorted(OURS & values.keys()):
        raise RrrError(f"--template-args: rrr itself gives the template {', '.join(ours)}; leave it out", USAGE)
    try:
        datetime.fromisoformat(values.get(DATE, "2000-01-01"))
    except (ValueError, TypeError):
        raise RrrError(
            f'--template-args: "date" is {values[DATE]!r}, and it must be a date such as "2026-01-31"', USAGE) from None
    return values


def prints_date(folder: Path) -> bool:
    """Whether the chat template in a tokenizer's folder asks what day it is."""
    files = [*folder.glob("*.jinja"), *folder.glob("*_templates/*.jinja"), folder / "tokenizer_config.json"]
    return any(TODAY in file.read_text(encoding="utf-8", errors="replace") for file in files if file.is_file())


def opened_thought(tokenizer: Any, template: Template) -> str:
    """The mark, such as `<think>` and a line break, with which the chat template itself begins each of the model's
    turns; "" where the model writes it."""
    return _opened(tokenizer, str(tokenizer.chat_template), template) if _has_template(tokenizer) else ""


def drops_thoughts(tokenizer: Any, template: Template) -> bool:
    """Whether the chat template leaves out the thoughts of earlier turns, or refuses them."""
    return _drops(tokenizer, str(tokenizer.chat_template), template) if _has_template(tokenizer) else False


def _has_template(tokenizer: Any) -> bool:
    return bool(getattr(tokenizer, "chat_template", None))


@lru_cache(maxsize=32)
def _opened(tokenizer: Any, source: str, template: Template) -> str:
    text = template.text(tokenizer, (Message("user", "1"),))
    end = len(text.rstrip())
    return next((text[m.start():] for m in OPEN.finditer(text) if m.end() == end), "")


@lru_cache(maxsize=32)
def _drops(tokenizer: Any, source: str, template: Template) -> bool:
    def shown(open: str, close: str) -> bool:
        turns = ("1", f"{open}\n{PROBE}\n{close}\n\n1", "1")
        roles = ("user", "assistant", "user")
        try:
            return PROBE in template.text(tokenizer, [Message(*turn) for turn in zip(roles, turns, strict=True)])
        except RrrError:  # it refuses any earlier turn of the model's, which the chat itself will tell
            return True

    return "<|channel|>" in source or not all(shown(*pair) for pair in PAIRS)
