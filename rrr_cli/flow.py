"""Stories side by side: engines are kept busy with the requests of many, and each goes on once it has its answers.

A story is what happens with one problem, such as its tries until one fails. An engine works in a thread of its own, for
as long as it is fed; verdicts, environments and rows are made in the caller's. What is written depends on neither the
number of stories side by side nor the order in which they end. Reads and writes nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from operator import itemgetter
from queue import Empty, SimpleQueue
from threading import Condition, Thread
from typing import Any, Generic, TypeVar

from rrr_cli.engines.base import Completion, Request, streams
from rrr_cli.errors import USAGE, RrrError
from rrr_cli.progress import Work
from rrr_cli.rollout import Loop
from rrr_cli.stories import Judge, Story, Write
from rrr_cli.streams import ENGINE

T = TypeVar("T")


PASSES = 8  # for one sample ahead of need: about 3 % of all samples aren't needed then
SPARE = 15  # samples ahead of need at the end, at most
PATIENCE = 5  # seconds for what can't be stopped, such as a request to a server


class StoppedError(RrrError):
    """Nobody waits for answers any more."""


@dataclass(eq=False)
class _Running(Generic[T]):
    """A story under way."""

    number: int
    story: Story[T]
    answers: list[list[Completion] | None] = field(default_factory=list)
    missing: int = 0  # of them
    judge: Judge | None = None  # what it waits for, if it isn't answers


@dataclass
class _Asked(Generic[T]):
    """A request under way: whose it is, which of its answers, and of how many samples."""

    running: _Running[T]
    place: int
    model: _Model
    samples: int


Answered = SimpleQueue[list[tuple[int, list[Completion]]] | BaseException]


class _Model:
    """The engine of a loop, and what it has been asked for."""

    def __init__(self, loop: Loop, answers: Answered) -> None:
        self.loop, self.answers = loop, answers
        self.samples = 0  # that are asked for
        self.fresh: list[Request] = []  # that the engine hasn't seen
        self.changed = Condition()  # guards the two below, which the engine's thread uses too
        self.requests: deque[Request] = deque()
        self.closed = False
        self.thread = Thread(target=self._write, name=ENGINE, daemon=True)

    def show(self) -> None:
        """Let the engine see all that was asked for meanwhile."""
        with self.changed:
            self.requests += self.fresh
            self.fresh.clear()
            self.changed.notify()
        if self.thread.ident is None:
            self.thread.start()

    def close(self) -> None:
        """Let the engine's thread end."""
        with self.changed:
            self.closed = True
            self.changed.notify()

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


def in_order(ended: list[tuple[int, T]]) -> list[T]:
    """What stories have ended with, in the order of their numbers."""
    return [end for _, end in sorted(ended, key=itemgetter(0))]


def is_remote(loop: Loop) -> bool:
    """Whether the loop's engine asks a service."""
    return bool(getattr(loop.engine, "remote", False))


class Flow(Generic[T]):
    """Stories, `window` of them under way at once."""

    def __init__(self, window: int) -> None:
        self.window = window
        self.stories: Iterator[tuple[int, Story[T]]] = iter(())
        self.left = True  # stories to begin
        self.running: dict[_Running[T], None] = {}  # in the order in which they were begun
        self.ended: deque[tuple[int, T]] = deque()
        self.models: dict[int, _Model] = {}  # by the identity of their engines
        self.asked: dict[int, _Asked[T]] = {}  # by number
        self.count = 0
        self.answers: Answered = SimpleQueue()

    def parts(self, stories: Iterable[Story[T]], size: int) -> Generator[list[T], None, None]:
        """What the stories end with, `size` at once as they end, each part in the order of the stories. Where a signal
        asks to stop, or something is raised, what has ended comes first."""
        with closing(self.ends(stories)) as ends:
            part: list[tuple[int, T]] = []
            try:
                for end in ends:
                    part.append(end)
                    if len(part) == size or self._stops():
                        yield in_order(part)
                        part = []
            except RrrError:
                if part:
                    yield in_order(part)
                raise
            if part:
                yield in_order(part)

    def ends(self, stories: Iterable[Story[T]]) -> Generator[tuple[int, T], None, None]:
        """The number of each story and what it ends with, as they end.

        Once an engine has stopped, or a signal asks to, none is begun. Raises what a story, a verdict or an engine
        raises.
        """
        self.stories = enumerate(stories)
        self._begin()  # a full window, by which the engine may judge what is worth its while
        try:
            while self.running or self.ended:
                while self.ended:
                    yield self.ended.popleft()
                for number, completions in self._answered():
                    asked = self.asked.pop(number)
                    asked.model.samples -= asked.samples
                    asked.running.answers[asked.place] = completions
                    asked.running.missing -= 1
                    if not asked.running.missing:
                        self._go_on(asked.running, asked.running.answers)
                self._show()
                self._judge()
                self._begin()
        finally:
            for model in self.models.values():
                model.close()
            for model in self.models.values():
                if model.thread.ident is not None:
                    model.thread.join(PATIENCE)

    def _stops(self) -> bool:
        """Whether a signal asks to stop, and there is nothing that has ended or that a server is still answering."""
        waits = any(is_remote(model.loop) and model.samples for model in self.models.values())
        return Work.signalled is not None and not self.ended and not waits

    def spare(self, loop: Loop, passes: int) -> int:
        """Samples that a story may ask for ahead of need, with a streaming engine: few among many `passes` of its own,
        of which the next is likely one more; and its share of the places that are free when no story is left to begin.
        """
        if not streams(loop.engine) or is_remote(loop):  # a server's may cost money
            return 0
        likely = passes // PASSES
        if self.left:
            return likely
        free = getattr(loop.engine, "batch_size", 0) - self._model(loop).samples
        return max(likely, min(SPARE, free // max(1, len(self.running)) - 1))

    def _model(self, loop: Loop) -> _Model:
        key = id(loop.engine)
        if key not in self.models:
            self.models[key] = _Model(loop, self.answers)
        return self.models[key]

    def _begin(self) -> None:
        """Begin stories until the window is full; then the engines see all that was asked for meanwhile."""
        stopped = Work.signalled is not None or any(m.loop.unanswered.failure for m in self.models.values())
        while len(self.running) < self.window and not stopped:
            number, story = next(self.stories, (0, None))
            if story is None:
                self.left = False
                break
            running = _Running(number, story)
            self.running[running] = None
            self._go_on(running, None)
        self._show()

    def _show(self) -> None:
        for model in self.models.values():
            model.show()

    def _go_on(self, running: _Running[T], value: Any) -> None:
        """Give a story what it waited for, and take what it asks for next."""
        while True:
            try:
                asked = running.story.send(value)
            except StopIteration as end:
                del self.running[running]
                self.ended.append((running.number, end.value))
                return
            if isinstance(asked, Judge) and asked.items:
                running.judge = asked
                return
            if isinstance(asked, Write) and asked.prompts:
                self._ask(running, asked)
                return
            value = []

    def _ask(self, running: _Running[T], asked: Write) -> None:
        model = self._model(asked.loop)
        running.answers, running.missing = [None] * len(asked.prompts), len(asked.prompts)
        for place, prompt in enumerate(asked.prompts):
            self.asked[self.count] = _Asked(running, place, model, len(prompt.seeds))
            model.samples += len(prompt.seeds)
            model.fresh.append(Request(self.count, prompt, asked.max_tokens))
            self.count += 1

    def _judge(self) -> None:
        """Have all judged together that waits for the same verifier."""
        while waiting := [(running, running.judge) for running in self.running if running.judge is not None]:
            for judge in dict.fromkeys(asked.judge for _, asked in waiting):
                group = [(running, asked.items) for running, asked in waiting if asked.judge == judge]
                verdicts = iter(judge([item for _, items in group for item in items]))
                for running, items in group:
                    running.judge = None
                    self._go_on(running, [next(verdicts) for _ in items])

    def _answered(self) -> Iterator[tuple[int, list[Completion]]]:
        """What the engines have answered by now; one answer at least, unless no story waits for any."""
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
