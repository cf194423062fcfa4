"""OpenAI's chat completions on the wire: builds the body of a request, parses responses and error messages.

Pure: nothing is sent from here. Responses aren't trusted: any content becomes a `Completion` or a ValueError.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from rrr_cli.engines.base import Completion, Prompt, Sampling
from rrr_cli.records import derive_seed

if TYPE_CHECKING:
    from httpx import Response

FINISH = {"stop": "stop", "length": "length", "tool_calls": "stop", "function_call": "stop", "content_filter": "stop"}
TOO_LONG = re.compile(r"context.{0,3}(length|size|window)|exceed_context", re.I)
# How vLLM, SGLang and OpenAI say how long the window and the prompt are.
CONTEXT = re.compile(r"maximum context length (?:is|of) (\d{1,9})")
PROMPT = re.compile(r"(\d{1,9})(?: input tokens| tokens from the input| (?:tokens )?in the messages)")


def body(model: str, prompt: Prompt, seed: int, sampling: Sampling) -> dict[str, Any]:
    """One request of the chat completions API."""
    request: dict[str, Any] = {
        "model": model, "messages": [{"role": m.role, "content": m.content} for m in prompt.messages],
        **asdict(sampling), "n": 1,
        "seed": derive_seed("openai", seed) >> 32,  # 31 bits: every server accepts as many
    }
    return request | ({"tools": json.loads(prompt.tools)} if prompt.tools else {})


def completion(response: Response) -> Completion:
    """What the model wrote. Tool calls that the server parsed become text again, for the task's verifier.

    Raises ValueError: not a chat completion, no token counts, or a finish_reason that isn't in `FINISH`.
    """
    try:
        answer = response.json()
        choice, usage = answer["choices"][0], answer["usage"]
        calls = [tool_call(call["function"]) for call in choice["message"].get("tool_calls") or ()]
        text = "\n".join([part for part in (choice["message"].get("content"), *calls) if part])
        text = thought(choice["message"], text) + text
        tokens, prompt_tokens = int(usage["completion_tokens"]), int(usage["prompt_tokens"])
        finish = FINISH[choice["finish_reason"]]
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(
            f"not with a chat completion of choices, finish_reason and usage ({type(error).__name__})"
        ) from None
    return Completion(text.encode("utf-8", "replace").decode(), tokens, finish, prompt_tokens)


def thought(message: dict[str, Any], text: str) -> str:
    """What a server took out of the text as the model's thought, with its marks; left open where no answer followed."""
    words = message.get("reasoning_content") or message.get("reasoning")
    if not isinstance(words, str) or not words.strip():
        return ""
    return f"<think>\n{words.strip()}\n" + ("</think>\n\n" if text else "")


def tool_call(function: dict[str, Any]) -> str:
    """`<tool_call>{"name": …, "arguments": …}</tool_call>`: the arguments as the model wrote them, valid or not."""
    arguments = function.get("arguments") or "{}"
    written = arguments if isinstance(arguments, str) else json.dumps(arguments)
    return f'<tool_call>{{"name": {json.dumps(function["name"])}, "arguments": {written}}}</tool_call>'


class Overflow(NamedTuple):
    """A request, prompt and answer together, that is longer than the window; 0 where the server doesn't say."""

    context: int  # length of the window in tokens
    prompt_tokens: int
    exact: bool  # False: the prompt has at least `prompt_tokens`


def too_long(response: Response) -> Overflow | None:
    """The lengths in an error that says prompt and answer are longer than the window; None for any other error."""
    text = response.text
    if not TOO_LONG.search(text):
        return None
    context, prompt = CONTEXT.search(text), PROMPT.search(text)
    exact = bool(prompt) and not re.search("at least", text)  # vLLM stops counting once the prompt is too long
    return Overflow(int(context[1]) if context else 0, int(prompt[1]) if prompt else 0, exact)


def error_text(response: Response) -> str:
    """An error's message, from any of the fields where servers put it, else the whole body."""
    try:
        body = response.json()
        error = body.get("error", body)
        return error if isinstance(error, str) else str(error.get("message") or error.get("detail") or error)
    except (ValueError, AttributeError, RecursionError):
        return response.text


def retry_after(value: str | None) -> float | None:
    """Seconds to wait by a Retry-After header, which is a number or a date; None where it is neither."""
    if value is None:
        return None
    if re.fullmatch(r"\d{1,9}(\.\d{1,9})?", value):
        return float(value)
    try:
        return max(0.0, (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return None
