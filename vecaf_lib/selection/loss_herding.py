r"""Herding by loss: MaxHerding with the losses as weights, VeCAF's nearest relative.

MaxHerding's objective (Bae et al., ECCV 2024) with $u_j = p_j$ of VeCAF's equation 3, so that what
the model has not learned is covered first: objective-aware and diverse, by kernels and a greedy
choice where ODS has centroids and descents. **Ours**: the papers weight by uncertainty
(`uherding`). Losses tell of all labels.
"""

from torch import Generator, Tensor

from vecaf_lib.objective import loss_distribution
from vecaf_lib.options import NotNegative, Positive
from vecaf_lib.selection.maxherding import herd
from vecaf_lib.selection.pool import Pool, Record

NEEDS = frozenset({"embeddings", "losses"})


def select(
    pool: Pool,
    budget: int,
    *,
    generator: Generator,
    record: Record = None,
    sigma: Positive = 1.0,
    loss_power: NotNegative = 1.0,
) -> Tensor:
    """Choose ``budget`` samples, in the order of choice.

    Args:
        record, sigma: see ``maxherding``.
        loss_power: gamma of equation 3; 0 is MaxHerding.
    """
    u = loss_distribution(pool.need("losses"), loss_power)
    return herd(pool, budget, u, sigma=sigma, record=record)
