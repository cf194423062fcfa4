"""Stories side by side: an engine is kept busy with the requests of many, and each goes on once it has its answers.

A story is what happens with one problem, such as its tries until one fails. The engine works in a thread of its own,
for as long as it is fed; verdicts, environments and rows are made in the caller's. What is written depends on neither
the number of stories side by side nor the order in which they end. Reads and writes nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from threading import Condition, Thread
from typing import Any, Generic, TypeVar

from rrr_cli.engines.base import Completion, Request, streams
from rrr_cli.episodes import Story, Verify, Write
from rrr_cli.errors import USAGE, RrrError
from rrr_cli.rollout import Loop

T = TypeVar("T")


SPARE = 15  # samples ahead of need, at most
PATIENCE = 5  # seconds for what can't be stopped, such as a request to a server


class StoppedError(RrrError):
    """Nobody waits for answers any more."""


@dataclass(eq=False)
class _Running(Generic[T]):
    """A story under way."""

    story: Story[T]
    answers: list[list[Completion] | None] = field(default_factory=list)
    missing: int = 0  # of them
    verify: Verify | None = None  # what it waits for, if it isn't answers


class Flow(Generic[T]):
    """Stories of one loop, `window` of them under way at once."""

    def __init__(self, loop: Loop, window: int) -> None:
        self.loop, self.window = loop, window
        self.stories: Iterator[Story[T]] = iter(())
        self.running: dict[_Running[T], None] = {}  # in the order in which they were begun
        self.ended: deque[T] = deque()
        self.asked: dict[int, tuple[_Running[T], int, int]] = {}  # number -> whose, which of its answers, samples
        self.samples = 0  # that are asked for
        self.count = 0
        self.left = True  # stories to begin
        self.fresh: list[Request] = []  # that the engine hasn't seen
        self.changed = Condition()  # guards the two below, which the engine's thread uses too
        self.requests: deque[Request] = deque()
        self.closed = False
        self.answers: SimpleQueue[list[tuple[int, list[Completion]]] | BaseException] = SimpleQueue()
        self.engine = Thread(target=self._write, name="engine", daemon=True)

    def ends(self, stories: Iterable[Story[T]]) -> Generator[T, None, None]:
        """What each story ends with, as they end.

        Once the engine has stopped, none is begun. Raises what a story, a verdict or the engine raises.
        """
        self.stories = iter(stories)
        self._begin()  # a full window, by which the engine may judge what is worth its while
        self.engine.start()
        try:
            while self.running or self.ended:
                while self.ended:
                    yield self.ended.popleft()
                for number, completions in self._answered():
                    running, place, samples = self.asked.pop(number)
                    self.samples -= samples
                    running.answers[place] = completions
                    running.missing -= 1
                    if not running.missing:
                        self._go_on(running, running.answers)
                self._verify()
                self._begin()
        finally:
            with self.changed:
                self.closed = True
                self.changed.notify()
            self.engine.join(PATIENCE)

    def spare(self) -> int:
        """Samples that a story may ask for ahead of need: its share of the places that a streaming engine has free when
        no story is left to begin. A server's may cost money."""
        if self.left or not streams(self.loop.engine):
            return 0
        free = getattr(self.loop.engine, "batch_size", 0) - self.samples
        return max(0, min(SPARE, free // max(1, len(self.running)) - 1))

    def _begin(self) -> None:
        """Begin stories until the window is full; then the engine sees all that was asked for meanwhile."""
        while len(self.running) < self.window and self.loop.unanswered.failure is None:
            story = next(self.stories, None)
            if story is None:
                self.left = False
                break
            running = _Running(story)
            self.running[running] = None
            self._go_on(running, None)
        with self.changed:
            self.requests += self.fresh
            self.fresh.clear()
            self.changed.notify()

    def _go_on(self, running: _Running[T], value: Any) -> None:
        """Give a story what it waited for, and take what it asks for next."""
        try:
            asked = running.story.send(value)
        except StopIteration as end:
            del self.running[running]
            self.ended.append(end.value)
            return
        if isinstance(asked, Verify):
            running.verify = asked
        elif not asked.prompts:
            self._go_on(running, [])
        else:
            self._ask(running, asked)

    def _ask(self, running: _Running[T], asked: Write) -> None:
        running.answers, running.missing = [None] * len(asked.prompts), len(asked.prompts)
        for place, prompt in enumerate(asked.prompts):
            self.asked[self.count] = running, place, len(prompt.seeds)
            self.samples += len(prompt.seeds)
            self.fresh.append(Request(self.count, prompt))
            self.count += 1

    def _verify(self) -> None:
        """Have all episodes judged that wait for it, together."""
        while waiting := [running for running in self.running if running.verify is not None]:
            asked = [running.verify.episodes for running in waiting if running.verify is not None]
            verdicts = iter(self.loop.verdicts([episode for episodes in asked for episode in episodes]))
            for running, episodes in zip(waiting, asked, strict=True):
                running.verify = None
                self._go_on(running, [next(verdicts) for _ in episodes])

    def _answered(self) -> Iterator[tuple[int, list[Completion]]]:
        """What the engine has answered by now; one answer at least, unless no story waits for any."""
        wait = bool(self.asked)
        while True:
            try:
                answers = self.answers.get(block=wait)
            except Empty:
                return
            if isinstance(answers, BaseException):
                raise answers
            yield from answers
            wait = False

    def _write(self) -> None:
        """The engine's thread."""
        try:
            for answers in self.loop.answers(self._feed):
                self.answers.put(answers)
            raise RrrError(f"the engine {type(self.loop.engine).__name__}: stream() ended before it had answered all",
                           USAGE)
        except StoppedError:
            pass
        except BaseException as error:
            self.answers.put(error)

    def _feed(self, free: int, idle: bool) -> list[Request]:
        """See `Feed`. Raises StoppedError: nobody waits any more."""
        with self.changed:
            while idle and not self.requests and not self.closed:
                self.changed.wait()
            if self.closed:
                raise StoppedError("nobody waits for answers any more")
            given: list[Request] = []
            while self.requests and free > 0:
                given.append(self.requests.popleft())
                free -= len(given[-1].prompt.seeds)
            return given
