"""One part file: complete, or refused. A part is Parquet; its footer has its provenance and a digest of the file.

Page checksums cover the pages only, so the footer also carries `rrr.sha256`: the SHA-256 of the file with that value
replaced by zeros. A changed bit anywhere in the file is detected when the part is opened. The footer also says which
number the part has and which part of its stage came before: `chain.py` compares that. A part is one batch of a stage
and is read into memory as a whole; a table never is.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import secrets
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from rrr_cli.errors import RrrError
from rrr_cli.records import READABLE_VERSIONS
from rrr_cli.store.schema import arrow_schema

ROWS_PER_GROUP = 4096
DIGEST_KEY = b"rrr.sha256"
DIGEST_LENGTH = 64  # hex digits
PLACE_KEY = b"rrr.part"


@dataclass(frozen=True)
class Place:
    """Where a part stands in its table."""

    number: int  # as in its name
    previous: int | None = None  # the part of the same stage that its writer knew as the last before it
    previous_digest: str | None = None
    instead_of: str | None = None  # the digest of a lost part, whose number it has


class Part:
    """A verified part: `path`, `provenance`, `digest` (hex), `place`, `rows`, and `data`, the file's bytes."""

    def __init__(self, path: Path, table: str) -> None:
        """Read and verify `path`. Raises RrrError (exit 3): removed, not rrr's, damaged, or of another version."""
        self.path = path
        try:
            raw = _bytes_of(path)
            self.data = pa.py_buffer(raw)
            self._file = pq.ParquetFile(pa.BufferReader(self.data), page_checksum_verification=True)
            metadata = self._file.metadata.metadata or {}
            self.digest = metadata[DIGEST_KEY].decode()
            intact = _digest(raw, self.digest.encode()) == self.digest
            self.provenance: dict[str, Any] = json.loads(metadata[b"rrr"])
            place = metadata.get(PLACE_KEY)  # parts of an older rrr have none
            self.place = Place(**json.loads(place)) if place else None
        except FileNotFoundError as error:
            raise RrrError(f"{path} was removed while it was being read; type the same command again") from error
        except KeyError as error:
            raise RrrError(f"{path} is Parquet, but not a part that rrr wrote; move it out of the table") from error
        except (OSError, ValueError, TypeError, MemoryError, pa.ArrowException) as error:
            if isinstance(error, OSError) and error.errno == errno.ELOOP:
                raise RrrError(f"{path} is a symbolic link, which isn't followed; put the file itself there") from error
            if isinstance(error, OSError) and error.errno:
                raise RrrError(f"{path} can't be read: {error.strerror}") from error
            raise RrrError(f"{path} is truncated, damaged or not Parquet; {_CURE}") from error
        if not intact:
            raise RrrError(f"{path} is damaged: its content doesn't match its checksum; {_CURE}")
        if self.provenance["schema_version"] not in READABLE_VERSIONS:
            raise RrrError(
                f"{path} has schema version {self.provenance['schema_version']} and this rrr reads "
                f"{' and '.join(map(str, READABLE_VERSIONS))}; "
                f"read it with rrr {self.provenance['rrr']}"
            )
        if self.provenance["table"] != table or not _readable(self._file.schema_arrow, arrow_schema(table)):
            raise RrrError(f"{path} doesn't have the columns of {table} (see: rrr schema {table}); move it elsewhere")

    @property
    def rows(self) -> int:
        return int(self._file.metadata.num_rows)

    @property
    def columns(self) -> list[str]:
        return list(self._file.schema_arrow.names)

    def batches(self, columns: list[str], size: int) -> Iterator[pa.RecordBatch]:
        """These columns, at most `size` rows at a time, read in this thread."""
        batches: Iterator[pa.RecordBatch] = self._file.iter_batches(size, columns=columns, use_threads=False)
        return batches


REMOVED = {"leaks_reference"}  # columns of older schema versions, which nobody reads any more


def _readable(stored: pa.Schema, current: pa.Schema) -> bool:
    """Whether a part's columns fit the table's: a nullable one may be missing (it reads as null), or not nullable yet.

    Any other change of a table needs a new SCHEMA_VERSION.
    """
    def fits(field: pa.Field) -> bool:
        if field.name not in stored.names:
            return bool(field.nullable)
        old = stored.field(field.name)
        return bool(old.type == field.type and (field.nullable or not old.nullable))

    return set(stored.names) - REMOVED <= set(current.names) and all(map(fits, current))


_CURE = "delete it and type the stage's command again, which writes the missing rows"


def part_name(number: int) -> str:
    """The file name of a table's part."""
    return f"part-{number:05d}.parquet"


def number_of(path: Path) -> int:
    """The number in a part's file name. Raises RrrError (exit 3): another name."""
    digits = path.stem.removeprefix("part-")
    if not (digits.isascii() and digits.isdigit()):
        raise RrrError(f"{path} is not named as rrr names a part, such as {part_name(0)}; move it out of the table")
    return int(digits)


def encode(table: pa.Table, provenance: dict[str, Any], place: Place) -> tuple[bytes, str]:
    """The bytes of a part that holds `table`, and their digest."""
    placeholder = secrets.token_hex(DIGEST_LENGTH // 2)  # random, so that it is in the file exactly once
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(
        sink, table.schema, compression="zstd", compression_level=3, write_page_checksum=True
    ) as writer:
        writer.write_table(table, row_group_size=ROWS_PER_GROUP)
        writer.add_key_value_metadata({
            "rrr": json.dumps(provenance), PLACE_KEY.decode(): json.dumps(asdict(place)),
            DIGEST_KEY.decode(): placeholder})
    raw: bytes = sink.getvalue().to_pybytes()
    digest = _digest(raw, placeholder.encode())
    return raw.replace(placeholder.encode(), digest.encode()), digest


def _bytes_of(path: Path) -> bytes:
    with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:  # nor wait for a pipe
        return file.read()


def _digest(raw: bytes, value: bytes) -> str:
    """SHA-256 of `raw` with the one occurrence of `value` replaced by zeros; "" if there is none."""
    start = raw.rfind(value)
    if len(value) != DIGEST_LENGTH or start < 0:
        return ""
    view = memoryview(raw)
    total = hashlib.sha256(view[:start])
    total.update(b"0" * DIGEST_LENGTH)
    total.update(view[start + DIGEST_LENGTH :])
    return total.hexdigest()
