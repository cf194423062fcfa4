"""OpenAI's chat completions on the wire: builds the body of a request, reads what a model wrote out of a response.

Pure: nothing is sent from here. Responses aren't trusted: any content becomes a `Completion` or a ValueError. What a
server says where it doesn't answer is read in `server_faults.py`.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, replace
from typing import Any

from rrr_cli.engines.base import Completion, Prompt, Sampling
from rrr_cli.records import derive_seed
from rrr_cli.tool_names import for_server, from_server

# Servers fill these from the model's generation_config.json, or from defaults of their own, unless they are sent.
NEUTRAL = {"top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0}
# A finish_reason in lower case, wherever one of these words stands in it; any other one, or none, ends an answer.
MALFORMED = re.compile("malformed")  # a call that Gemini can't read: the model's own failure
BROKEN = re.compile(  # the server's end of the answer, not the model's
    "abort|error|cancel|load|time_?out|insufficient_system|unavailable|disconnect|interrupt")
CUT = re.compile("length|max_(new_|output_)?tokens|token_limit|context_window")
FILTERED = re.compile(
    "filter|safety|recitation|blocklist|blocked|prohibited|spii|sensitive|refusal|guardrail|moderation")
ENDS = frozenset((
    "stop", "tool_calls", "tool_call", "tool_use", "function_call", "eos", "eos_token", "end", "end_turn",
    "stop_sequence"))
DEEPEST = 8  # levels of parts within parts


class FilteredError(ValueError):
    """A content filter took the answer away."""


def body(model: str, prompt: Prompt, seed: int, sampling: Sampling) -> dict[str, Any]:
    """One request of the chat completions API."""
    request: dict[str, Any] = {
        "model": model, "messages": [{"role": m.role, "content": sendable(m.content)} for m in prompt.messages],
        **NEUTRAL, **asdict(sampling), "n": 1,
        "seed": derive_seed("openai", seed) >> 32,  # 31 bits: every server accepts as many
    }
    return request | ({"tools": for_server(prompt.tools)} if prompt.tools else {})


def completion(answer: Any) -> Completion:
    """What the model wrote. Tool calls that the server parsed become text again, for the task's verifier.

    Raises FilteredError, or ValueError: not a chat completion, or one that the server broke off.
    """
    try:
        choice = answer["choices"][0]
        finish_reason = choice.get("finish_reason")
        message = choice.get("message")
        if message is None and _finish(finish_reason, empty=True) == "length":
            message = {}  # Gemini's, where the thought took all tokens
        text, thought = _split(message.get("content"))
        calls = [tool_call(function) for function in _functions(message)]
    except (LookupError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"not with a chat completion of choices and a message ({type(error).__name__})") from None
    text = "\n".join(part for part in (text, _words(message.get("refusal")), *calls) if part)
    finish = _finish(finish_reason, empty=not text and not calls)
    given = next((t for name in ("reasoning_content", "reasoning", "reasoning_details", "thinking")
                  if (t := _words(message.get(name)))), "")
    tokens, prompt_tokens = _counts(answer, text or given or thought)
    whole = "\n".join(part for part in (given, thought) if part)
    return Completion(sendable(text), tokens, finish, prompt_tokens, thought=sendable(whole) or None)


def tool_call(function: dict[str, Any]) -> str:
    """`<tool_call>{"name": …, "arguments": …}</tool_call>`: the arguments as the model wrote them, valid or not."""
    arguments = function.get("arguments") or function.get("input") or "{}"
    written = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
    name = json.dumps(function["name"], ensure_ascii=False)
    return f'<tool_call>{{"name": {name}, "arguments": {written}}}</tool_call>'


def with_own_names(completion: Completion, tools: str | None) -> Completion:
    """The completion with the names that the prompt's tools have here."""
    return replace(completion, text=from_server(completion.text, tools)) if tools else completion


def _functions(message: dict[str, Any]) -> list[dict[str, Any]]:
    """The functions that are called: in today's field, in the one before it, or as Anthropic's parts of the content."""
    calls, content = message.get("tool_calls") or [], message.get("content")
    calls = calls if isinstance(calls, list) else [calls]
    functions = [call.get("function") or call.get("custom") or call for call in calls]
    parts = content if isinstance(content, list) else []
    functions += [part for part in parts if isinstance(part, dict) and part.get("type") == "tool_use"]
    return functions or [function for function in [message.get("function_call")] if function]


def _split(content: Any) -> tuple[str, str]:
    """(the text, the thought) of a content: a string, a list of parts, or nothing."""
    if content is not None and not isinstance(content, str | list | dict):
        raise TypeError
    parts = content if isinstance(content, list) else [content]
    texts: list[str] = []
    thoughts: list[str] = []
    for part in parts:
        kind = str(part.get("type", "")) if isinstance(part, dict) else ""
        (thoughts if "think" in kind or "reason" in kind else texts).append(_words(part))
    return "".join(texts), "".join(thoughts)


def _words(value: Any, depth: int = 0) -> str:
    """The text of a string, of a part, or of a list of parts."""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and depth < DEEPEST:
        return "".join(_words(part, depth + 1) for part in value)
    if isinstance(value, dict) and depth < DEEPEST:
        names = ("text", "value", "thinking", "reasoning", "summary", "refusal", "content")
        return next((words for name in names if (words := _words(value.get(name), depth + 1))), "")
    return ""


def _finish(reason: Any, empty: bool) -> str:
    """stop or length. Raises FilteredError, or ValueError: the server ended the answer, not the model."""
    kind = str(reason.get("type") if isinstance(reason, dict) else reason).lower().removeprefix("finish_reason_")[:60]
    if MALFORMED.search(kind):
        return "stop"
    if FILTERED.search(kind):
        raise FilteredError(f"the content filter took the answer away (finish_reason {kind})")
    if BROKEN.search(kind):
        raise ValueError(f"not with a whole chat completion (finish_reason {kind})")
    if CUT.search(kind):
        return "length"
    if empty and kind not in ENDS:
        raise ValueError(f"not with a chat completion: an empty text (finish_reason {kind})")
    return "stop"


def _counts(answer: dict[str, Any], text: str) -> tuple[int | None, int | None]:
    """(generated tokens, tokens of the prompt); None where the server doesn't count them."""
    usage = answer.get("usage")
    tokens, prompt_tokens = (_count(usage, name) for name in ("completion_tokens", "prompt_tokens"))
    return (None if text and tokens == 0 else tokens), prompt_tokens or None


def _count(usage: Any, name: str) -> int | None:
    n = usage.get(name) if isinstance(usage, dict) else None
    return int(n) if isinstance(n, int | float) and not isinstance(n, bool) and 0 <= n < 1e9 else None


def sendable(text: str) -> str:
    """Text without lone surrogates, which UTF-8 can't encode."""
    return text.encode("utf-8", "replace").decode()
