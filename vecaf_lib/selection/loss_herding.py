r"""Herding by loss: MaxHerding with the losses as weights, VeCAF's nearest relative.

MaxHerding's objective (Bae et al., ECCV 2024) with $u_j = p_j$ of VeCAF's equation 3, so that what
the model has not learned is covered first: objective-aware and diverse, by kernels and a greedy
choice where ODS has centroids and descents. **Ours**: the papers weight by uncertainty
(`uherding`). Losses tell of all labels.
"""

from typing import Any

from torch import Generator, Tensor

from vecaf_lib.objective import loss_distribution
from vecaf_lib.options import NotNegative
from vecaf_lib.selection import maxherding
from vecaf_lib.selection.pool import Pool, Record, builds_on

NEEDS = frozenset({"embeddings", "losses"})


@builds_on(maxherding.select)
def select(
    pool: Pool,
    budget: int,
    *,
    generator: Generator,
    record: Record = None,
    loss_power: NotNegative = 1.0,
    **options: Any,
) -> Tensor:
    """Choose as MaxHerding does, in the order of choice; ``loss_power`` is gamma of equation 3."""
    u = loss_distribution(pool.need("losses"), loss_power)
    return maxherding.herd(pool, budget, u, record=record, **options)
