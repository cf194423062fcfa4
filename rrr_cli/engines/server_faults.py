"""What a server means where it doesn't answer: try again, leave a field out, this prompt alone, or nothing will work.

Servers say one thing in many words and statuses, so all the words of a response are read, wherever they stand. Pure;
any content becomes a `Fault`.
"""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Collection, Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import Enum
from typing import TYPE_CHECKING, Any, NamedTuple

from rrr_cli.engines.base import Completion
from rrr_cli.engines.chat_completions import FilteredError, completion, sendable

if TYPE_CHECKING:
    from httpx import Response

PASSES = (408, 409, 421, 424, 425, 429, 460, 498, 499)  # gateways' own among them; and all from 500 on, but for
NEVER_PASSES = (501, 505)
ENDS = (401, 402, 403, 404, 405, 410)
OF_THE_PROMPT = ("messages", "tools", "model")
MOST_READ = 20_000  # characters of a response's words

FOR_GOOD = re.compile(  # account, key, model
    r"insufficient_quota|billing_(hard_limit|not_active)|credit balance|payment required|exceeded your current quota|"
    r"(insufficient|not enough|out of) (account )?(balance|funds|credits?)|access_terminated|invalid_api_key|"
    r"(account|organi[sz]ation|api key)\b.{0,30}\b(deactivated|suspended|disabled|restricted|terminated|not valid)|"
    r"(incorrect|invalid) api key|model_not_found|model\b.{0,80}(does ?n.t exist|not exist|not found)|"
    r"(unknown|no such|not a valid) model|arrear|欠费|余额不足", re.I)
OUT_OF_ORDER = re.compile(  # for a while, whatever the status
    r"(model|engine|server|backend)( has| is| was)?( been| currently| still)* "
    r"(crashed|unloaded|reloaded|loading|restarting|overloaded|not (yet )?ready|busy)|channel error|"
    r"temporarily (unavailable|overloaded)", re.I)
FOR_A_WHILE = re.compile(r"retryDelay|(try again|retry|reset\w*) (in|after)|per[ _-]?(second|minute|hour|day)", re.I)
FILTER = re.compile(
    r"content[ _-]{0,3}(filter|polic|management|moderat|exists risk|violat)|responsible ?ai|moderation|flagged|"
    r"guardrail|(safety|usage) (system|polic|filter|guideline|check)|prohibited_content|inappropriate|"
    r"data_inspection_failed|invalid_prompt|sensitive (content|word|information)|"
    r"violat\w+.{0,60}(polic|terms|guideline)|harmful|jailbreak|敏感", re.I)
TOO_LONG = re.compile(
    r"context.{0,3}(length|size|window|limit)|exceed_context|(prompt|inputs?|messages)\b.{0,40}\btoo (long|large)|"
    r"too many (input |prompt )?tokens|longer than the (maximum )?(model|context)|"
    r"max(imum)?[ _](prompt|model|input)[ _]len|`inputs` (tokens|must have)|input token count|"
    r"reduce the length of the (messages|prompt|input)|max_tokens must be at least 1, got -", re.I)
CONTEXT = re.compile(
    r"(?:(?:maximum|model'?s?) (?:context|prompt|model|sequence|input) length:? ?(?:is |of |\()?|must be <= |"
    r"must have less than |tokens > |\d \+ \d{1,9} > |tokens allowed \(|context (?:size|length) \(|n_ctx: |"
    r"too large for model with |cannot exceed |context length of (?:only )?)(\d{1,9})", re.I)
PROMPT = re.compile(
    r"(\d{1,9})(?: input tokens| tokens from the input| (?:tokens )?in the messages)|(?:given: |too long: |"
    r"n_prompt_tokens: |input token count \(|(?:prompt|input|request) \((?:length )?|"
    r"(?:prompt|request) contains |received |limit: (?=\d+ \+))(\d{1,9})", re.I)
ADVICE = re.compile(r"(did you mean|expected one of|(supported|allowed|valid) (parameters|fields|arguments)\b).*", re.I)
A_WORD = re.compile(r"(?<![\w-])(?:['\"`](\w+)['\"`]|(\w{2,}))(?![\w-])")  # a single letter counts in quotes alone


class Kind(Enum):
    """What is to be done."""

    PASSES = "the same request may be answered later"
    TOO_LONG = "prompt and answer don't fit into the window"
    FIELD = "a field of the request isn't taken"
    FILTERED = "a content filter refuses this prompt"
    REFUSED = "this request isn't taken, for another reason"
    ENDS = "no request will be answered: key, account, model, address"


class Overflow(NamedTuple):
    """A request, prompt and answer together, that is longer than the window; 0 where the server doesn't say."""

    context: int  # length of the window in tokens
    prompt_tokens: int
    exact: bool  # False: the prompt has at least `prompt_tokens`


class Fault(NamedTuple):
    """A response that isn't an answer."""

    kind: Kind
    text: str  # status and message as the server gives them: not safe to print
    status: int = 0
    fields: tuple[str, ...] = ()  # those of the request that it names
    overflow: Overflow = Overflow(0, 0, False)
    wait: float | None = None  # seconds that it asks for


def read(response: Response, sent: Collection[str]) -> Completion | Fault:
    """The completion, or what to do without it. `sent`: the names of the request's fields."""
    try:
        answer = response.json()
    except (ValueError, RecursionError):
        answer = None
    status = response.status_code
    if 200 <= status < 300:
        error = _error_within(answer)
        if error is None:
            return _completion(answer, response.text)
        status, answer = _inner_status(error), {"error": error}
    said = list(_leaves(answer))
    if written := dict(said).get("failed_generation"):  # Groq's, of a call that it can't read: the model wrote that
        return Completion(sendable(written), None, "stop", None)
    words = "\n".join(f"{name}: {value}" for name, value in said)[:MOST_READ] or response.text[:MOST_READ]
    fields = refused_fields(said, words, sent)
    kind = _kind(status, words, fields)
    return Fault(
        kind, f"{status} {_message(answer, response.text)}".strip(), status, fields, overflow(words),
        wait=asked_wait(response.headers, words) if kind is Kind.PASSES else None)


def _completion(answer: Any, text: str) -> Completion | Fault:
    try:
        return completion(answer)
    except FilteredError as error:
        return Fault(Kind.FILTERED, str(error), 200)
    except ValueError as error:
        return Fault(Kind.PASSES, f"it answers, but {error}: {_message(answer, text)}", 200)


def _error_within(answer: Any) -> Any:
    """The error in a body that came with 200, beside half an answer too; None where there is none."""
    if not isinstance(answer, dict):
        return None
    choices = answer.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    return (answer.get("error") or (first.get("error") if isinstance(first, dict) else None)
            or (answer if answer.get("object") == "error" else None))


def _kind(status: int, words: str, fields: tuple[str, ...]) -> Kind:
    passing = status in PASSES or (status >= 500 and status not in NEVER_PASSES)
    if status == 402 or (FOR_GOOD.search(words) and not (passing and FOR_A_WHILE.search(words))):
        return Kind.ENDS
    if status != 429 and FILTER.search(words):
        return Kind.FILTERED
    if status in (400, 413, 422, 500, 502) and TOO_LONG.search(words) and not FOR_A_WHILE.search(words):
        return Kind.TOO_LONG
    if status in (400, 404, 422) and OUT_OF_ORDER.search(words):
        return Kind.PASSES
    if passing:  # a server's own code may fail at a field that it doesn't know
        return Kind.FIELD if fields and "unexpected keyword argument" in words else Kind.PASSES
    if status in ENDS or status < 400:
        return Kind.ENDS
    return Kind.FIELD if fields else Kind.REFUSED


def refused_fields(said: list[tuple[str, str]], words: str, sent: Collection[str]) -> tuple[str, ...]:
    """The fields of the request, but for the prompt's, that an error is about: named as such, else within its words."""
    places = [value for name, value in said if name in ("param", "loc")]
    named = {part for place in places for part in re.split(r"[.\[\]/ ]+", place)}
    if "messages" in named:
        return ()
    if not named & set(sent):
        named = {_snake(quoted or plain) for quoted, plain in A_WORD.findall(ADVICE.sub("", words))}
        named |= {name for name in sent if "_" in name and re.search(rf"\b{name.replace('_', '[ -]')}\b", words, re.I)}
    return tuple(name for name in sent if name in named and name not in OF_THE_PROMPT)


def _snake(word: str) -> str:
    """topK, as Google and xAI say it, is top_k."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", word).lower()


def overflow(words: str) -> Overflow:
    """The lengths in an error that says prompt and answer are longer than the window."""
    context, prompt = CONTEXT.search(words), PROMPT.search(words)
    exact = bool(prompt) and not re.search("at least", words)  # vLLM stops counting once the prompt is too long
    return Overflow(int(context[1]) if context else 0, int(prompt[1] or prompt[2]) if prompt else 0, exact)


def asked_wait(headers: Any, words: str = "") -> float | None:
    """Seconds to wait, as the headers say (in milliseconds, seconds, or until a date) or, at Google, the body."""
    milliseconds, value = headers.get("retry-after-ms", ""), headers.get("retry-after", "")
    if re.fullmatch(r"\d{1,12}(\.\d{1,9})?", milliseconds):
        return float(milliseconds) / 1000
    if re.fullmatch(r"\d{1,9}(\.\d{1,9})?", value):
        return float(value)
    if found := re.search(r"retryDelay: (\d{1,9}(\.\d{1,9})?)s", words):
        return float(found[1])
    try:
        return max(0.0, (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return None


def _inner_status(error: Any) -> int:
    """The status within an error that came with 200; 502 where it has none."""
    names = ("code", "status", "status_code", "http_code")
    codes = [str(error.get(name)) for name in names] if isinstance(error, dict) else []
    return next((int(code) for code in codes if re.fullmatch("[45][0-9][0-9]", code)), 502)


def _message(answer: Any, text: str) -> str:
    """An error's message, from any of the fields where servers put it, else the whole body."""
    while isinstance(answer, list) and answer:
        answer = answer[0]
    for name in ("error", "message", "detail", "errors", "msg", "error_message"):
        while isinstance(answer, dict) and answer.get(name):
            answer = answer[name]
    if answer is None or answer == []:
        return text
    return answer if isinstance(answer, str) else json.dumps(answer, ensure_ascii=False)


def _leaves(value: Any) -> Iterator[tuple[str, str]]:
    """(name, text) of every text and number in a JSON value. What a server repeats of the request stays out."""
    waiting: deque[tuple[str, Any]] = deque([("", value)])
    while waiting:
        name, value = waiting.popleft()
        if isinstance(value, dict):
            waiting.extend((str(key), inner) for key, inner in value.items() if key not in ("input", "ctx", "url"))
        elif isinstance(value, list):
            waiting.extend((name, inner) for inner in value)
        elif value is not None:
            yield name, str(value)
