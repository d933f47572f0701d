"""Random: K samples without replacement. Not in the paper; the row every method must beat."""

import torch
from torch import Generator, Tensor

from vecaf_lib.selection.pool import Pool, Record

NEEDS: frozenset[str] = frozenset()


def select(pool: Pool, budget: int, *, generator: Generator, record: Record = None) -> Tensor:
    """Choose ``budget`` of the pool's candidates, each subset equally likely."""
    pool.check_budget(budget)
    candidates = pool.candidates()
    return candidates[torch.randperm(len(candidates), generator=generator)[:budget]]
