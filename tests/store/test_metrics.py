"""Rates, intervals, paired tests and repetition against numbers from other sources."""

import math

import pytest

pytest.importorskip("scipy")

from rrr_cli.metrics import difference, mcnemar, paired, rate, repetition


def test_a_rate_and_its_interval():
    r = rate([True] * 30 + [False] * 70)
    assert r is not None
    assert r.value == pytest.approx(0.3)
    # Normal approximation: 0.3 ± 1.96 * sqrt(0.3 * 0.7 / 100)
    assert (r.low, r.high) == (pytest.approx(0.21, abs=0.015), pytest.approx(0.39, abs=0.015))


def test_rates_of_no_problems_and_all_failures():
    assert rate([]) is None
    r = rate([False] * 100)
    assert r is not None
    assert r.value == 0.0
    assert r.high == pytest.approx(1 - 0.025 ** (1 / 100))  # the exact binomial bound


def test_a_rate_is_deterministic():
    values = [i % 3 == 0 for i in range(200)]
    assert rate(values, seed=1) == rate(values, seed=1)


def test_problem_order_changes_no_interval():
    values = [i % 3 == 0 for i in range(200)]
    assert rate(values) == rate(sorted(values)) == rate(values[::-1])


def test_a_difference_and_its_interval():
    d = difference(won=30, lost=10, n=200)
    assert d.value == pytest.approx(0.1)
    # Normal approximation: 0.1 ± 1.96 * sqrt((0.2 - 0.1 ** 2) / 200)
    assert (d.low, d.high) == (pytest.approx(0.0396, abs=0.006), pytest.approx(0.1604, abs=0.006))
    mirrored = difference(won=10, lost=30, n=200)
    assert mirrored.value == -d.value
    assert mirrored.high < 0


@pytest.mark.parametrize(("won", "lost", "low", "high"), [
    (0, 0, -(1 - 0.025 ** (1 / 50)), 1 - 0.025 ** (1 / 50)),
    (50, 0, 1 - 2 * (1 - 0.025 ** (1 / 50)), 1.0),
    (0, 50, -1.0, -1 + 2 * (1 - 0.025 ** (1 / 50))),
])
def test_constant_differences_have_an_interval(won, lost, low, high):
    d = difference(won, lost, 50)
    assert (d.value, d.low, d.high) == pytest.approx(((won - lost) / 50, low, high))


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
