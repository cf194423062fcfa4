"""The requests of a stream that servers are answering: a task a sample, in an event loop that runs while one waits.

Nothing is read or written here. What was answered before a task failed isn't lost.
"""

from __future__ import annotations

import asyncio
from asyncio import Runner, Task
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from rrr_cli.engines.base import Completion, Prompt, Request, UnfinishedError, no_answer
from rrr_cli.engines.chat_completions import with_own_names
from rrr_cli.errors import RrrError

OFTEN = 0.05  # seconds between two looks for further requests, while none is answered


@dataclass
class Asked:
    """A request, and what has been answered of it."""

    prompt: Prompt
    completions: list[Completion | None]
    missing: int  # of them


class OpenRequests:
    """Requests that are under way. `ask` gives a completion for what is sent; an RrrError of it ends the work."""

    def __init__(self, runner: Runner, ask: Callable[[dict[str, Any]], Coroutine[Any, Any, Completion]]) -> None:
        self.runner, self.ask = runner, ask
        self.asked: dict[int, Asked] = {}  # by number
        self.tasks: dict[Task[Completion], tuple[int, int]] = {}  # -> the number of its request, and which sample
        self._ended: deque[Task[Completion]] = deque()
        self._whole: deque[int] = deque()  # the numbers of requests that have all their completions
        self._changed = asyncio.Event()

    def take(self, requests: Sequence[Request], bodies: Callable[[Request], list[dict[str, Any]]]) -> None:
        """Begin with requests; `bodies`: what is sent for each sample of one."""
        loop = self.runner.get_loop()
        for request in requests:
            sent = bodies(request)
            self.asked[request.number] = Asked(request.prompt, [None] * len(sent), len(sent))
            for place, body in enumerate(sent):
                task = loop.create_task(self.ask(body))
                self.tasks[task] = request.number, place
                task.add_done_callback(self._end)
            if not sent:
                self._whole.append(request.number)

    def wait(self) -> None:
        """Let the servers answer, until one has or it is time to look for requests; take what came."""
        self.runner.run(self._wait())
        while self._ended:
            task = self._ended.popleft()
            number, place = self.tasks.pop(task)
            asked = self.asked[number]
            try:
                asked.completions[place] = with_own_names(task.result(), asked.prompt.tools)
            except RrrError:  # which `ask` knows, too
                continue
            asked.missing -= 1
            if not asked.missing:
                self._whole.append(number)

    def finished(self) -> Iterator[tuple[int, list[Completion]]]:
        """The number and the completions_N of each request that has all of them; it is then forgotten."""
        while self._whole:
            number = self._whole.popleft()
            yield number, [c for c in self.asked.pop(number).completions if c is not None]

    def unfinished(self, failure: RrrError) -> UnfinishedError:
        """The error that ends the work, with all that was answered; `no_answer` for the rest."""
        written = [[c or no_answer("") for c in asked.completions] for asked in self.asked.values()]
        return UnfinishedError(failure, written, list(self.asked))

    def cancel(self) -> None:
        """End the tasks that are left, and wait for them."""
        for task in self.tasks:
            task.cancel()
        self.runner.run(settled(list(self.tasks)))

    def _end(self, task: Task[Completion]) -> None:
        self._ended.append(task)
        self._changed.set()

    async def _wait(self) -> None:
        if self.tasks:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), OFTEN)
        self._changed.clear()


async def settled(tasks: Sequence[Awaitable[Any]]) -> None:
    """Wait for tasks, whatever becomes of them."""
    await asyncio.gather(*tasks, return_exceptions=True)
