"""The answers that stand in a free text: right expressions, and chains of steps that come to the target.

A number in a step stands for itself, or for the expression that it is the result of: `3 * 7 = 21 + 8 = 29` is
`(3 * 7) + 8`, and so are `3 * 7 = 21 , 21 + 8 = 29` and `( 3 * 7 = 21 ) + 8`. One of the problem's own numbers is a
result only right after its `=`, or where it ended an earlier chain. A result that is wrong is none: a chain with a
wrong step comes to another value. What the text says of the last value doesn't count. Pure; the work is bounded.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import islice

from rrr_cli.tasks.countdown.chains import NUMBER, Side, Term, chains

MAX_CHAINS = 2000  # of a text
MAX_STEPS = 50_000  # readings of a number that are tried in a text

Used = tuple[int, ...]  # which of the problem's numbers an expression uses, sorted
Forms = dict[Used, str]  # expressions of one value, one for each choice of numbers


def expressions(text: str, numbers: Sequence[int], target: int) -> Iterator[str]:
    """The expressions over exactly `numbers` that stand in `text`, whole or step by step, and come to `target`."""
    return _Reading(numbers, target).of(list(islice(chains(text, len(numbers)), MAX_CHAINS)))


class _Reading:
    """The results that are known while one text is read."""

    def __init__(self, numbers: Sequence[int], target: int) -> None:
        self.numbers: Used = tuple(sorted(numbers))
        self.target = target
        self.steps = MAX_STEPS
        self.results: dict[Fraction, Forms] = {}  # of all steps
        self.ends: dict[Fraction, Forms] = {}  # of the chains that end before this one

    def of(self, read: Sequence[list[Side]]) -> Iterator[str]:
        """The expressions. A step may stand before the one whose result it uses, so all is read again while that gives
        more results."""
        seen: set[str] = set()
        for _ in self.numbers:
            known = sum(map(len, self.results.values()))
            self.ends = {}
            for text in (text for sides in read for text in self._chain(sides)):
                if text not in seen:
                    seen.add(text)
                    yield text
            if sum(map(len, self.results.values())) == known:
                return

    def _chain(self, sides: Sequence[Side]) -> Iterator[str]:
        """The expressions in one chain; its results are noted."""
        before: Forms = {}  # what the side's first number is the result of, as the side before it has it
        for i, side in enumerate(sides):
            after = sides[i + 1] if i + 1 < len(sides) else None
            same = after is not None and side.number is not None and side.number == after.first
            handed: Forms = before if same else {}
            for term in side.terms:
                forms = self._forms(term, side.first, before)
                stands = len(term.tokens) > 1 or len(self.numbers) == 1  # a result by itself was an expression before
                if stands and term.value == self.target and self.numbers in forms:
                    yield forms[self.numbers].strip()
                if term.whole and len(term.tokens) > 1:
                    if after is not None and after.first == term.value:
                        handed = forms
                    if handed or (i > 0 and sides[i - 1].number == term.value):
                        _note(self.results, term.value, forms)
            if after is not None and after.number is not None and i + 2 == len(sides):
                _note(self.ends, after.number, handed)
            before = handed

    def _forms(self, term: Term, first: Fraction | None, before: Forms) -> Forms:
        """The expressions that a term is, by the numbers that they use."""
        forms: Forms = {(): ""}
        leads = term.whole
        for token in term.tokens:
            if not NUMBER.fullmatch(token):
                forms = {used: f"{text} {token}" for used, text in forms.items()}
                continue
            choices = [*self._choices(token, before if leads and Fraction(token) == first else {})]
            leads = False
            self.steps -= len(choices) * len(forms) + 1
            if self.steps < 0:
                return {}
            longer: Forms = {}
            for used, text in forms.items():
                for more, written in choices:
                    together = tuple(sorted(used + more))
                    if _within(together, self.numbers):
                        longer.setdefault(together, f"{text} {written}")
            forms = longer
        return forms

    def _choices(self, token: str, before: Forms) -> Iterator[tuple[Used, str]]:
        """What a number may stand for: itself, where it is the problem's, or what it is the result of."""
        value = Fraction(token)
        own = abs(value) in self.numbers
        if own:
            yield (int(abs(value)),), token
        known = self.ends if own else self.results
        for forms, written in ((before, "({})"), (known.get(value, {}), "({})"),
                               (known.get(-value, {}) if value < 0 else {}, "-({})")):
            for used, text in forms.items():
                yield used, written.format(text.strip())


def _note(results: dict[Fraction, Forms], value: Fraction, forms: Forms) -> None:
    known = results.setdefault(value, {})
    for used, text in forms.items():
        known.setdefault(used, text)


def _within(used: Used, numbers: Used) -> bool:
    """Whether each of the numbers is used once at most."""
    rest = list(numbers)
    for number in used:
        if number not in rest:
            return False
        rest.remove(number)
    return True
