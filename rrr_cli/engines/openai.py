"""The openai engine: any server that speaks OpenAI's chat completions, such as `vllm serve`, SGLang or a paid service.

Reads a server at --base-url, which renders the chat with its own template. A sample's seed is sent; a server may
ignore it. A server can't prove its weights either: the fingerprint is a hash of its address and the model's name, so a
model that was exchanged behind its name goes unseen. The key comes from an environment variable and goes nowhere but
into the request's header. Refuses an address that holds a user, a password or a query: command lines are recorded.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Sequence
from random import uniform
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from rrr_cli.engines.base import Completion, Prompt, Sampling, no_room
from rrr_cli.engines.chat_completions import Overflow, body, completion, retry_after, too_long, words
from rrr_cli.errors import NO_BACKEND, USAGE, RrrError
from rrr_cli.extras import require
from rrr_cli.options import EngineOptions
from rrr_cli.records import content_id
from rrr_cli.text import safe_text

if TYPE_CHECKING:
    from httpx import AsyncClient, Response

KEY_VARIABLE = "OPENAI_API_KEY"
TRIES = 8
FIRST_WAIT = 1.0  # seconds; doubles from try to try, up to
LONGEST_WAIT = 60.0
MOST_PATIENCE = 300.0  # seconds: a server that asks for a longer wait ends the command
TIMEOUT = 600.0  # seconds that an answer may take


class _TooLongError(Exception):
    def __init__(self, overflow: Overflow) -> None:
        super().__init__()
        self.overflow = overflow


class OpenaiEngine:
    """One model of one server; at most `concurrency` requests are under way at once."""

    name = "openai"

    def __init__(
        self, model: str, *, base_url: str | None = None, concurrency: int = 32, api_key_env: str = KEY_VARIABLE
    ) -> None:
        """Ask the server for a sign of life.

        Raises RrrError: unfit address or variable (exit 2), httpx not installed or nothing answers there (4).
        """
        require("openai", "httpx")
        self.model, self.url, self.fingerprint = model, address(base_url), fingerprint(base_url, model)
        self._key, self._key_variable = api_key(api_key_env), api_key_env
        self._concurrency = concurrency
        self._limit_field = "max_tokens"
        asyncio.run(self._knock())

    def close(self) -> None:
        """Nothing is held between batches."""

    @classmethod
    def fingerprint_of(cls, model: str, options: EngineOptions) -> str:
        """Of the address and the model's name. Raises RrrError (exit 2): unfit address, or the named key is missing."""
        api_key(options.api_key_env)  # a key that was typed in its place must not get into the provenance
        return fingerprint(options.base_url, model)

    def generate(self, prompts_B: Sequence[Prompt], sampling: Sampling) -> list[list[Completion]]:
        """completions_B_N, one request a seed.

        Raises RrrError: the server refuses or answers something else (exit 3), or gives up after `TRIES` tries (4).
        """
        requests = [body(self.model, p, seed, sampling) for p in prompts_B for seed in p.seeds]
        completions = iter(asyncio.run(self._all(requests)) if requests else ())
        return [[next(completions) for _ in p.seeds] for p in prompts_B]

    def _client(self) -> AsyncClient:
        import httpx

        headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
        limits = httpx.Limits(max_connections=self._concurrency, max_keepalive_connections=self._concurrency)
        timeout = httpx.Timeout(TIMEOUT, connect=min(TIMEOUT, 30.0))
        return httpx.AsyncClient(base_url=self.url + "/", headers=headers, limits=limits, timeout=timeout)

    async def _knock(self) -> None:
        """Whatever the server says of its models will do: a wrong address shows now, not after all the waits."""
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
                async with free:  # kept while waiting to try again, so that a busy server is asked less
                    return await self._complete(client, request)

            tasks = [asyncio.create_task(one(request)) for request in requests]
            try:
                return await asyncio.gather(*tasks)
            finally:  # where one failed, the others end before the client closes
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    async def _complete(self, client: AsyncClient, request: dict[str, Any]) -> Completion:
        """One completion, of fewer tokens than asked for where the window leaves fewer, as on the other engines."""
        try:
            return await self._ask(client, request, request["max_tokens"])
        except _TooLongError as error:
            overflow = error.overflow
        try:
            prompt_tokens = overflow.prompt_tokens
            if not overflow.exact and overflow.context:  # an answer of one token tells how long the prompt is
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
        said = self._said(response)
        if response.status_code == 400 and field == "max_tokens" and "max_completion_tokens' instead" in said:
            self._limit_field = "max_completion_tokens"  # OpenAI's newer models
            return await self._ask(client, request, most)
        raise RrrError(self._refusal(response.status_code, said))

    async def _post(self, client: AsyncClient, request: dict[str, Any]) -> Response:
        """The server's answer, once it is neither 429 nor 5xx. Waits twice as long from try to try, or as told."""
        from httpx import TransportError

        failure = ""
        for i in range(TRIES):
            told = None
            try:
                response = await client.post("chat/completions", json=request)
            except TransportError as error:  # a timeout, too
                failure = type(error).__name__
            else:
                if response.status_code != 429 and response.status_code < 500:
                    return response
                failure = f"{response.status_code} {self._said(response)}".strip()
                told = retry_after(response.headers.get("retry-after"))
                if told is not None and told > MOST_PATIENCE:
                    failure += f"; it asks to wait {told:.0f} s"
                    break
            if i + 1 < TRIES:
                pause = min(LONGEST_WAIT, FIRST_WAIT * 2**i) * uniform(0.5, 1)
                await asyncio.sleep(pause if told is None else told + pause / 10)
        raise RrrError(
            f"{self.url} gave no answer in {i + 1} tries; the last: {failure}. What is written is whole: type the same "
            "command to go on; a lower --concurrency asks less of the server", NO_BACKEND,
        )

    def _completion(self, response: Response) -> Completion:
        try:
            return completion(response)
        except ValueError as error:
            raise RrrError(f"{self.url} answers, but {error}: {self._said(response)}") from None

    def _said(self, response: Response) -> str:
        """The server's words, safe to print, without the key, in one line of at most 300 characters."""
        text = words(response)
        if self._key:
            text = text.replace(self._key, "***")
        return " ".join(safe_text(text).split())[:300]

    def _refusal(self, status: int, said: str) -> str:
        message = f"{self.url} refuses the request for --model {self.model}: {status} {said}"
        if status in (401, 403):
            state = "holds the key that was sent" if self._key else "is not set"
            message += f"; the environment variable {self._key_variable} {state}"
        return message


def address(base_url: str | None) -> str:
    """`base_url` without a slash at its end. Raises RrrError (exit 2): none, no web address, or more than that."""
    if not base_url:
        raise RrrError("--engine openai needs --base-url, such as http://localhost:8000/v1", USAGE)
    try:
        parts = urlsplit(base_url)
        fits = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        fits = False
    if not fits:
        raise RrrError("--base-url is no address such as http://localhost:8000/v1", USAGE)
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise RrrError(
            "--base-url holds a user, a password or a query, and command lines are recorded: put the key into the "
            f"environment variable {KEY_VARIABLE}", USAGE,
        )
    return base_url.rstrip("/")


def api_key(variable: str) -> str | None:
    """The key, or None where the default variable isn't set. Raises RrrError (exit 2): no variable, or no key in it."""
    if not re.fullmatch("[A-Za-z_][A-Za-z0-9_]*", variable):
        raise RrrError("--api-key-env is the name of an environment variable, not the key itself", USAGE)
    key = os.environ.get(variable, "").strip()
    if not key and variable != KEY_VARIABLE:
        raise RrrError(f"--api-key-env {variable}: the environment variable {variable} is not set", USAGE)
    if not re.fullmatch("[!-~]*", key):
        raise RrrError(f"the environment variable {variable} holds white space or other characters that no key has",
                       USAGE)
    return key or None


def fingerprint(base_url: str | None, model: str) -> str:
    """16 hex digits of the address and the model's name: all that can be known of a server. Raises as `address`."""
    return content_id("openai", address(base_url), model)
