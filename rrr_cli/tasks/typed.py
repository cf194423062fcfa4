"""Signs that a model types for those of a language it was shown, as ASCII: full-width and curly ones, odd spaces.

Reads and writes nothing. Letters and digits of other scripts stay what they are.
"""

from __future__ import annotations

_SIGNS = {
    "(": "\uff08", ")": "\uff09", "[": "\uff3b", "]": "\uff3d", ",": "\uff0c\u3001", ";": "\uff1b", ":": "\uff1a",
    "=": "\uff1d", ".": "\uff0e\u3002", '"': "\u201c\u201d\u201e\uff02", "'": "\u2018\u2019\uff07",
    "<": "\uff1c", ">": "\uff1e", "-": "\u2010\u2011\u2212", " ": "\u00a0\u2009\u202f\u3000",
}
_TABLE = str.maketrans({sign: plain for plain, signs in _SIGNS.items() for sign in signs})


def ascii_signs(text: str) -> str:
    """The text with each such sign as the ASCII one, so that places stay."""
    return text.translate(_TABLE)
