"""Text files as editors of any system write them, and text made safe to print: without control characters, which a
terminal obeys.
"""

from __future__ import annotations

import re
from pathlib import Path

# C0 but \t and \n, DEL, C1, and the characters that reorder the text around them.
UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def safe_text(text: str) -> str:
    """`text` without control characters. Give the result to `rich.text.Text`, never to markup."""
    return UNSAFE.sub("", text)


def read_text(path: Path) -> str:
    """A file's text in UTF-8, or in UTF-16 where its byte order mark says so. Raises OSError, UnicodeDecodeError."""
    content = path.read_bytes()
    return content.decode("utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
