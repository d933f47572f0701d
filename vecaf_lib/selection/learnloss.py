"""LearnLoss (Yoo and Kweon, CVPR 2019): choose the samples of largest predicted loss.

A loss predictor is trained beside the model on the samples chosen so far (margin ranking) and then
predicts for all others, of which no label is used.
"""

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from vecaf_lib.selection import random
from vecaf_lib.selection.pool import Pool, Record, Share
from vecaf_lib.training import LossPredictor

NEEDS = frozenset({"predicted_losses", "labelled"})
COLD_START = True
LOSS_PREDICTOR = LossPredictor


def select(
    pool: Pool,
    budget: int,
    *,
    generator: torch.Generator,
    record: Record = None,
    subset: Share = 1.0,
    exclude_labelled: bool = True,
) -> Tensor:
    """Choose the ``budget`` largest predicted losses, largest first; ties keep the pool's order.

    Args:
        record: receives the numbers of ``candidates`` and of ``repeats``, chosen before.
        subset: share of the pool that is drawn at random as candidates, never fewer than K, lest
            near duplicates are chosen; theirs is 0.2 (10,000 of CIFAR-10's 50,000).
        exclude_labelled: as in active learning; False chooses from the whole pool, as the paper.
    """
    pool.check_budget(budget)
    labelled = pool.need("labelled")
    if not len(labelled):
        return random.select(pool, budget, generator=generator)
    at = pool.unlabelled() if exclude_labelled else torch.arange(pool.size)
    count = max(budget, round(subset * pool.size))
    if count < len(at):
        at = at[torch.randperm(len(at), generator=generator)[:count].sort().values]
    groups = (at, labelled) if exclude_labelled else (at,)
    chosen = largest(pool.need("predicted_losses"), budget, *groups)
    if record is not None:
        record |= {"candidates": len(at), "repeats": int(torch.isin(chosen, labelled).sum())}
    return chosen


def largest(scores: Float[Tensor, " n"], budget: int, *groups: Tensor) -> Int64[Tensor, " k"]:
    """The indices of the largest scores in one group, then in the next; each group is sorted."""
    ranked = [at[scores[at].sort(descending=True, stable=True).indices] for at in groups]
    return torch.cat(ranked)[:budget]
