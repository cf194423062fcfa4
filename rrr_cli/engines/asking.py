"""One sample of a server: what is sent, what is tried again and where, what is left out, and when it is given up.

A fault that passes is tried again: of a fleet on another server at once, else after a pause. A prompt that is refused,
or that a server fails at while it answers others, gets `no_answer`. A field that is refused is left out if that leaves
the experiment as it is. Any other fault is an error that ends the work. Reads and writes nothing but what is sent.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from random import uniform
from time import monotonic
from typing import Any

from rrr_cli.engines import servers
from rrr_cli.engines.base import Completion, no_answer, no_room
from rrr_cli.engines.chat_completions import NEUTRAL
from rrr_cli.engines.server_faults import Fault, Kind, Overflow, read
from rrr_cli.engines.servers import UNREACHED, Fleet, Server
from rrr_cli.errors import NO_BACKEND, RrrError
from rrr_cli.options import flag_of
from rrr_cli.progress import Work

TRIES = 8
TRIES_IN_DOUBT = 3
MOST_PATIENCE = 300.0  # seconds: the command ends where the server asks for a longer wait
MOST_SILENT = 8  # prompts in a row, each tried so often without any answer meanwhile: the server is down
MOST_REFUSED = 3  # prompts in a row that a server refuses that hasn't answered one yet
OFTEN = 0.25  # seconds between two looks for a signal
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


class Asking:
    """Asks the servers of a fleet, and knows what they have answered and refused so far."""

    def __init__(self, fleet: Fleet, key_variable: str) -> None:
        self.fleet, self._key_variable = fleet, key_variable
        self.left_out: list[str] = []  # fields of a request that a server refuses
        self.failure: RrrError | None = None  # that ends the work: nothing is sent any more
        self._answered = 0  # requests
        self._in_doubt = 0  # prompts without an answer since the last answer, which may be the server's fault
        self._doubt: RrrError | None = None  # what the first of these says

    @property
    def doubt(self) -> RrrError | None:
        """What is wrong, where the last prompts have no answer and it isn't these prompts."""
        return self._doubt if not self._answered or self._in_doubt > 1 else None

    async def complete(self, request: dict[str, Any]) -> Completion:
        """One completion, or `no_answer`. Raises RrrError: the work ends."""
        try:
            return await self._fitting(request)
        except _NoAnswerError as error:
            if error.doubt is not None and (error.silent or not self._answered):
                self._doubt, self._in_doubt = self._doubt or error.doubt, self._in_doubt + 1
                if self._in_doubt >= (MOST_SILENT if error.silent else MOST_REFUSED):
                    self.failure = self._doubt
                    raise self._doubt from None
            return no_answer(error.reason)
        except RrrError as error:
            self.failure = error
            raise

    async def _fitting(self, request: dict[str, Any]) -> Completion:
        """One completion; where the window has no room for `max_tokens`, of as many as fit, as on the other engines."""
        try:
            return await self._ask(request, request["max_tokens"])
        except _TooLongError as error:
            overflow = error.overflow
        try:
            prompt_tokens: int | None = overflow.prompt_tokens
            if not (overflow.exact and overflow.context):  # a completion of one token shows how long the prompt is
                one = await self._ask(request, 1)
                prompt_tokens = one.prompt_tokens
                if not overflow.context:
                    raise _NoAnswerError("its window has room for less than --max-tokens, and it doesn't say how much")
                if prompt_tokens is None or overflow.context - prompt_tokens == 1:
                    return one
            room = min(overflow.context - (prompt_tokens or 0), request["max_tokens"])
            return await self._ask(request, room) if room > 0 else no_room(prompt_tokens or None)
        except _TooLongError as error:
            return no_room(max(error.overflow.prompt_tokens, overflow.context) or None)

    async def _ask(self, request: dict[str, Any], most: int) -> Completion:
        """A server's completion of at most `most` tokens. Raises _TooLongError, _NoAnswerError or RrrError."""
        while True:
            server, sent, result = await self._post(request, most)
            if isinstance(result, Completion) or result.kind is Kind.TOO_LONG:
                server.answered += 1
                self._answered, self._in_doubt, self._doubt = self._answered + 1, 0, None
            if isinstance(result, Completion):
                return result
            if result.kind is Kind.TOO_LONG:
                raise _TooLongError(result.overflow)
            reason = self.fleet.printable(result.text)
            if result.kind is Kind.FILTERED:
                raise _NoAnswerError(reason)
            if result.kind is Kind.REFUSED:
                raise _NoAnswerError(reason, self._refusal(server, result.status, reason))
            if result.kind is Kind.ENDS or not self._changes(server, result.fields, sent, result.text):
                raise self._refusal(server, result.status, reason, result.fields)

    def _changes(self, server: Server, fields: Sequence[str], sent: dict[str, Any], text: str) -> bool:
        """Whether there is another request to try: without the fields that the server refuses, each said once."""
        if "max_tokens" in sent and ("max_tokens" in fields or "max_completion_tokens" in text):
            server.limit_field = "max_completion_tokens"  # OpenAI's newer models
            return True
        spare = [name for name in fields if name in sent and (name in ("seed", "n") or SPARE.get(name) == sent[name])]
        if spare != ["temperature"]:
            spare = [name for name in spare if name != "temperature"]  # which some take alone, without top_p
        for name in spare:
            if name not in self.left_out:
                self.left_out.append(name)
                why = LEFT_OUT.get(name, OWN_VALUE)
                print(f"rrr: {server.shown} refuses {name}: it is left out, {why}", file=sys.stderr)
        return bool(spare)

    async def _post(self, request: dict[str, Any], most: int) -> tuple[Server, dict[str, Any], Completion | Fault]:
        """The first response that isn't a fault that passes, whose it is, and what was sent.

        The place is held while waiting to try again, so that a busy server gets fewer requests. Raises _NoAnswerError:
        `TRIES` such faults, or the work ends; RrrError (exit 4): a server asks for more than MOST_PATIENCE.
        """
        answered, failure, tries = self._answered, "", 0
        failed: list[Server] = []  # since the last pause
        server = await self.fleet.enter()
        try:
            while tries < (TRIES_IN_DOUBT if self._in_doubt else TRIES):  # if it fails at each, it isn't the prompt
                if Work.signalled is not None or self.failure is not None:
                    raise _NoAnswerError("")
                sent = self._sent(request, most, server)
                fault = await self._try(server, sent)
                if isinstance(fault, Completion) or fault.kind is not Kind.PASSES:
                    self.fleet.works(server)
                    return server, sent, fault
                self.fleet.fails(server, fault)
                failure = self._words(server, fault)
                failed.append(server)
                elsewhere = self.fleet.another(failed)
                tries += not (elsewhere and fault.text in UNREACHED)  # a server that never saw a prompt doesn't fail it
                if not elsewhere:
                    await self._pause(tries, failure, fault.wait)
                    failed.clear()
                server = await self.fleet.move(server, failed)
        finally:
            self.fleet.leave(server)
        doubt = self._silence(tries, failure) if self._answered == answered else None
        raise _NoAnswerError(f"no answer in {tries} tries; the last: {failure}", doubt, silent=True)

    def _sent(self, request: dict[str, Any], most: int, server: Server) -> dict[str, Any]:
        kept = {k: v for k, v in request.items() if k not in self.left_out and k != "max_tokens"}
        return kept | {server.limit_field: most}

    async def _try(self, server: Server, request: dict[str, Any]) -> Completion | Fault:
        from httpx import RequestError

        try:
            return read(await self.fleet.send(server, request), request.keys())
        except RequestError as error:  # a timeout, too
            return Fault(Kind.PASSES, type(error).__name__)

    async def _pause(self, tries: int, failure: str, asked: float | None) -> None:
        """Wait before the next try: twice as long each time, unless the server says how long. A signal ends it."""
        if asked is not None and asked > MOST_PATIENCE:
            raise self._silence(tries, f"{failure}; it asks to wait {asked:.0f} s")
        pause = min(servers.LONGEST_WAIT, servers.FIRST_WAIT * 2.0 ** (tries - 1)) * uniform(0.5, 1)
        until = monotonic() + (pause if asked is None else asked + pause / 2)
        while tries < TRIES and Work.signalled is None and (left := until - monotonic()) > 0:
            await asyncio.sleep(min(left, OFTEN))

    def _words(self, server: Server, fault: Fault) -> str:
        said = self.fleet.printable(fault.text)
        return said if len(self.fleet.servers) == 1 else f"{server.shown}: {said}"

    def _silence(self, tries: int, failure: str) -> RrrError:
        return RrrError(
            f"{self.fleet.shown} gave no answer in {tries} tries; the last: {failure}. The rows written so far are "
            "complete: type the same command to resume; a lower --concurrency sends fewer requests at once", NO_BACKEND)

    def _refusal(self, server: Server, status: int, reason: str, fields: Sequence[str] = ()) -> RrrError:
        message = f"{server.shown} refuses the request for --model {self.fleet.model}: {reason}"
        if status in (401, 403):
            state = "has the key that was sent" if self.fleet.key else "is not set"
            message += f"; the environment variable {self._key_variable} {state}"
        for name in fields:
            if name == "chat_template_kwargs":
                message += f"; that is {flag_of('template_args')}, which this server can't use: leave it out"
            if name in ("temperature", "top_p"):
                message += f"; without {flag_of(name)} it would be another experiment: choose a value that it takes"
        return RrrError(message)
