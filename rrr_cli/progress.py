"""Progress with an ETA on stderr; the first Ctrl-C stops after the current batch.

Nothing is drawn if stderr is not a terminal. stdout carries data only, so this module never writes to it.
"""

from __future__ import annotations

import signal
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, ClassVar

from rrr_cli.errors import RrrError

if TYPE_CHECKING:
    from rich.progress import Progress


class Work:
    """A long job of `total` units. `with Work("mining", 300) as work: … work.advance(10)`.

    The first SIGINT or SIGTERM is noted and raised by the next `advance`, after the batch was written, as an RrrError
    with exit code 130 or 143. The second stops at once. An engine that waits for a server asks `Work.signalled` and
    starts no more requests.
    """

    signalled: ClassVar[int | None] = None  # the signal that asked the work at hand to stop

    def __init__(self, title: str, total: int, done: int = 0, quiet: bool = False) -> None:
        self.title, self.total, self.done, self.quiet = title, total, done, quiet
        self._signal: int | None = None
        self._bar: Progress | None = None
        self._previous: dict[int, object] = {}

    def __enter__(self) -> Work:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        console = Console(stderr=True)
        if console.is_terminal and not self.quiet:
            self._bar = Progress(
                TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
                TextColumn("{task.fields[note]}"), console=console,
            )
            self._bar.start()
            self._task = self._bar.add_task(self.title, total=self.total, completed=self.done, note="")
        Work.signalled = None
        for number in (signal.SIGINT, signal.SIGTERM):
            self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        Work.signalled = None
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        if self._bar is not None:
            self._bar.stop()

    @property
    def interrupted(self) -> bool:
        """Whether a signal asked to stop after the current batch."""
        return self._signal is not None

    def advance(self, units: int, note: str = "") -> None:
        """Count `units` as done and on disk; raise RrrError (exit 130 or 143) if a signal came meanwhile."""
        self.count(units, note)
        self.stop_if_interrupted()

    def count(self, units: int, note: str = "") -> None:
        """Count `units` as done; don't raise, even if a signal came."""
        self.done += units
        if self._bar is not None:
            self._bar.update(self._task, completed=self.done, note=note)

    def stop_if_interrupted(self) -> None:
        """Raise RrrError (exit 130 or 143) if a signal asked to stop."""
        if self._signal is not None:
            raise RrrError(
                f"stopped at {self.done} of {self.total}; the rows written so far are complete. "
                "Type the same command to resume",
                128 + self._signal,
            )

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self._signal is not None:
            raise SystemExit(128 + number)
        self._signal = Work.signalled = number
