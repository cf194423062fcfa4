"""The servers of the openai engine, one or a fleet: which of them gets the next request, and which is out of order.

The server with the fewest open requests gets the next one. Of a fleet, a server that can't be reached, or fails
`MOST_FAULTS` times in a row, is away: the others do its work, and it is looked at from time to time until it answers.
Refuses a fleet of which one server says that it has other models.
"""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Collection
from dataclasses import dataclass
from random import uniform
from time import monotonic
from typing import TYPE_CHECKING, Any

from rrr_cli.addresses import secrets_of, without_secrets
from rrr_cli.engines.server_faults import Fault
from rrr_cli.errors import BAD_INPUT, NO_BACKEND, RrrError
from rrr_cli.text import safe_text

if TYPE_CHECKING:
    from httpx import AsyncClient, Response

FIRST_WAIT = 1.0  # seconds; doubles after each try, up to
LONGEST_WAIT = 60.0
TIMEOUT = 600.0  # seconds that a response may take, and
TIMEOUT_OF_A_LOOK = 30.0
MOST_FAULTS = 3  # in a row, of a server of a fleet
UNREACHED = ("ConnectError", "ConnectTimeout")  # the server hasn't seen the request
SHORTEST_KEY = 8  # characters; a shorter one is a placeholder
SHOWN = 5  # servers of a fleet, or models of a server, in a message


@dataclass(eq=False)
class Server:
    """A server, and how it does."""

    url: str
    limit_field: str = "max_tokens"  # what it calls the limit of an answer
    models: frozenset[str] = frozenset()  # that it lists, if it does
    open: int = 0  # requests
    sent: int = 0
    answered: int = 0
    faults: int = 0  # in a row
    away: bool = False
    back: bool = False  # from being away, but hasn't answered a request yet: it gets one at a time
    rests_until: float = 0.0  # of the monotonic clock: it asked to wait
    said: bool = False  # that it went away

    @property
    def shown(self) -> str:
        """Its address without secrets."""
        return without_secrets(self.url)


class Fleet:
    """The servers, each with at most `concurrency` open requests."""

    def __init__(self, urls: Collection[str], concurrency: int, model: str, key: str | None) -> None:
        self.servers = [Server(url) for url in urls]
        self.concurrency, self.model, self.key = concurrency, model, key
        self.failure: RrrError | None = None  # why it isn't one fleet
        self._waiting = 0  # requests for a place
        self._clients: dict[Server, AsyncClient] = {}
        self._looks: dict[Server, asyncio.Task[None]] = {}  # at servers that are away
        self._changed = asyncio.Event()
        self._context: Any = None  # what is needed for https, which takes a while to read

    @property
    def shown(self) -> str:
        """Its first addresses, without secrets."""
        return listed([server.shown for server in self.servers])

    @property
    def answered(self) -> dict[str, int]:
        """The address of each server of several -> how many requests it has answered."""
        return {server.shown: server.answered for server in self.servers} if len(self.servers) > 1 else {}

    def free(self) -> int:
        """How many requests more could be sent now."""
        up = self._up() or self.servers
        return sum(max(0, self._most(server) - server.open) for server in up) - self._waiting

    def another(self, than: Collection[Server]) -> bool:
        """Whether a server is up that isn't one of these."""
        return any(server not in than for server in self._up())

    async def enter(self, but: Collection[Server] = ()) -> Server:
        """The least loaded server, with a place for a request; one of `but` where no other one is up."""
        self._waiting += 1
        try:
            while (server := self._least(but)) is None:
                self._changed.clear()
                await self._changed.wait()
        finally:
            self._waiting -= 1
        server.open, server.sent = server.open + 1, server.sent + 1
        return server

    async def move(self, server: Server, but: Collection[Server]) -> Server:
        """Give the place back for one at another server than these; the same one, where no other one is up."""
        if len(self.servers) == 1:
            return server
        self.leave(server)
        try:
            return await self.enter(but)
        except asyncio.CancelledError:
            server.open += 1  # which `leave` will take back
            raise

    def leave(self, server: Server) -> None:
        """Give the place back."""
        server.open -= 1
        self._changed.set()

    def works(self, server: Server) -> None:
        """Note that a server has answered, if with a refusal."""
        server.faults, server.away, server.back = 0, False, False
        self._changed.set()

    def fails(self, server: Server, fault: Fault) -> None:
        """Note a fault that may pass."""
        server.faults += 1
        if len(self.servers) == 1:
            return
        if fault.wait:
            server.rests_until = max(server.rests_until, monotonic() + fault.wait)
        elif not server.away and (server.back or fault.text in UNREACHED or server.faults >= MOST_FAULTS):
            self._goes_away(server, self.printable(fault.text))
        self._changed.set()

    async def send(self, server: Server, request: dict[str, Any]) -> Response:
        """A server's response. Raises httpx.RequestError."""
        return await self._clients[server].post("chat/completions", json=request)

    async def connect(self) -> None:
        """Get ready for requests, in the running event loop."""
        from httpx import create_ssl_context

        self._context = self._context or create_ssl_context()
        self._changed, self._waiting = asyncio.Event(), 0
        for server in self.servers:
            server.open = 0
            self._clients[server] = self._client(server)
            if server.away:
                self._look_at(server)

    async def disconnect(self) -> None:
        """Close all connections."""
        for look in list(self._looks.values()):
            look.cancel()
        self._looks.clear()
        for client in self._clients.values():
            await client.aclose()
        self._clients.clear()

    async def check(self) -> None:
        """See which servers answer: a wrong address shows now and not after all the retries.

        Raises RrrError: none answers (exit 4), or one of a fleet has other models (3).
        """
        from httpx import TransportError

        await self.connect()
        try:
            seen = await asyncio.gather(*map(self._models, self.servers), return_exceptions=True)
            silent = {s: e for s, e in zip(self.servers, seen, strict=True) if isinstance(e, TransportError)}
            if len(silent) == len(self.servers):
                which = "server" if len(silent) == 1 else "servers"
                raise RrrError(
                    f"nothing answers at {self.shown} ({type(next(iter(silent.values()))).__name__}): start the "
                    f"{which}, or correct --base-url", NO_BACKEND)
            for error in seen:
                if isinstance(error, BaseException) and not isinstance(error, TransportError):
                    raise error
            for server, error in silent.items():
                self._goes_away(server, type(error).__name__)
        finally:
            await self.disconnect()

    def printable(self, text: str) -> str:
        """A server's words, safe to print: without key and secrets of the addresses, one line, 300 characters at most.
        """
        for secret in (self.key, *(part for server in self.servers for part in secrets_of(server.url))):
            if secret:  # a placeholder may be a letter long: within a word it isn't the key
                bounds = ("", "") if len(secret) >= SHORTEST_KEY else ("(?<![A-Za-z0-9])", "(?![A-Za-z0-9])")
                text = re.sub(re.escape(secret).join(bounds), "***", text)
        return " ".join(safe_text(text).split())[:300]

    def _client(self, server: Server) -> AsyncClient:
        import httpx

        headers = {"Authorization": f"Bearer {self.key}"} if self.key else {}
        limits = httpx.Limits(max_connections=self.concurrency + 1, max_keepalive_connections=self.concurrency)
        timeout = httpx.Timeout(TIMEOUT, connect=min(TIMEOUT, TIMEOUT_OF_A_LOOK))
        return httpx.AsyncClient(
            base_url=f"{server.url}/", headers=headers, limits=limits, timeout=timeout, verify=self._context)

    def _up(self) -> list[Server]:
        now = monotonic()
        return [s for s in self.servers if not s.away and s.rests_until <= now]

    def _least(self, but: Collection[Server]) -> Server | None:
        up = self._up() or self.servers
        free = [s for s in ([s for s in up if s not in but] or up) if s.open < self._most(s)]
        return min(free, key=lambda s: (s.open, s.sent), default=None)

    def _most(self, server: Server) -> int:
        return 1 if server.back else self.concurrency

    def _goes_away(self, server: Server, reason: str) -> None:
        if not server.said:
            print(f"rrr: {server.shown} is out of order ({reason}): the other servers do its work, and it is looked at "
                  "from time to time", file=sys.stderr)
        server.away = server.said = True
        self._look_at(server)

    def _look_at(self, server: Server) -> None:
        if server not in self._looks:
            self._looks[server] = asyncio.get_running_loop().create_task(self._until_it_answers(server))
            self._looks[server].add_done_callback(lambda _: self._looks.pop(server, None))

    async def _until_it_answers(self, server: Server) -> None:
        """Look at a server that is away until it is back."""
        from httpx import TransportError

        wait = FIRST_WAIT
        while server.away:
            await asyncio.sleep(wait * uniform(0.5, 1))
            wait = min(LONGEST_WAIT, 2 * wait)
            try:
                if (await self._models(server)).is_server_error:
                    continue
            except TransportError:
                continue
            except RrrError as error:
                self.failure = error
                return
            if server.away:
                server.away, server.back = False, True
                self._changed.set()

    async def _models(self, server: Server) -> Response:
        """What a server says about its models. Raises RrrError (exit 3): it hasn't the model that others have;
        httpx.TransportError."""
        response = await self._clients[server].get("models", timeout=min(TIMEOUT, TIMEOUT_OF_A_LOOK))
        if len(self.servers) > 1:
            server.models = names_in(response)
            has = next((s for s in self.servers if self.model in s.models), None)
            lacks = next((s for s in self.servers if s.models and self.model not in s.models), None)
            if has and lacks:
                raise RrrError(
                    f"{lacks.shown} has no model {self.model}, but {has.shown} has: it has "
                    f"{self.printable(listed(sorted(lacks.models)))}. All servers of a fleet have one model: start it "
                    "there, or leave the address out", BAD_INPUT)
        return response


def names_in(response: Response) -> frozenset[str]:
    """The names of the models in a server's list; none if it gives no list."""
    try:
        listed = response.json()["data"] if response.is_success else []
        return frozenset(str(model["id"]) for model in listed)
    except (ValueError, LookupError, TypeError, RecursionError):
        return frozenset()


def listed(names: list[str]) -> str:
    """The first names with commas between them, and how many more there are."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
