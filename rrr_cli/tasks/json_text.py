"""Strict JSON of any length, read through a window: a value or a line at a time, in bounded memory.

Reads a text stream; writes nothing. Refused with the row's number: a row, or space, longer than MAX_ROW, and what isn't
JSON. A name that stands twice in an object, a lone surrogate and broken UTF-8 make a value unreadable.
"""

from __future__ import annotations

import json
import re
from typing import Any, TextIO

from rrr_cli.errors import BAD_INPUT, RrrError

MAX_ROW = 2**24  # characters of a row
CHUNK = 2**20
NO_SPACE = re.compile(r"[^ \t\r\n]")
SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def shown(value: Any) -> str:
    """ASCII, so that no row can steer a terminal, and short."""
    text = ascii(value)
    return text if len(text) <= 80 else text[:77] + "..."


def parse(text: str) -> Any:
    """The JSON value that `text` is. Raises ValueError with the reason."""
    try:
        text.encode()  # broken UTF-8 was read as surrogates
        value = STRICT.decode(text)
        if SURROGATE.search(text):
            json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise ValueError("text that isn't Unicode: broken UTF-8, or a lone surrogate") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"{error.msg} at character {error.pos + 1}") from None
    except RecursionError:
        raise ValueError("nested too deeply") from None
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a name stands twice in an object")
    return value


STRICT = json.JSONDecoder(object_pairs_hook=_object)
LENIENT = json.JSONDecoder(parse_int=float)  # finds where a value ends; float takes numbers of any length


class Text:
    """A window on a text, which grows as it is asked for more and forgets what lies behind."""

    def __init__(self, stream: TextIO, path: str) -> None:
        self.stream, self.path = stream, path
        self.buffer, self.at, self.ended, self.row, self.passed = "", 0, False, 0, 0

    @property
    def place(self) -> str:
        return f"{self.path}, row {self.row}"

    def grow(self) -> None:
        """Read on, as much again as is there. Raises RrrError: the row has no end."""
        kept = self.buffer[self.at :]
        self.check_length(len(kept))
        more = self.stream.read(max(CHUNK, len(kept)))
        self.buffer, self.at, self.ended = kept + more, 0, not more

    def check_length(self, length: int) -> None:
        if length > MAX_ROW:
            place = f"{self.path}, row {max(self.row, 1)}"
            message = f"{place}: longer than {MAX_ROW:,} characters; give a row a line, shorter than that"
            raise RrrError(message, BAD_INPUT)

    def line(self) -> str:
        """The next line with its end; "" after the last."""
        while (end := self.buffer.find("\n", self.at)) < 0 and not self.ended:
            self.grow()
        start, self.at = self.at, end + 1 or len(self.buffer)
        return self.buffer[start : self.at]

    def mark(self) -> str:
        """The next character that isn't white space, which stays; "" at the end."""
        space = 0
        while True:
            found = NO_SPACE.search(self.buffer, self.at)
            end = found.start() if found else len(self.buffer)
            self.passed += self.buffer.count("\n", self.at, end)
            space += end - self.at
            self.at = end
            if found or self.ended:
                return found[0] if found else ""
            self.check_length(space)
            self.grow()

    def take(self, mark: str) -> bool:
        """Whether `mark` comes next; then it is passed."""
        taken = self.mark() == mark
        self.at += taken
        return taken

    def want(self, mark: str) -> None:
        if not self.take(mark):
            raise self.fault(f"found {self.buffer[self.at : self.at + 1]!r} where {mark!r} should stand")

    def value(self) -> Any:
        """The next value, or why it can't be read. Raises RrrError: where it ends can't be said."""
        try:
            return parse(self.source())
        except ValueError as error:
            return self.fault(str(error))

    def source(self) -> str:
        """The text of the next value. Raises RrrError: where it ends can't be said."""
        self.mark()
        while True:
            try:
                _, end = LENIENT.raw_decode(self.buffer, self.at)
                if end < len(self.buffer) or self.ended:
                    break
            except json.JSONDecodeError as error:
                # cut short by the window: a string without its end, or a fault at the window's end
                cut = error.msg.startswith("Unterminated") or error.pos > len(self.buffer) - 16
                if self.ended or not cut:
                    raise self.fault(error.msg) from None
            except RecursionError:
                raise self.fault("nested too deeply") from None
            self.grow()
        start, self.at = self.at, end
        return self.buffer[start:end]

    def fault(self, reason: str) -> RrrError:
        return RrrError(f"{self.path}, row {max(self.row, 1)}: not JSON ({shown(reason)})", BAD_INPUT)
