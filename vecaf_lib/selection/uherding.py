r"""UHerding (Bae et al., ICLR 2025): MaxHerding that covers first what the classifier doubts.

MaxHerding's objective with weights $u_j = 1 - (p_{j1} - p_{j2})$, the two largest probabilities of
sample j: margin uncertainty. The first set, from a classifier that is still random, is
MaxHerding's. Of labels it knows what the classifier learned from the chosen. The paper's adaptation
of the kernel's width and of the softmax's temperature is left out: both are fixed.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from vecaf_lib.objective import loss_distribution
from vecaf_lib.selection import maxherding
from vecaf_lib.selection.pool import Pool, Record, builds_on

NEEDS = frozenset({"embeddings", "probabilities"})


def uncertainty(pool: Pool) -> Float[Tensor, " n"]:
    """Margin uncertainty of each sample, 0 (sure) to 1; all 1 while there is no classifier."""
    if pool.probabilities is None or pool.probabilities.shape[1] == 1:
        return torch.ones(pool.size)
    first, second = pool.probabilities.topk(2, dim=1).values.unbind(1)
    return (1 - (first - second)).clamp_min(0)


@builds_on(maxherding.select)
def select(
    pool: Pool, budget: int, *, generator: Generator, record: Record = None, **options: Any
) -> Tensor:
    """Choose ``budget`` samples, in the order of choice; ``record`` and ``sigma``: MaxHerding's."""
    u = loss_distribution(uncertainty(pool), 1.0)  # where nothing is in doubt, all count the same
    return maxherding.herd(pool, budget, u, record=record, **options)
