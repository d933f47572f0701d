"""Means, standard errors and paired intervals against hand-computed values and scipy."""

import math

import pytest
from scipy.stats import ttest_rel

from vecaf_lib.errors import BadInput
from vecaf_lib.report.grid import accuracy_text
from vecaf_lib.report.stats import paired_difference, summary, verdict


def test_summary_by_hand() -> None:
    found = summary({0: 80.0, 1: 82.0, 2: 87.0})
    # deviations -3, -1, 4: variance (9 + 1 + 16) / 2 = 13, standard error sqrt(13 / 3)
    assert found.mean == pytest.approx(83.0)
    assert found.standard_error == pytest.approx(math.sqrt(13 / 3))
    assert found.n == 3


def test_paired_difference_by_hand() -> None:
    found = paired_difference({0: 3.0, 1: 5.0, 2: 10.0}, {2: 7.0, 1: 3.0, 0: 2.0})
    # differences 1, 2, 3: mean 2, standard error 1 / sqrt(3), t(0.975, 2) = 4.302653
    reach = 4.302652729911275 / math.sqrt(3)
    assert (found.mean, found.n) == (pytest.approx(2.0), 3)
    assert (found.low, found.high) == (pytest.approx(2 - reach), pytest.approx(2 + reach))


@pytest.mark.parametrize("confidence", [0.8, 0.95])
def test_paired_difference_is_that_of_scipy(confidence: float) -> None:
    first, second = [81.2, 79.4, 85.0, 84.4], [80.0, 80.2, 83.8, 81.0]
    found = paired_difference(
        dict(enumerate(first)), dict(enumerate(second)), confidence=confidence
    )
    interval = ttest_rel(first, second).confidence_interval(confidence)
    assert (found.low, found.high) == (pytest.approx(interval.low), pytest.approx(interval.high))


def test_equal_differences_have_an_interval_of_no_width() -> None:
    found = paired_difference({0: 2.0, 1: 3.0}, {0: 1.0, 1: 2.0})
    assert (found.low, found.mean, found.high) == (1.0, 1.0, 1.0)


def test_seeds_that_do_not_pair_up() -> None:
    with pytest.raises(BadInput, match="do not pair up"):
        paired_difference({0: 1.0, 1: 2.0}, {0: 1.0, 2: 2.0})


def test_no_seeds_have_no_mean() -> None:
    with pytest.raises(BadInput, match="at least one seed"):
        summary({})
    with pytest.raises(BadInput, match="at least one seed"):
        paired_difference({}, {})


def test_one_seed_has_a_mean_but_neither_error_nor_interval() -> None:
    alone = summary({3: 71.5})
    assert (alone.mean, alone.n) == (71.5, 1)
    assert math.isnan(alone.standard_error)
    found = paired_difference({3: 71.5}, {3: 70.0})
    assert (found.mean, found.n) == (1.5, 1)
    assert math.isnan(found.low)
    assert math.isnan(found.high)
    assert verdict(found.low, found.high) == "undecided"
    assert accuracy_text(alone.mean, alone.standard_error) == "71.50"


def test_values_that_are_not_finite() -> None:
    with pytest.raises(BadInput, match="finite"):
        summary({0: 1.0, 1: math.nan})


def test_verdict_needs_the_whole_interval() -> None:
    assert verdict(0.1, 2) == "higher"
    assert verdict(-2, -0.1) == "lower"
    assert verdict(-0.1, 2) == verdict(0, 2) == verdict(-2, 0) == "undecided"
