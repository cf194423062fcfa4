"""Rates, intervals and paired tests against numbers worked out elsewhere."""

import math

import pytest

pytest.importorskip("scipy")

from rrr_cli.metrics import mcnemar, rate


def test_a_rate_is_the_share_and_its_interval_covers_it():
    r = rate([True] * 30 + [False] * 70)
    assert r is not None
    assert r.value == pytest.approx(0.3)
    # Normal approximation: 0.3 ± 1.96 * sqrt(0.3 * 0.7 / 100)
    assert (r.low, r.high) == (pytest.approx(0.21, abs=0.015), pytest.approx(0.39, abs=0.015))


def test_a_rate_of_nothing_is_none_and_of_all_failures_is_not_certain():
    assert rate([]) is None
    r = rate([False] * 100)
    assert r is not None
    assert r.value == 0.0
    assert r.high == pytest.approx(1 - 0.025 ** (1 / 100))  # the exact binomial bound


def test_a_rate_is_the_same_twice():
    values = [i % 3 == 0 for i in range(200)]
    assert rate(values, seed=1) == rate(values, seed=1)


def test_mcnemar_is_the_exact_binomial_test_on_the_discordant_pairs():
    a = [False] * 9 + [True] * 1 + [True] * 5 + [False] * 5
    b = [True] * 9 + [False] * 1 + [True] * 5 + [False] * 5
    result = mcnemar(a, b)
    assert (result.won, result.lost) == (9, 1)
    assert result.p == pytest.approx(2 * sum(math.comb(10, k) for k in (0, 1)) / 2**10)


def test_mcnemar_of_equal_outcomes_is_one_and_of_unequal_lengths_an_error():
    assert mcnemar([True, False], [True, False]).p == 1.0
    with pytest.raises(ValueError, match=r"shorter|longer"):
        mcnemar([True], [True, False])
