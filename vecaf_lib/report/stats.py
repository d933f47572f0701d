"""Mean, standard error and the paired difference between two methods over common seeds."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy import stats

from vecaf_lib.errors import BadInput


@dataclass(frozen=True)
class Summary:
    """Mean and standard error (ddof = 1; NaN for one value) of ``n`` values, in their unit."""

    mean: float
    standard_error: float
    n: int


@dataclass(frozen=True)
class Difference:
    """Mean of ``n`` paired differences with the ends of its t interval (NaN for one pair)."""

    mean: float
    low: float
    high: float
    n: int


def summary(values: Mapping[int, float]) -> Summary:
    """Mean and standard error over seeds.

    Args:
        values: seed -> value (for accuracies: percent).

    Raises:
        BadInput: no seed, or a value that is not finite.
    """
    sample = _sample(values)
    error = float(stats.sem(sample, ddof=1)) if len(sample) > 1 else float("nan")
    return Summary(float(sample.mean()), error, len(sample))


def paired_difference(
    first: Mapping[int, float], second: Mapping[int, float], *, confidence: float = 0.95
) -> Difference:
    """Mean of ``first - second`` over their common seeds with a Student t interval.

    The interval is that of the paired t-test: mean +- t_{n-1} * SE of the n differences. It
    stands alone: nothing is corrected for looking at several comparisons.

    Args:
        first: seed -> value.
        second: seed -> value; one of the two may have more seeds, which do not count.
        confidence: the interval's level, between 0 and 1.

    Raises:
        BadInput: neither side's seeds are among the other's, or there are none.
    """
    common = set(first) & set(second)
    if common not in (set(first), set(second)):
        raise BadInput(
            f"Seeds do not pair up: {sorted(first)} on one side and {sorted(second)} on the "
            "other; run both methods with the same seeds."
        )
    both = summary({seed: first[seed] - second[seed] for seed in common})
    degrees = max(both.n - 1, 1)  # one pair has no interval: its standard error is NaN
    reach = float(stats.t.ppf((1 + confidence) / 2, degrees)) * both.standard_error
    return Difference(both.mean, both.mean - reach, both.mean + reach, both.n)


def verdict(low: float, high: float) -> str:
    """What an interval of a difference says; ``undecided`` if it includes zero or is NaN."""
    if low > 0:
        return "higher"
    return "lower" if high < 0 else "undecided"


def _sample(values: Mapping[int, float]) -> np.ndarray:
    """The values in the order of their seeds, [n]."""
    if not values:
        raise BadInput("A mean needs at least one seed; add seeds to the profile.")
    sample = np.array([values[seed] for seed in sorted(values)], dtype=float)  # (n,)
    if not np.isfinite(sample).all():
        raise BadInput(f"Values must be finite numbers, but the seeds gave {sample.tolist()}.")
    return sample
