"""The openai engine: any server that speaks OpenAI's chat completions, such as `vllm serve`, SGLang or a paid service.

Sends requests to the server at --base-url, or to those of a fleet, which render the chat with their own template. Each
request carries its sample's seed, which a server may ignore, and the neutral values of what servers else fill in by
themselves. What its template does to thoughts of earlier turns isn't known, so they are sent as plain words. The key
comes from an environment variable and is sent in the request's header only.

A server can't prove its weights. The fingerprint of one is a hash of its address and the model's name, so other weights
under the same name go unnoticed. That of a fleet is a hash of the model's name alone: its servers come and go, and the
user says that all of them have the same weights.

Which faults are tried again, and where, is in `asking.py`. A fault that ends the work loses nothing that was answered.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from rrr_cli.addresses import FLEET, KEY_VARIABLE, api_key, is_fleet
from rrr_cli.engines.address_files import addresses_of
from rrr_cli.engines.asking import Asking
from rrr_cli.engines.base import Answers, Completion, Feed, Prompt, Request, Sampling, UnfinishedError, no_answer
from rrr_cli.engines.chat_completions import body
from rrr_cli.engines.open_requests import OpenRequests
from rrr_cli.engines.servers import Fleet
from rrr_cli.engines.template import parsed
from rrr_cli.errors import RrrError
from rrr_cli.extras import require
from rrr_cli.options import EngineOptions
from rrr_cli.progress import Work
from rrr_cli.prompts import thoughts_as_text
from rrr_cli.records import content_id


class OpenaiEngine:
    """One model of one server, or of each of a fleet; at most `concurrency` requests are open at once at each."""

    name = "openai"
    remote = True  # the weights are on the server, not here

    def __init__(
        self, model: str, *, base_url: str | tuple[str, ...] | None = None, concurrency: int = 32,
        api_key_env: str = KEY_VARIABLE, template_args: str | None = None, keep_thoughts: bool = True,
    ) -> None:
        """Check that a server answers at `base_url`.

        Raises RrrError: bad address or variable (exit 2), servers of several models (3), httpx not installed or no
        server there (4).
        """
        require("openai", "httpx")
        self.model, self.fingerprint = model, fingerprint(base_url, model)
        self.fleet = Fleet(addresses_of(base_url), concurrency, model, api_key(api_key_env))
        self.batch_size = concurrency * len(self.fleet.servers)
        self._asking = Asking(self.fleet, api_key_env)
        self._template_args, self._keep_thoughts = parsed(template_args), keep_thoughts
        asyncio.run(self.fleet.check())

    @property
    def left_out(self) -> list[str]:
        """Fields of a request that a server refuses."""
        return self._asking.left_out

    @property
    def answered_by_server(self) -> dict[str, int]:
        """The address of each server of several -> how many requests it has answered; {} of one."""
        return self.fleet.answered

    def close(self) -> None:
        """Nothing to free: no connection stays open between batches."""

    @classmethod
    def fingerprint_of(cls, model: str, options: EngineOptions) -> str:
        """Of the address and the model's name. Raises RrrError (exit 2): bad address, or no key in the variable."""
        api_key(options.api_key_env)  # a key typed in place of the variable's name must not get into the provenance
        return fingerprint(options.base_url, model)

    def generate(self, prompts_B: Sequence[Prompt], sampling: Sampling) -> list[list[Completion]]:
        """completions_B_N, one request a seed.

        Raises UnfinishedError: the servers refuse all requests (exit 3), or don't answer (4).
        """
        waiting = deque(Request(b, prompt, sampling.max_tokens) for b, prompt in enumerate(prompts_B))

        def feed(free: int, idle: bool) -> list[Request]:
            given: list[Request] = []
            while waiting and free > 0:
                given.append(waiting.popleft())
                free -= len(given[-1].prompt.seeds)
            return given

        written: dict[int, list[Completion]] = {}
        try:
            for number, completions_N in self.stream(feed, sampling) if prompts_B else ():
                written[number] = completions_N
        except UnfinishedError as error:
            written |= dict(error.answers)
            rest = {b: [no_answer("")] * len(p.seeds) for b, p in enumerate(prompts_B) if b not in written}
            raise UnfinishedError(error, [(written | rest)[b] for b in range(len(prompts_B))]) from None
        return [written[b] for b in range(len(prompts_B))]

    def stream(self, feed: Feed, sampling: Sampling) -> Answers:
        """See `Streaming`. One request a seed. Raises as `generate`."""
        with asyncio.Runner() as runner:
            requests = OpenRequests(runner, self._asking.complete)
            self._asking.failure = None
            runner.run(self.fleet.connect())
            try:
                yield from self._answers(requests, feed, lambda request: self._bodies(request, sampling))
            finally:
                requests.cancel()
                runner.run(self.fleet.disconnect())

    def _answers(
        self, requests: OpenRequests, feed: Feed, bodies: Callable[[Request], list[dict[str, Any]]]
    ) -> Iterator[tuple[int, list[Completion]]]:
        """What becomes of the requests that are fed, until there are no more."""
        while True:
            stopped = Work.signalled is not None
            if stopped and not requests.tasks:
                raise requests.unfinished(stopped_by_signal())
            given = feed(0 if stopped else max(0, self.fleet.free()), not requests.tasks)
            if not given and not requests.tasks:
                return
            requests.take(given, bodies)
            requests.wait()
            failure = self._asking.failure or self.fleet.failure
            if not failure and not requests.tasks and self._asking.doubt:
                requests.take(feed(max(0, self.fleet.free()), False), bodies)  # unless another prompt is answered …
                failure = None if requests.tasks else self._asking.doubt  # … it is the server
            if failure:
                raise requests.unfinished(failure)
            yield from requests.finished()

    def _bodies(self, request: Request, sampling: Sampling) -> list[dict[str, Any]]:
        """What is sent for each seed."""
        prompt = replace(
            request.prompt, messages=thoughts_as_text(request.prompt.messages, self._keep_thoughts))
        template = {"chat_template_kwargs": self._template_args} if self._template_args else {}
        sampling = replace(sampling, max_tokens=request.max_tokens)
        return [body(self.model, prompt, seed, sampling) | template for seed in prompt.seeds]


def stopped_by_signal() -> RrrError:
    """What ends the work after a Ctrl-C or a SIGTERM."""
    return RrrError(
        "stopped; what the server answered is written. Type the same command to resume", 128 + (Work.signalled or 0))


def fingerprint(base_url: str | tuple[str, ...] | None, model: str) -> str:
    """16 hex digits of the address and the model's name: all that can be known of a server. Of a fleet, of the model's
    name. Raises as `addresses_of`."""
    urls = addresses_of(base_url)
    return content_id("openai", FLEET if base_url and is_fleet(base_url) else urls[0], model)
