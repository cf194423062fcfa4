"""Text of a model or a data set, made safe to print: without control characters, which a terminal obeys."""

from __future__ import annotations

import re

# C0 but \t and \n, DEL, C1, and the characters that reorder the text around them.
UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def safe_text(text: str) -> str:
    """`text` without control characters. Give the result to `rich.text.Text`, never to markup."""
    return UNSAFE.sub("", text)
