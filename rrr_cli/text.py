"""Text files as editors of any system write them, and text of a model, a data set or a command line made safe to print:
without characters that steer a terminal, reorder what stands around them, or can't be seen."""

from __future__ import annotations

import errno
import re
from pathlib import Path

# C0 but \t and \n, DEL, C1; bidirectional and zero-width characters, separators of lines, surrogates, tags.
UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)

LARGEST = 256 * 2**20  # bytes of a text file


def safe_text(text: str) -> str:
    """`text` without unsafe characters. Give the result to `rich.text.Text`, never to markup."""
    return UNSAFE.sub("", text)


def one_line(text: str) -> str:
    r"""`text` in one line with its unsafe characters as escapes (`\x1b`), so that a reader sees that they are there."""
    return UNSAFE.sub(lambda match: ascii(match[0])[1:-1], " ".join(text.split("\n")))


def read_text(path: Path) -> str:
    """A file's text in UTF-8, or in UTF-16 where its byte order mark says so. Raises OSError, of a file without an end
    too; UnicodeDecodeError."""
    with path.open("rb") as file:
        content = file.read(LARGEST + 1)
    if len(content) > LARGEST:
        raise OSError(errno.EFBIG, f"longer than {LARGEST // 2**20} MiB, which no text file for rrr is", str(path))
    return decoded(content)


def decoded(content: bytes) -> str:
    """The text of a file's bytes, as in `read_text`. Raises UnicodeDecodeError."""
    return content.decode("utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
