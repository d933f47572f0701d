"""Top-K loss (Table 2): it solves equation 2 with lambda = 0, that is ODS without diversity.

Equation 7 with lambda = 0 is another thing: loss-weighted spherical k-means.
"""

from torch import Generator, Tensor

from vecaf_lib.selection.pool import Pool, Record

NEEDS = frozenset({"losses"})


def select(pool: Pool, budget: int, *, generator: Generator, record: Record = None) -> Tensor:
    """Choose the ``budget`` largest losses, largest first; ties keep the order of the pool."""
    pool.check_budget(budget)
    candidates = pool.candidates()
    losses = pool.need("losses")[candidates]
    return candidates[losses.sort(descending=True, stable=True).indices[:budget]]
