"""The rows of one file, from its bytes: Parquet, or JSON, plain or packed (gzip, zstd, xz), whatever it is called.

What JSON text is, its content says: a list of rows, an object `{"data": [rows]}`, or JSON Lines. A byte order mark
(UTF-8, UTF-16), Windows' line ends and empty lines don't count. A name that stands twice in an object, a lone surrogate
and broken UTF-8 make a row unreadable. NaN as the value of a column counts as missing, as pandas writes it; NaN and
Infinity deeper in a row stay numbers, which no column takes.

Reads; writes nothing. A row that can't be read is given as the RrrError that says why; the rows after it are read where
their beginning can be found. Refused in one line, in bounded memory: a row longer than MAX_ROW, a file that is cut.
"""

from __future__ import annotations

import io
import json
import lzma
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from rrr_cli.errors import BAD_INPUT, RrrError

TEXTS = tuple(f"{name}{packed}" for name in (".jsonl", ".json") for packed in ("", ".gz", ".zst", ".xz"))
SUFFIXES = (".parquet", *TEXTS)
MAX_ROW = 2**24  # characters of a row
MAX_GROUP, MAX_MEAN, MAX_TOTAL = 2**28, 2**16, 2**31  # bytes of a Parquet row group, of its mean row, and at most
CHUNK = 2**20
SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
UNREADABLE = (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError)

Row = tuple[str, dict[str, Any] | RrrError]  # where it stands, and the row or why it can't be read


def shown(value: Any) -> str:
    """ASCII, so that no row can steer a terminal, and short."""
    text = ascii(value)
    return text if len(text) <= 80 else text[:77] + "..."


def rows_of(path: str, columns: tuple[str, ...]) -> Iterator[Row]:
    """The rows in their order. Of a Parquet file only `columns` are read. Raises RrrError (exit 3): not readable."""
    for place, value in _parquet_rows(path, columns) if path.endswith(".parquet") else _json_rows(path):
        if isinstance(value, dict):
            yield place, {k: None if isinstance(v, float) and v != v else v for k, v in value.items()}
        elif isinstance(value, RrrError):
            yield place, value
        else:
            expected = f"wanted an object with {' and '.join(columns[:2])}"
            yield place, RrrError(f"{place}: found {shown(value)}, {expected}", BAD_INPUT)


def text_of(path: Path) -> str:
    """A whole text file, unpacked. Raises ValueError: not readable, or longer than MAX_ROW."""
    try:
        text = _opened(str(path)).read(MAX_ROW + 1)
        text.encode()
    except UNREADABLE as error:
        raise ValueError(f"not readable ({shown(str(error))})") from None
    if len(text) > MAX_ROW:
        raise ValueError(f"longer than {MAX_ROW:,} characters")
    return text


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


# JSON ----------------------------------------------------------------------------------------------------------------


def _json_rows(path: str) -> Iterator[tuple[str, Any]]:
    with _readable(path):
        text = _Text(_opened(path), path)
        yield from _lines(text) if _has_lines(text) else _values(text)


@contextmanager
def _readable(path: str) -> Iterator[None]:
    try:
        yield
    except MemoryError:
        raise RrrError(f"{path}: it needs more memory than there is", BAD_INPUT) from None
    except UNREADABLE as error:
        raise RrrError(f"{path}: not readable ({shown(str(error))})", BAD_INPUT) from None


def _opened(path: str) -> TextIO:
    """The file as text, unpacked where its first bytes say that it is packed."""
    with open(path, "rb") as file:
        mark = file.read(6)
    binary: Any
    if mark.startswith(b"\x1f\x8b"):
        import gzip

        binary = gzip.open(path, "rb")  # noqa: SIM115
    elif mark == b"\xfd7zXZ\x00":
        binary = lzma.open(path, "rb")  # noqa: SIM115
    elif mark.startswith(b"\x28\xb5\x2f\xfd"):
        import pyarrow

        binary = pyarrow.input_stream(path, compression="zstd")
    else:
        binary = open(path, "rb")  # noqa: SIM115
    buffered = io.BufferedReader(binary)
    wide = buffered.peek(2)[:2] in (b"\xff\xfe", b"\xfe\xff")
    return io.TextIOWrapper(buffered, *(("utf-16", "strict") if wide else ("utf-8-sig", "surrogateescape")), "\n")


class _Text:
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
        if len(kept) > MAX_ROW:
            place = f"{self.path}, row {max(self.row, 1)}"
            message = f"{place}: longer than {MAX_ROW:,} characters; give a row a line, shorter than that"
            raise RrrError(message, BAD_INPUT)
        more = self.stream.read(max(CHUNK, len(kept)))
        self.buffer, self.at, self.ended = kept + more, 0, not more

    def line(self) -> str:
        """The next line with its end; "" after the last."""
        while (end := self.buffer.find("\n", self.at)) < 0 and not self.ended:
            self.grow()
        start, self.at = self.at, end + 1 or len(self.buffer)
        return self.buffer[start : self.at]

    def mark(self) -> str:
        """The next character that isn't white space, which stays; "" at the end."""
        while True:
            while self.at < len(self.buffer):
                if self.buffer[self.at] not in " \t\r\n":
                    return self.buffer[self.at]
                self.passed += self.buffer[self.at] == "\n"
                self.at += 1
            if self.ended:
                return ""
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


def members(path: str) -> Iterator[tuple[str, str]]:
    """The names of a file's one object, and the text of each value. Raises RrrError (exit 3): it isn't one."""
    with _readable(path):
        text, mark = _Text(_opened(path), path), "{"
        if text.mark() != "{":
            raise RrrError(f"{path}: not a JSON object", BAD_INPUT)
        while text.take(mark) and text.mark() != "}":
            text.row += 1
            name = text.value()
            text.want(":")
            yield str(name), text.source()
            mark = ","
        text.want("}")


def _has_lines(text: _Text) -> bool:
    """Whether it is JSON Lines: its first line is a row by itself, or can't be the beginning of anything longer."""
    mark = text.mark()
    line, end, rest = text.buffer[text.at :].partition("\n")
    if mark != "{" or (not end and not text.ended):
        return mark not in "[{"
    try:
        row = parse(line)
    except ValueError:
        return not line.rstrip().endswith(("{", "[", ","))
    return bool(rest.strip()) or not isinstance(row.get("data"), list)


def _lines(text: _Text) -> Iterator[tuple[str, Any]]:
    text.row = text.passed + 1  # lines are counted as an editor does
    while line := text.line():
        if line.strip():
            try:
                yield text.place, parse(line)
            except ValueError as error:
                yield text.place, text.fault(str(error))
        text.row += 1


def _values(text: _Text) -> Iterator[tuple[str, Any]]:
    """The rows of lists and objects, one after the other."""
    while mark := text.mark():
        if mark == "[":
            yield from _listed(text)
        elif mark == "{":
            yield from _object_rows(text)
        else:
            raise text.fault(f"found {mark!r} where a row should stand")


def _listed(text: _Text) -> Iterator[tuple[str, Any]]:
    mark = "["
    while text.take(mark) and text.mark() != "]":
        text.row += 1
        yield text.place, text.value()
        mark = ","
    text.want("]")


def _object_rows(text: _Text) -> Iterator[tuple[str, Any]]:
    """The rows of `{"data": [rows]}`, whatever else stands in it; an object without them is a row itself."""
    row: dict[Any, Any] = {}
    wrapper, mark = False, "{"
    while text.take(mark) and text.mark() != "}":
        name = text.value()
        text.want(":")
        if name == "data" and text.mark() == "[":
            wrapper = True
            yield from _listed(text)
        else:
            row[str(name)] = text.value()
        mark = ","
    text.want("}")
    if not wrapper:
        text.row += 1
        fault = next((value for value in row.values() if isinstance(value, RrrError)), None)
        yield text.place, fault or row


# Parquet -------------------------------------------------------------------------------------------------------------


def _parquet_rows(path: str, known: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = 0
    try:
        with pq.ParquetFile(path) as file:
            columns = [name for name in known if name in file.schema_arrow.names]
            for group in range(file.num_row_groups):
                _check_size(file.metadata.row_group(group), columns, f"{path}, rows from {number + 1} on")
                for batch in file.iter_batches(256, row_groups=[group], columns=columns):
                    for row in batch.to_pylist():
                        number += 1
                        yield f"{path}, row {number}", row
    except MemoryError:
        raise RrrError(f"{path}, rows from {number + 1} on: they need more memory than there is", BAD_INPUT) from None
    except (pa.ArrowException, OSError) as error:
        raise RrrError(f"{path}: not readable as Parquet ({shown(str(error))})", BAD_INPUT) from None


def _check_size(group: Any, columns: list[str], place: str) -> None:
    """Raises RrrError (exit 3) where the group's columns hold a cell, or cells, too large to read."""
    parts = [group.column(i) for i in range(group.num_columns)]
    size = sum(part.total_uncompressed_size for part in parts if part.path_in_schema.split(".")[0] in columns)
    if size > MAX_TOTAL or (size > MAX_GROUP and size > MAX_MEAN * group.num_rows):
        expected = f"wanted at most {MAX_MEAN:,} a row; write it again with smaller cells or row groups"
        raise RrrError(f"{place}: found {size:,} bytes in {group.num_rows:,} rows, {expected}", BAD_INPUT)
