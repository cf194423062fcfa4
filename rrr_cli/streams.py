"""How a process begins and ends at its worst: standard streams that are closed, or that nobody reads, and engines that
can't be stopped.

Writes nothing of its own to them.
"""

from __future__ import annotations

import os
import select
import sys
import threading
from contextlib import suppress

ENGINE = "rrr engine"  # the name of the threads that models write in


def open_closed_streams() -> None:
    """Give the null device to each standard stream that was closed, as by `>&-`: else the next file that is opened has
    its number, and is printed into."""
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        if getattr(sys, name) is None:
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)
            setattr(sys, name, os.fdopen(number, mode, encoding="utf-8", closefd=False))


def ends_with_its_reader(stop: BaseException) -> bool:
    """Whether the command ends because nobody reads stdout or stderr any more, as in `rrr sql … | head`; nothing more
    is written then. Raises BrokenPipeError of another pipe, which is a bug."""
    # typer and rich make exit 1 of it; and what is in a buffer would fail at the interpreter's end.
    cause = stop if isinstance(stop, BrokenPipeError) else stop.__context__
    broken = isinstance(cause, BrokenPipeError)
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except BrokenPipeError:
        broken = True
    closed = [descriptor for descriptor in (1, 2) if broken and is_closed(descriptor)]
    for descriptor in closed:
        discard(descriptor)
    if isinstance(cause, BrokenPipeError) and not closed:
        raise cause
    return bool(closed)


def discard(descriptor: int) -> None:
    """Let whatever is written to it from now on go nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)


def is_closed(descriptor: int) -> bool:
    """Whether it is a pipe without a reader, or the null device, which rich puts in its place."""
    poll = select.poll()
    poll.register(descriptor, 0)
    try:
        gone = any(event & select.POLLERR for _, event in poll.poll(0))
        return gone or os.path.samestat(os.fstat(descriptor), os.stat(os.devnull))
    except OSError:
        return True


def end_with_engines(stop: SystemExit) -> None:
    """End the process here where an engine is still in the middle of what can't be stopped, such as a long product: the
    interpreter's own end would take its libraries away under it, which aborts."""
    if any(thread.name == ENGINE and thread.is_alive() for thread in threading.enumerate()):
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                stream.flush()
        os._exit(stop.code if isinstance(stop.code, int) else 1)
