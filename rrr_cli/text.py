"""Text of a model, a data set or a command line, made safe to print: without characters that steer a terminal, reorder
what stands around them, or can't be seen."""

from __future__ import annotations

import re

# C0 but \t and \n, DEL, C1; bidirectional and zero-width characters, separators of lines, surrogates, tags.
UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)


def safe_text(text: str) -> str:
    """`text` without unsafe characters. Give the result to `rich.text.Text`, never to markup."""
    return UNSAFE.sub("", text)


def one_line(text: str) -> str:
    r"""`text` in one line with its unsafe characters as escapes (`\x1b`), so that a reader sees that they are there."""
    return UNSAFE.sub(lambda match: ascii(match[0])[1:-1], " ".join(text.split("\n")))
