"""Random: K samples without replacement. Not in the paper; the row every method must beat."""

import torch
from torch import Tensor

from vecaf_lib.selection._pool import Pool, check_budget
from vecaf_lib.selection._types import Record

NEEDS: frozenset[str] = frozenset()


def select(pool: Pool, budget: int, *, generator: torch.Generator, record: Record = None) -> Tensor:
    """Choose ``budget`` of the pool's N samples, each subset equally likely."""
    check_budget(pool, budget)
    return torch.randperm(pool.size, generator=generator)[:budget]
