"""Ways to reach a target: a search over + - * / that uses each number exactly once, exact over the rationals.

Works backwards: of the last operation, one side is enumerated and the other is solved for what it would have to be.
Rationals are reduced (numerator, denominator) pairs, since hashing and building a Fraction costs several times more.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache, lru_cache
from itertools import combinations
from math import gcd

Ratio = tuple[int, int]  # reduced, denominator > 0
Expression = tuple[str, int]  # text, and how tightly it binds: 1 sum, 2 product, 3 number
Numbers = tuple[int, ...]

_BINDS = {"+": 1, "-": 1, "*": 2, "/": 2}


def solutions(numbers: Numbers | list[int], target: int) -> Iterator[str]:
    """Expressions over exactly `numbers` that equal `target`, each text once, with no needless parentheses.

    Deterministic; the order of `numbers` doesn't matter. `x + y` and `y + x` count as one, as far as the two sides of
    one operation go; sums and products of more terms may come in several orders. Yields nothing only where the target
    can't be reached.
    """
    seen: set[str] = set()
    for text, _ in _reach(tuple(sorted(numbers)), (target, 1)):
        if text not in seen:
            seen.add(text)
            yield text


@lru_cache(maxsize=8192)  # more than all pairs of numbers to 99
def values(numbers: Numbers) -> dict[Ratio, list[Expression]]:
    """Every value that sorted `numbers` can make, with the expressions that make it."""
    if len(numbers) == 1:
        return {(numbers[0], 1): [(str(numbers[0]), 3)]}
    by_value: dict[Ratio, list[Expression]] = {}
    for left_numbers, right_numbers in _splits(numbers):
        for a, lefts in values(left_numbers).items():
            for b, rights in values(right_numbers).items():
                for value, operator, swapped in _combine(a, b):
                    texts = by_value.setdefault(value, [])
                    for x in lefts:
                        texts.extend(_join(operator, y, x) if swapped else _join(operator, x, y) for y in rights)
    return by_value


def _reach(numbers: Numbers, target: Ratio) -> Iterator[Expression]:
    if len(numbers) <= 2:
        yield from values(numbers).get(target, ())
        return
    for left_numbers, right_numbers in _splits(numbers):
        # Looked up here rather than by a call: nearly every search ends at a pair, and nearly all of them in nothing.
        pair = values(right_numbers) if len(right_numbers) == 2 else None
        for a, lefts in values(left_numbers).items():
            for needed, operator, swapped in _other_side(a, target):
                rights = _reach(right_numbers, needed) if pair is None else pair.get(needed, ())
                for y in rights:
                    for x in lefts:
                        yield _join(operator, y, x) if swapped else _join(operator, x, y)


def _combine(a: Ratio, b: Ratio) -> Iterator[tuple[Ratio, str, bool]]:
    """(value, operator, swapped) of a ∘ b, and of b ∘ a where that differs."""
    (p, q), (r, s) = a, b
    yield _ratio(p * s + r * q, q * s), "+", False
    yield _ratio(p * s - r * q, q * s), "-", False
    yield _ratio(r * q - p * s, q * s), "-", True
    yield _ratio(p * r, q * s), "*", False
    if r:
        yield _ratio(p * s, q * r), "/", False
    if p:
        yield _ratio(r * q, s * p), "/", True


def _other_side(a: Ratio, target: Ratio) -> list[tuple[Ratio, str, bool]]:
    """(y, operator, swapped) such that a ∘ y = target, or y ∘ a = target where swapped.

    0 * y = 0 holds for every y, so it has no one y to solve for; no target is lost, since (0 * y) is also reached as
    y * 0, or term by term where y is itself an expression.
    """
    (p, q), (t, u) = a, target
    x, y, bottom = p * u, t * q, q * u
    sides = [
        (_ratio(y - x, bottom), "+", False),
        (_ratio(x - y, bottom), "-", False),
        (_ratio(x + y, bottom), "-", True),
    ]
    if p:
        sides += [(_ratio(y, x), "*", False), (_ratio(p * t, bottom), "/", True)]
        if t:
            sides.append((_ratio(x, y), "/", False))
    return sides


def _ratio(numerator: int, denominator: int) -> Ratio:
    divisor = gcd(numerator, denominator)
    if denominator < 0:
        divisor = -divisor
    return numerator // divisor, denominator // divisor


def _join(operator: str, left: Expression, right: Expression) -> Expression:
    binds = _BINDS[operator]
    # Operators group to the left, so an equally tight right operand keeps its parentheses only after - and /.
    right_needs = binds + 1 if operator in "-/" else binds
    left_text = left[0] if left[1] >= binds else f"({left[0]})"
    right_text = right[0] if right[1] >= right_needs else f"({right[0]})"
    return f"{left_text} {operator} {right_text}", binds


def _splits(numbers: Numbers) -> Iterator[tuple[Numbers, Numbers]]:
    for left, right in _index_splits(len(numbers)):
        yield tuple(numbers[i] for i in left), tuple(numbers[i] for i in right)


@cache
def _index_splits(size: int) -> list[tuple[Numbers, Numbers]]:
    """Every way to part `size` places into two unordered sides, the smaller one on the left."""
    parts = []
    for left_size in range(1, size // 2 + 1):
        for left in combinations(range(size), left_size):
            if 2 * left_size < size or 0 in left:  # two halves: each pair once
                parts.append((left, tuple(i for i in range(size) if i not in left)))
    return parts
