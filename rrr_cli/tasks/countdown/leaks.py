"""Whether a text holds a right expression: any that the verifier would pass, however it is spaced, turned or typed.

Wherever the problem's numbers stand together in a text, with nothing but signs between them, what they make is computed
with the parentheses and signs around them and without. Reads and writes nothing; the work is bounded.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from rrr_cli.tasks.countdown.arithmetic import MAX_DIGITS, Refused, evaluate, parse
from rrr_cli.tasks.countdown.typography import ascii_signs

MOST = 5000  # expressions of a text that are computed
AROUND = 8  # parentheses and signs that are tried on each side of the numbers
NOT_WHOLE = re.compile(r"(?<!\d)(?:\d*[^\W\d]\w*|\d+[.,]\d[\d.,]*)")  # words, and numbers with a point or comma within
RUN = re.compile(r"[-+*/()0-9 \t\r\n]+")
TOKEN = re.compile(r"[0-9]+|[-+*/()]")


def holds_answer(text: str, numbers: Sequence[int], target: int) -> bool:
    """Whether an expression in the text uses each of the numbers once and comes to the target."""
    left = MOST
    for tokens in _with_numbers(text, sorted(numbers)):
        left -= 1
        if left < 0:
            return False
        try:
            if evaluate(parse(" ".join(tokens))) == target:
                return True
        except (Refused, ZeroDivisionError):
            continue
    return False


def _with_numbers(text: str, wanted: list[int]) -> Iterator[list[str]]:
    """Tokens that stand one after the other in the text and whose numbers are the wanted ones, each used once."""
    for run in RUN.finditer(NOT_WHOLE.sub("#", ascii_signs(text))):
        tokens = TOKEN.findall(run[0])
        places = [i for i, token in enumerate(tokens) if token.isdigit()]
        bounds = [-1, *places, len(tokens)]  # the number before a window ends it, and so does the one after it
        for n in range(len(places) - len(wanted) + 1):
            inside = places[n : n + len(wanted)]
            if sorted(int(tokens[i][: MAX_DIGITS + 1]) for i in inside) != wanted:
                continue
            for start in range(inside[0], max(bounds[n], inside[0] - AROUND - 1), -1):
                for end in range(inside[-1] + 1, min(bounds[n + len(wanted) + 1], inside[-1] + 1 + AROUND) + 1):
                    yield tokens[start:end]
