"""The openai engine: any server that speaks OpenAI's chat completions, such as `vllm serve`, SGLang or a paid service.

Sends requests to the server at --base-url, which renders the chat with its own template. Each request carries its
sample's seed, which a server may ignore. What its template does to thoughts of earlier turns isn't known, so they are
sent as plain words. A server can't prove its weights: the fingerprint is a hash of its address and
the model's name, so other weights under the same name go unnoticed. The key comes from an environment variable and is
sent in the request's header only. Refuses an address with a user, a password or a query: command lines are recorded.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Sequence
from dataclasses import replace
from random import uniform
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from rrr_cli.engines.base import Completion, Prompt, Sampling, no_room
from rrr_cli.engines.chat_completions import Overflow, body, completion, error_text, retry_after, too_long
from rrr_cli.engines.template import parsed
from rrr_cli.errors import NO_BACKEND, USAGE, RrrError
from rrr_cli.extras import require
from rrr_cli.options import EngineOptions
from rrr_cli.prompts import thoughts_as_text
from rrr_cli.records import content_id
from rrr_cli.text import safe_text

if TYPE_CHECKING:
    from httpx import AsyncClient, Response

KEY_VARIABLE = "OPENAI_API_KEY"
TRIES = 8
FIRST_WAIT = 1.0  # seconds; doubles after each try, up to
LONGEST_WAIT = 60.0
MOST_PATIENCE = 300.0  # seconds: the command ends where the server asks for a longer wait
TIMEOUT = 600.0  # seconds that a response may take


class _TooLongError(Exception):
    def __init__(self, overflow: Overflow) -> None:
        super().__init__()
        self.overflow = overflow


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
        self._key, self._key_variable = api_key(api_key_env), api_key_env
        self._concurrency = concurrency
        self._limit_field = "max_tokens"
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

        Raises RrrError: the server refuses, or sends something else (exit 3); no response in `TRIES` tries (4).
        """
        shown_B = [replace(p, messages=thoughts_as_text(p.messages, self._keep_thoughts)) for p in prompts_B]
        template = {"chat_template_kwargs": self._template_args} if self._template_args else {}
        requests = [body(self.model, p, seed, sampling) | template for p in shown_B for seed in p.seeds]
        completions = iter(asyncio.run(self._all(requests)) if requests else ())
        return [[next(completions) for _ in p.seeds] for p in prompts_B]

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
                f"nothing answers at {self.url} ({type(error).__name__}): start the server, or correct --base-url",
                NO_BACKEND,
            ) from None

    async def _all(self, requests: list[dict[str, Any]]) -> list[Completion]:
        free = asyncio.Semaphore(self._concurrency)
        async with self._client() as client:

            async def one(request: dict[str, Any]) -> Completion:
                async with free:  # not released while waiting to retry, so that a busy server gets fewer requests
                    return await self._complete(client, request)

            tasks = [asyncio.create_task(one(request)) for request in requests]
            try:
                return await asyncio.gather(*tasks)
            finally:  # if one failed, the others end before the client closes
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    async def _complete(self, client: AsyncClient, request: dict[str, Any]) -> Completion:
        """One completion; where the window has no room for `max_tokens`, of as many as fit, as on the other engines."""
        try:
            return await self._ask(client, request, request["max_tokens"])
        except _TooLongError as error:
            overflow = error.overflow
        try:
            prompt_tokens = overflow.prompt_tokens
            if not overflow.exact and overflow.context:  # a completion of one token shows how long the prompt is
                one = await self._ask(client, request, 1)
                prompt_tokens = one.prompt_tokens
                if overflow.context - prompt_tokens == 1:
                    return one
            room = min(overflow.context - prompt_tokens, request["max_tokens"])
            return await self._ask(client, request, room) if room > 0 else no_room(prompt_tokens)
        except _TooLongError as error:
            return no_room(max(error.overflow.prompt_tokens, overflow.context))

    async def _ask(self, client: AsyncClient, request: dict[str, Any], most: int) -> Completion:
        """The server's completion of at most `most` tokens. Raises _TooLongError, or RrrError (exit 3)."""
        field = self._limit_field
        response = await self._post(client, {k: v for k, v in request.items() if k != "max_tokens"} | {field: most})
        if response.status_code == 200:
            return self._completion(response)
        if response.status_code in (400, 413) and (overflow := too_long(response)):
            raise _TooLongError(overflow)
        message = self._message(response)
        if response.status_code == 400 and field == "max_tokens" and "max_completion_tokens' instead" in message:
            self._limit_field = "max_completion_tokens"  # OpenAI's newer models
            return await self._ask(client, request, most)
        raise RrrError(self._refusal(response.status_code, message))

    async def _post(self, client: AsyncClient, request: dict[str, Any]) -> Response:
        """The first response that is neither 429 nor 5xx. The wait doubles after each try, unless the server names one.

        Raises RrrError (exit 4): no such response in `TRIES` tries, or the server asks for more than MOST_PATIENCE.
        """
        from httpx import TransportError

        failure = ""
        for i in range(TRIES):
            asked_wait = None
            try:
                response = await client.post("chat/completions", json=request)
            except TransportError as error:  # a timeout, too
                failure = type(error).__name__
            else:
                if response.status_code != 429 and response.status_code < 500:
                    return response
                failure = f"{response.status_code} {self._message(response)}".strip()
                asked_wait = retry_after(response.headers.get("retry-after"))
                if asked_wait is not None and asked_wait > MOST_PATIENCE:
                    failure += f"; it asks to wait {asked_wait:.0f} s"
                    break
            if i + 1 < TRIES:
                pause = min(LONGEST_WAIT, FIRST_WAIT * 2**i) * uniform(0.5, 1)
                await asyncio.sleep(pause if asked_wait is None else asked_wait + pause / 10)
        raise RrrError(
            f"{self.url} gave no answer in {i + 1} tries; the last: {failure}. The rows written so far are complete: "
            "type the same command to resume; a lower --concurrency sends fewer requests at once", NO_BACKEND,
        )

    def _completion(self, response: Response) -> Completion:
        try:
            return completion(response)
        except ValueError as error:
            raise RrrError(f"{self.url} answers, but {error}: {self._message(response)}") from None

    def _message(self, response: Response) -> str:
        """The server's error message, safe to print: without the key, one line, at most 300 characters."""
        text = error_text(response)
        if self._key:
            text = text.replace(self._key, "***")
        return " ".join(safe_text(text).split())[:300]

    def _refusal(self, status: int, reason: str) -> str:
        message = f"{self.url} refuses the request for --model {self.model}: {status} {reason}"
        if status in (401, 403):
            state = "has the key that was sent" if self._key else "is not set"
            message += f"; the environment variable {self._key_variable} {state}"
        return message


def address(base_url: str | None) -> str:
    """`base_url` without a slash at its end. Raises RrrError (exit 2): none, no web address, or one with a secret."""
    if not base_url:
        raise RrrError("--engine openai needs --base-url, such as http://localhost:8000/v1", USAGE)
    try:
        parts = urlsplit(base_url)
        fits = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        fits = False
    if not fits:
        raise RrrError("--base-url is not an address such as http://localhost:8000/v1", USAGE)
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise RrrError(
            "--base-url contains a user, a password or a query, and command lines are recorded: put the key into the "
            f"environment variable {KEY_VARIABLE}", USAGE,
        )
    return base_url.rstrip("/")


def api_key(variable: str) -> str | None:
    """The key, or None where the default variable isn't set. Raises RrrError (exit 2): no variable, or not a key."""
    if not re.fullmatch("[A-Za-z_][A-Za-z0-9_]*", variable):
        raise RrrError("--api-key-env is the name of an environment variable, not the key itself", USAGE)
    key = os.environ.get(variable, "").strip()
    if not key and variable != KEY_VARIABLE:
        raise RrrError(f"--api-key-env {variable}: the environment variable {variable} is not set", USAGE)
    if not re.fullmatch("[!-~]*", key):
        raise RrrError(
            f"the environment variable {variable} contains white space or other characters that a key can't have", USAGE
        )
    return key or None


def fingerprint(base_url: str | None, model: str) -> str:
    """16 hex digits of the address and the model's name: all that can be known of a server. Raises as `address`."""
    return content_id("openai", address(base_url), model)
