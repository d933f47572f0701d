"""Top-K loss (Table 2): the K samples of largest finetuning loss; ODS without its diversity.

By section 3.1 it solves equation 2 with lambda = 0. (Equation 7 with lambda = 0 is another thing:
loss-weighted spherical k-means.) Ties keep the order of the pool.
"""

import torch
from torch import Tensor

from vecaf_lib.selection._pool import Pool, check_budget
from vecaf_lib.selection._types import Record

NEEDS = frozenset({"losses"})


def select(pool: Pool, budget: int, *, generator: torch.Generator, record: Record = None) -> Tensor:
    """Choose the ``budget`` largest losses, largest first; deterministic, so no seed matters."""
    check_budget(pool, budget)
    return pool.need("losses").sort(descending=True, stable=True).indices[:budget]
