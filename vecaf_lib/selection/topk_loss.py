"""Top-K loss (Table 2): it solves equation 2 with lambda = 0, that is ODS without diversity.

Equation 7 with lambda = 0 is another thing: loss-weighted spherical k-means.
"""

import torch
from jaxtyping import Float, Int64
from torch import Generator, Tensor

from vecaf_lib.selection.pool import Pool, Record

NEEDS = frozenset({"losses"})


def select(pool: Pool, budget: int, *, generator: Generator, record: Record = None) -> Tensor:
    """Choose the ``budget`` largest losses, largest first; ties keep the order of the pool."""
    pool.check_budget(budget)
    return largest(pool.need("losses"), budget, pool.candidates())


def largest(scores: Float[Tensor, " n"], budget: int, *groups: Tensor) -> Int64[Tensor, " k"]:
    """The indices of the largest scores in one group, then in the next; each group is sorted."""
    ranked = [at[scores[at].sort(descending=True, stable=True).indices] for at in groups]
    return torch.cat(ranked)[:budget]
