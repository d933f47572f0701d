r"""UHerding (Bae et al., ICLR 2025): MaxHerding that covers first what the classifier doubts.

MaxHerding's objective with weights $u_j = 1 - (p_{j1} - p_{j2})$, the two largest probabilities of
sample j: margin uncertainty. The first set, from a classifier that is still random, is
MaxHerding's. Of labels it knows what the classifier learned from the chosen. The paper's adaptation
of the kernel's width and of the softmax's temperature is left out: both are fixed.
"""

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from vecaf_lib.objective import loss_distribution
from vecaf_lib.options import Positive
from vecaf_lib.selection.maxherding import herd
from vecaf_lib.selection.pool import Pool, Record

NEEDS = frozenset({"embeddings", "probabilities"})


def uncertainty(pool: Pool) -> Float[Tensor, " n"]:
    """Margin uncertainty of each sample, 0 (sure) to 1; all 1 while there is no classifier."""
    if pool.probabilities is None or pool.probabilities.shape[1] == 1:
        return torch.ones(pool.size)
    first, second = pool.probabilities.topk(2, dim=1).values.unbind(1)
    return (1 - (first - second)).clamp_min(0)


def select(
    pool: Pool,
    budget: int,
    *,
    generator: Generator,
    record: Record = None,
    sigma: Positive = 1.0,
) -> Tensor:
    """Choose ``budget`` samples, in the order of choice; ``record`` and ``sigma``: MaxHerding's."""
    u = loss_distribution(uncertainty(pool), 1.0)  # where nothing is in doubt, all count the same
    return herd(pool, budget, u, sigma=sigma, record=record)
