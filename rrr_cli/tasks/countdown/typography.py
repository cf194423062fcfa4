"""An expression as people type it, in the signs that `arithmetic.py` reads. Reads and writes nothing.

What a reader takes as the same expression becomes the same text: × · ⋅ ∗ and `\\times`, ÷ and `\\div`, `\\frac{a}{b}`,
minus signs and dashes, an `x` between spaces, full-width signs and parentheses, no-break spaces, `1,000`; `$`, `\\(`,
`\\boxed{}`, bold type, backticks, quotes or a full stop around it; and `= target` after it or `target =` before
it. Digits of other scripts, invisible characters and words stay what they are, and are refused.
"""

from __future__ import annotations

import re

SIGNS = {
    "*": "\u00d7\u2715\u2716\u2a2f\u2217\u00b7\u22c5\u2219\u2022\uff0a", "/": "\u00f7\u2215\u2044\uff0f",
    "-": "\u2212\u2012\u2013\u2014\ufe63\uff0d", "+": "\uff0b", "(": "\uff08", ")": "\uff09", "=": "\uff1d",
    " ": "\u00a0\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u3000",
}
TABLE = str.maketrans({sign: plain for plain, signs in SIGNS.items() for sign in signs})
LATEX = (
    (re.compile(r"\\(?:times|cdot|ast)(?![A-Za-z])"), "*"), (re.compile(r"\\div(?![A-Za-z])"), "/"),
    (re.compile(r"\\(?:left|right)(?=[()])|\\displaystyle(?![A-Za-z])|\\(?=[-+*/])"), ""),
    (re.compile(r"\\[,;:! ]|\\q?quad(?![A-Za-z])"), " "),
)
FRACTION = re.compile(r"\\[dt]?frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}")
AROUND = re.compile(
    r"\s*(?:\$\$?(.*?)\$\$?|\\\((.*)\\\)|\\\[(.*)\\\]|\\boxed\s*\{(.*)\}|\*\*(.*)\*\*|"
    r"`{1,3}(?:[a-z]+\n)?(.*?)`{1,3}|\"(.*)\"|'(.*)'|\u201c(.*)\u201d)\s*\.?\s*", re.DOTALL)
LETTER_X = re.compile(r"(?<=[\s)])[xX](?=[\s(])")
THOUSANDS = re.compile(r"(?<![\d,])[1-9]\d{0,2}(?:,\d{3})+(?![\d,])", re.ASCII)
MAX_CHARACTERS = 512  # of an expression; a longer one is refused as it is
MAX_LAYERS = 8  # of what stands around an expression, and of fractions within fractions


def ascii_signs(text: str) -> str:
    """A text with the signs of `arithmetic.py` for those that mean the same."""
    text = text.translate(TABLE)
    for pattern, sign in LATEX:
        text = pattern.sub(sign, text)
    text = LETTER_X.sub("*", THOUSANDS.sub(lambda number: number[0].replace(",", ""), text))
    return FRACTION.sub(r"((\1)/(\2))", text)


def expression(text: str, target: int) -> str:
    """What stands in an answer, without `= target` and what is put around an expression."""
    if len(text) > MAX_CHARACTERS:
        return text
    text = _bare(ascii_signs(text))
    left, equals, right = (side.strip(" \t\r\n") for side in text.removesuffix(".").replace("==", "=").partition("="))
    if not equals or _bare(right) == str(target):
        return left
    return right if _bare(left) == str(target) else text


def _bare(text: str) -> str:
    """A text without what is put around it, and with fractions on one line."""
    for _ in range(MAX_LAYERS):
        around = AROUND.fullmatch(text)
        text = next(inside for inside in around.groups() if inside is not None) if around else text
        text = FRACTION.sub(r"((\1)/(\2))", text)
    return text.strip(" \t\r\n")
