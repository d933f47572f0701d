"""Full-data finetuning: every sample of the pool; the loop then draws random batches from it."""

import torch
from torch import Generator, Tensor

from vecaf_lib.errors import BadInput
from vecaf_lib.selection.pool import Pool, Record

NEEDS: frozenset[str] = frozenset()


def select(pool: Pool, budget: int, *, generator: Generator, record: Record = None) -> Tensor:
    """Choose the whole pool; the budget must be N (ratio 100)."""
    if budget != pool.size:
        raise BadInput(f"ratio: full-data finetuning uses all {pool.size} samples; give 100.")
    pool.check_budget(budget)
    return torch.arange(pool.size)
