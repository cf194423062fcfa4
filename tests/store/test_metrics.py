"""Rates, intervals, paired tests and repetition against numbers from other sources."""

import math

import pytest

pytest.importorskip("scipy")

from rrr_cli.metrics import difference, mcnemar, paired, rate, repetition


@pytest.mark.parametrize("n", [1, 5, 20, 50, 200])
def test_the_interval_of_a_rate_covers_every_true_rate(n: int):
    import numpy as np
    from scipy.stats import binom

    ends = [rate([True] * k + [False] * (n - k)) for k in range(n + 1)]
    low, high = (np.array([[getattr(r, end)] for r in ends]) for end in ("low", "high"))
    # just outside and inside of each end, where coverage jumps, and a grid between
    true_P = np.concatenate([np.linspace(0, 1, 501), *((end + step).ravel() for end in (low, high)
                                                       for step in (-1e-7, 1e-7))]).clip(0, 1)
    chance_KP = binom.pmf(np.arange(n + 1)[:, None], n, true_P)
    covered_P = (chance_KP * ((low <= true_P) & (true_P <= high))).sum(axis=0)
    assert covered_P.min() >= 0.95 - 1e-9


def test_no_interval_ends_at_a_rate_that_was_seen_not_to_be():
    assert rate([True] + [False] * 49).low > 0
    assert rate([False] + [True] * 49).high < 1
    assert rate([False] * 100).low == 0
    assert rate([False] * 100).high == pytest.approx(1 - 0.025 ** (1 / 100))
    assert rate([True] * 30 + [False] * 70).value == pytest.approx(0.3)
    assert rate([]) is None


def test_problem_order_changes_no_interval():
    values = [i % 3 == 0 for i in range(200)]
    assert rate(values) == rate(sorted(values)) == rate(values[::-1])


@pytest.mark.parametrize("n", [20, 50])
def test_the_interval_of_a_change_covers(n: int):
    import numpy as np
    from scipy.stats import multinomial

    counts = [(won, lost, n - won - lost) for won in range(n + 1) for lost in range(n + 1 - won)]
    ends = np.array([(d.low, d.high) for d in (difference(won, lost, n) for won, lost, _ in counts)])
    for gain in (0.005, 0.02, 0.1, 0.3, 0.5):
        for loss in (0.005, 0.02, 0.1, 0.2, 0.45):
            inside = (ends[:, 0] <= gain - loss) & (gain - loss <= ends[:, 1])
            chances = multinomial.pmf(counts, n, [gain, loss, 1 - gain - loss])
            assert chances[inside].sum() >= 0.935, (gain, loss)


def test_a_change_and_its_interval():
    d = difference(won=30, lost=10, n=200)
    assert d.value == pytest.approx(0.1)
    # Normal approximation: 0.1 ± 1.96 * sqrt((0.2 - 0.1 ** 2) / 200)
    assert (d.low, d.high) == (pytest.approx(0.0396, abs=0.006), pytest.approx(0.1604, abs=0.006))
    mirrored = difference(won=10, lost=30, n=200)
    assert (mirrored.value, mirrored.low, mirrored.high) == (-d.value, -d.high, -d.low)


@pytest.mark.parametrize("n", [1, 2, 50])
def test_a_change_stays_within_minus_one_and_one(n: int):
    assert difference(n, 0, n).high == 1
    assert difference(0, n, n).low == -1
    assert difference(0, 0, n).low < 0 < difference(0, 0, n).high


def test_repetition_is_the_share_of_repeated_4_grams():
    assert repetition(["a b c d e f"]) == 0.0
    assert repetition(["a b a b a b a"]) == 0.5  # abab baba abab baba: two of four
    assert repetition(["a b c d", "x  x\nx x\tx"]) == 0.25  # the mean of 0 and 1/2
    assert repetition(["a b c", ""]) is None


def test_mcnemar_is_the_exact_binomial_test():
    a = [False] * 9 + [True] * 1 + [True] * 5 + [False] * 5
    b = [True] * 9 + [False] * 1 + [True] * 5 + [False] * 5
    result = mcnemar(a, b)
    assert (result.won, result.lost) == (9, 1)
    assert result == paired(9, 1)
    assert result.p == pytest.approx(2 * sum(math.comb(10, k) for k in (0, 1)) / 2**10)


def test_mcnemar_of_equal_and_unequal_inputs():
    assert mcnemar([True, False], [True, False]).p == 1.0
    with pytest.raises(ValueError, match=r"shorter|longer"):
        mcnemar([True], [True, False])
