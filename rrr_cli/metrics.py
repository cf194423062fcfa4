"""Rates with bootstrap intervals, and the exact paired test. The statistics are SciPy's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Rate:
    """A share of successes with its 95 % bootstrap interval over problems."""

    value: float
    low: float
    high: float


def rate(successes: Sequence[bool], seed: int = 0) -> Rate | None:
    """The share of successes: percentile bootstrap, 10,000 resamples of the problems. None for no problems."""
    if not successes:
        return None
    import numpy as np
    from scipy.stats import bootstrap

    values = np.asarray(successes, dtype=float)
    if values.min() == values.max():
        # Every resample is the same; the bootstrap has nothing to say, the exact binomial interval does.
        from scipy.stats import binomtest

        exact = binomtest(int(values.sum()), len(values)).proportion_ci(0.95, "exact")
        return Rate(float(values[0]), float(exact.low), float(exact.high))
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
    """Exact two-sided McNemar test of b against a, problem by problem. Lengths must be equal."""
    from scipy.stats import binomtest

    won = sum(y and not x for x, y in zip(a, b, strict=True))
    lost = sum(x and not y for x, y in zip(a, b, strict=True))
    return Paired(won, lost, float(binomtest(won, won + lost).pvalue) if won + lost else 1.0)
