"""The openai engine: any server that speaks OpenAI's chat completions, such as `vllm serve`, SGLang or a paid service.

Sends requests to the server at --base-url, which renders the chat with its own template. Each request carries its
sample's seed, which a server may ignore, and the neutral values of what servers else fill in by themselves. What its
template does to thoughts of earlier turns isn't known, so they are sent as plain words. A server
can't prove its weights: the fingerprint is a hash of its address and the model's name, so other weights under the same
name go unnoticed. The key comes from an environment variable and is sent in the request's header only.

A fault that passes is tried again. A prompt that the server refuses, or fails at while it answers others, gets
`no_answer`. A field that it refuses is left out if that leaves the experiment as it is. Any other fault ends the batch;
what was answered until then comes with the error.
"""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from random import uniform
from typing import TYPE_CHECKING, Any

from rrr_cli.addresses import KEY_VARIABLE, address, api_key, secrets_of, without_secrets
from rrr_cli.engines.base import Completion, Prompt, Sampling, UnfinishedError, no_answer, no_room
from rrr_cli.engines.chat_completions import NEUTRAL, body, with_own_names
from rrr_cli.engines.server_faults import Fault, Kind, Overflow, read
from rrr_cli.engines.template import parsed
from rrr_cli.errors import NO_BACKEND, RrrError
from rrr_cli.extras import require
from rrr_cli.options import EngineOptions, flag_of
from rrr_cli.progress import Work
from rrr_cli.prompts import thoughts_as_text
from rrr_cli.records import content_id
from rrr_cli.text import safe_text

if TYPE_CHECKING:
    from httpx import AsyncClient

TRIES = 8
FIRST_WAIT = 1.0  # seconds; doubles after each try, up to
LONGEST_WAIT = 60.0
MOST_PATIENCE = 300.0  # seconds: the command ends where the server asks for a longer wait
SHORTEST_KEY = 8  # characters; a shorter one is a placeholder
TIMEOUT = 600.0  # seconds that a response may take


TRIES_IN_DOUBT = 3
MOST_SILENT = 8  # prompts in a row, each tried so often without any answer meanwhile: the server is down
MOST_REFUSED = 3  # prompts in a row that a server refuses that hasn't answered one yet
# What may be left out, if it is sent with this value: it says what a server should do anyway.
SPARE = {"top_p": 1.0, "temperature": 1.0, **NEUTRAL}
OWN_VALUE = (
    "and the server may have a value of its own, which limits what is sampled (vllm serve: --generation-config vllm)")
LEFT_OUT = {"seed": "and the same command may sample other texts", "n": "one answer a request is the default",
            "top_p": "because it is 1", "temperature": "because it is 1, where models that take none are fixed"}


class _TooLongError(Exception):
    def __init__(self, overflow: Overflow) -> None:
        super().__init__()
        self.overflow = overflow


class _NoAnswerError(Exception):
    """A prompt without an answer. `doubt`: what is wrong if it isn't the prompt but the server."""

    def __init__(self, reason: str, doubt: RrrError | None = None, silent: bool = False) -> None:
        super().__init__()
        self.reason, self.doubt, self.silent = reason, doubt, silent


class OpenaiEngine:
    """One model of one server; at most `concurrency` requests are open at once."""

    name = "openai"
    remote = True  # the weights are on the server, not here

    def __init__(
        self, model: str, *, base_url: str | None = None, concurrency: int = 32, api_key_env: str = KEY_VARIABLE,
        template_args: str | None = None, keep_thoughts: bool = True,
    ) -> None:
        """Check that a server answers at `base_url`.

        Raises RrrError: bad address or variable (exit 2), httpx not installed or no server there (4).
        """
        require("openai", "httpx")
        self.model, self.url, self.fingerprint = model, address(base_url), fingerprint(base_url, model)
        self.shown_url = without_secrets(self.url)
        self.left_out: list[str] = []  # fields of a request that the server refuses
        self._key, self._key_variable = api_key(api_key_env), api_key_env
        self._concurrency = concurrency
        self._limit_field = "max_tokens"
        self._answered = 0  # requests
        self._in_doubt = 0  # prompts without an answer since the last answer, which may be the server's fault
        self._doubt: RrrError | None = None  # what the first of these says
        self._template_args, self._keep_thoughts = parsed(template_args), keep_thoughts
        asyncio.run(self._check_reachable())

    def close(self) -> None:
        """Nothing to free: no connection stays open between batches."""

    @classmethod
    def fingerprint_of(cls, model: str, options: EngineOptions) -> str:
        """Of the address and the model's name. Raises RrrError (exit 2): bad address, or no key in the variable."""
        api_key(options.api_key_env)  # a key typed in place of the variable's name must not get into the provenance
        return fingerprint(options.base_url, model)

    def generate(self, prompts_B: Sequence[Prompt], sampling: Sampling) -> list[list[Completion]]:
        """completions_B_N, one request a seed.

        Raises UnfinishedError: the server refuses all requests (exit 3), or doesn't answer (4).
        """
        shown_B = [replace(p, messages=thoughts_as_text(p.messages, self._keep_thoughts)) for p in prompts_B]
        template = {"chat_template_kwargs": self._template_args} if self._template_args else {}
        requests = [body(self.model, p, seed, sampling) | template for p in shown_B for seed in p.seeds]
        written, failure = asyncio.run(self._all(requests)) if requests else ([], None)
        completions = iter(written)
        completions_B_N = [[with_own_names(next(completions), p.tools) for _ in p.seeds] for p in prompts_B]
        if failure is not None:
            raise UnfinishedError(failure, completions_B_N)
        return completions_B_N

    def _client(self) -> AsyncClient:
        import httpx

        headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
        limits = httpx.Limits(max_connections=self._concurrency, max_keepalive_connections=self._concurrency)
        timeout = httpx.Timeout(TIMEOUT, connect=min(TIMEOUT, 30.0))
        return httpx.AsyncClient(base_url=self.url + "/", headers=headers, limits=limits, timeout=timeout)

    async def _check_reachable(self) -> None:
        """Any response will do: a wrong address shows now and not after all the retries."""
        from httpx import TransportError

        try:
            async with self._client() as client:
                await client.get("models", timeout=min(TIMEOUT, 30.0))
        except TransportError as error:
            raise RrrError(
                f"nothing answers at {self.shown_url} ({type(error).__name__}): start the server, or correct "
                "--base-url", NO_BACKEND,
            ) from None

    async def _all(self, requests: list[dict[str, Any]]) -> tuple[list[Completion], RrrError | None]:
        """A completion a request, and the error that ended the batch before all of them were answered."""
        free, failure = asyncio.Semaphore(self._concurrency), None
        async with self._client() as client:

            async def one(request: dict[str, Any]) -> Completion:
                async with free:  # not released while waiting to retry, so that a busy server gets fewer requests
                    return await self._complete(client, request) if Work.signalled is None else no_answer("")

            tasks = [asyncio.create_task(one(request)) for request in requests]
            try:
                await asyncio.gather(*tasks)
            except RrrError as error:
                failure = error
            finally:  # if one failed, the others end before the client closes
                for task in tasks:
                    task.cancel()
                written = await asyncio.gather(*tasks, return_exceptions=True)
        if failure is None and Work.signalled is not None:
            failure = RrrError(
                "stopped; what the server answered is written. Type the same command to resume", 128 + Work.signalled)
        if not self._answered or self._in_doubt > 1:  # then it isn't these prompts
            failure = failure or self._doubt
        return [c if isinstance(c, Completion) else no_answer("") for c in written], failure

    async def _complete(self, client: AsyncClient, request: dict[str, Any]) -> Completion:
        """One completion, or `no_answer`. Raises RrrError: the batch ends."""
        try:
            return await self._fitting(client, request)
        except _NoAnswerError as error:
            if error.doubt is not None and (error.silent or not self._answered):
                self._doubt, self._in_doubt = self._doubt or error.doubt, self._in_doubt + 1
                if self._in_doubt >= (MOST_SILENT if error.silent else MOST_REFUSED):
                    raise self._doubt from None
            return no_answer(error.reason)

    async def _fitting(self, client: AsyncClient, request: dict[str, Any]) -> Completion:
        """One completion; where the window has no room for `max_tokens`, of as many as fit, as on the other engines."""
        try:
            return await self._ask(client, request, request["max_tokens"])
        except _TooLongError as error:
            overflow = error.overflow
        try:
            prompt_tokens: int | None = overflow.prompt_tokens
            if not (overflow.exact and overflow.context):  # a completion of one token shows how long the prompt is
                one = await self._ask(client, request, 1)
                prompt_tokens = one.prompt_tokens
                if not overflow.context:
                    raise _NoAnswerError("its window has room for less than --max-tokens, and it doesn't say how much")
                if prompt_tokens is None or overflow.context - prompt_tokens == 1:
                    return one
            room = min(overflow.context - (prompt_tokens or 0), request["max_tokens"])
            return await self._ask(client, request, room) if room > 0 else no_room(prompt_tokens or None)
        except _TooLongError as error:
            return no_room(max(error.overflow.prompt_tokens, overflow.context) or None)

    async def _ask(self, client: AsyncClient, request: dict[str, Any], most: int) -> Completion:
        """The server's completion of at most `most` tokens. Raises _TooLongError, _NoAnswerError or RrrError."""
        while True:
            sent = {k: v for k, v in request.items() if k not in self.left_out and k != "max_tokens"}
            sent |= {self._limit_field: most}
            result = await self._post(client, sent)
            if isinstance(result, Completion) or result.kind is Kind.TOO_LONG:
                self._answered, self._in_doubt, self._doubt = self._answered + 1, 0, None
            if isinstance(result, Completion):
                return result
            if result.kind is Kind.TOO_LONG:
                raise _TooLongError(result.overflow)
            reason = self._shown(result.text)
            if result.kind is Kind.FILTERED:
                raise _NoAnswerError(reason)
            if result.kind is Kind.REFUSED:
                raise _NoAnswerError(reason, self._refusal(result.status, reason))
            if result.kind is Kind.ENDS or not self._changes(result.fields, sent, result.text):
                raise self._refusal(result.status, reason, result.fields)

    def _changes(self, fields: Sequence[str], sent: dict[str, Any], text: str) -> bool:
        """Whether there is another request to try: without the fields that the server refuses, each said once."""
        if "max_tokens" in sent and ("max_tokens" in fields or "max_completion_tokens" in text):
            self._limit_field = "max_completion_tokens"  # OpenAI's newer models
            return True
        spare = [name for name in fields if name in sent and (name in ("seed", "n") or SPARE.get(name) == sent[name])]
        if spare != ["temperature"]:
            spare = [name for name in spare if name != "temperature"]  # which some take alone, without top_p
        for name in spare:
            if name not in self.left_out:
                self.left_out.append(name)
                why = LEFT_OUT.get(name, OWN_VALUE)
                print(f"rrr: {self.shown_url} refuses {name}: it is left out, {why}", file=sys.stderr)
        return bool(spare)

    async def _post(self, client: AsyncClient, request: dict[str, Any]) -> Completion | Fault:
        """The first response that isn't a fault that passes. The wait doubles after each try, unless the server names
        one. Raises _NoAnswerError: `TRIES` such faults; RrrError (exit 4): the server asks for more than MOST_PATIENCE.
        """
        answered, failure, i = self._answered, "", 0
        while i < (TRIES_IN_DOUBT if self._in_doubt else TRIES):  # where it fails at each prompt, it isn't the prompt
            fault = await self._try(client, request)
            if isinstance(fault, Completion) or fault.kind is not Kind.PASSES:
                return fault
            failure, i = self._shown(fault.text), i + 1
            if fault.wait is not None and fault.wait > MOST_PATIENCE:
                raise self._silence(i, f"{failure}; it asks to wait {fault.wait:.0f} s")
            if Work.signalled is not None:
                raise _NoAnswerError("")
            pause = min(LONGEST_WAIT, FIRST_WAIT * 2.0 ** (i - 1)) * uniform(0.5, 1)
            if i < TRIES:
                await asyncio.sleep(pause if fault.wait is None else fault.wait + pause / 2)
        doubt = self._silence(i, failure) if self._answered == answered else None
        raise _NoAnswerError(f"no answer in {i} tries; the last: {failure}", doubt, silent=True)

    async def _try(self, client: AsyncClient, request: dict[str, Any]) -> Completion | Fault:
        from httpx import RequestError

        try:
            return read(await client.post("chat/completions", json=request), request.keys())
        except RequestError as error:  # a timeout, too
            return Fault(Kind.PASSES, type(error).__name__)

    def _shown(self, text: str) -> str:
        """A server's words, safe to print: without key and secrets of the address, one line, at most 300 characters."""
        for secret in (self._key, *secrets_of(self.url)):
            if secret:  # a placeholder may be a letter long: within a word it isn't the key
                bounds = ("", "") if len(secret) >= SHORTEST_KEY else ("(?<![A-Za-z0-9])", "(?![A-Za-z0-9])")
                text = re.sub(re.escape(secret).join(bounds), "***", text)
        return " ".join(safe_text(text).split())[:300]

    def _silence(self, tries: int, failure: str) -> RrrError:
        return RrrError(
            f"{self.shown_url} gave no answer in {tries} tries; the last: {failure}. The rows written so far are "
            "complete: type the same command to resume; a lower --concurrency sends fewer requests at once", NO_BACKEND)

    def _refusal(self, status: int, reason: str, fields: Sequence[str] = ()) -> RrrError:
        message = f"{self.shown_url} refuses the request for --model {self.model}: {reason}"
        if status in (401, 403):
            state = "has the key that was sent" if self._key else "is not set"
            message += f"; the environment variable {self._key_variable} {state}"
        for name in fields:
            if name == "chat_template_kwargs":
                message += f"; that is {flag_of('template_args')}, which this server can't use: leave it out"
            if name in ("temperature", "top_p"):
                message += f"; without {flag_of(name)} it would be another experiment: choose a value that it takes"
        return RrrError(message)


def fingerprint(base_url: str | None, model: str) -> str:
    """16 hex digits of the address and the model's name: all that can be known of a server. Raises as `address`."""
    return content_id("openai", address(base_url), model)
