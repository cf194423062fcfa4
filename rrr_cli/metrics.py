"""Rates with bootstrap intervals, the exact paired test, and how repetitive a text is.

The statistics are SciPy's. Reads and writes nothing."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Rate:
    """A share of successes with its 95 % bootstrap interval over problems."""

    value: float
    low: float
    high: float


def rate(successes: Sequence[bool], seed: int = 0) -> Rate | None:
    """The share of successes: percentile bootstrap, 10,000 resamples of the problems. None for no problems.

    The problems' order changes nothing: the interval depends on the two counts only.
    """
    if not successes:
        return None
    import numpy as np

    values = np.sort(np.asarray(successes, dtype=float))
    if values[0] == values[-1]:
        # Every resample is the same, so the bootstrap gives no interval: take the exact binomial one.
        from scipy.stats import binomtest

        exact = binomtest(int(values.sum()), len(values)).proportion_ci(0.95, "exact")
        return Rate(float(values[0]), float(exact.low), float(exact.high))
    return _bootstrap(values, seed)


def difference(won: int, lost: int, n: int, seed: int = 0) -> Rate:
    """b's rate less a's over the same `n` problems, in [-1, 1], from McNemar's counts; bootstrap as in `rate`."""
    import numpy as np

    value = (won - lost) / n
    if n in (won, lost, n - won - lost):
        # Every resample is the same: the exact bound on the unseen outcome; between won and lost the step is 2.
        bound = (1 - 0.025 ** (1 / n)) * (2 if value else 1)
        return Rate(value, max(-1.0, value - bound), min(1.0, value + bound))
    return _bootstrap(np.repeat([-1.0, 0.0, 1.0], [lost, n - won - lost, won]), seed)


def _bootstrap(values: Any, seed: int) -> Rate:
    import numpy as np
    from scipy.stats import bootstrap

    interval = bootstrap(
        (values,), np.mean, n_resamples=10_000, method="percentile", batch=1_000, rng=np.random.default_rng(seed)
    ).confidence_interval
    return Rate(float(values.mean()), float(interval.low), float(interval.high))


@dataclass(frozen=True)
class Paired:
    """The same problems under a and b: those that only b passed, those that only a passed, and the exact p."""

    won: int
    lost: int
    p: float


def mcnemar(a: Sequence[bool], b: Sequence[bool]) -> Paired:
    """Exact two-sided McNemar test of b against a, paired by problem. Raises ValueError: unequal lengths."""
    won = sum(y and not x for x, y in zip(a, b, strict=True))
    lost = sum(x and not y for x, y in zip(a, b, strict=True))
    return paired(won, lost)


def paired(won: int, lost: int) -> Paired:
    """The exact two-sided McNemar test from its two counts."""
    from scipy.stats import binomtest

    return Paired(won, lost, float(binomtest(won, won + lost).pvalue) if won + lost else 1.0)


def repetition(texts: Sequence[str]) -> float | None:
    """seq-rep-4 of Welleck et al. 2020 (arXiv 1908.04319), the mean over texts: the share of a text's 4-grams that
    occurred before in it, in [0, 1). Words are separated by white space; texts with fewer than four are left out.

    None where no text has four words.
    """
    shares = []
    for text in texts:
        words = re.findall(r"[^ \t\r\n]+", text)
        grams = [tuple(words[i : i + 4]) for i in range(len(words) - 3)]
        if grams:
            shares.append(1 - len(set(grams)) / len(grams))
    return sum(shares) / len(shares) if shares else None
