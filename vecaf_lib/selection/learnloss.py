"""LearnLoss (Yoo and Kweon, CVPR 2019): choose the samples of largest predicted loss.

A loss predictor is trained beside the model on the samples chosen so far (margin ranking) and then
predicts for all others, of which no label is used.
"""

import torch
from jaxtyping import Int64
from torch import Generator, Tensor

from vecaf_lib.options import Share
from vecaf_lib.selection import random
from vecaf_lib.selection.pool import Pool, Record
from vecaf_lib.selection.topk_loss import largest
from vecaf_lib.training import LossPredictor

NEEDS = frozenset({"predicted_losses", "labelled"})
COLD_START = True
LOSS_PREDICTOR = LossPredictor


def select(
    pool: Pool, budget: int, *, generator: Generator, record: Record = None, subset: Share = 0.2
) -> Tensor:
    """Choose the largest predicted losses of ``candidates``, then labelled ones; ties in order."""
    pool.check_budget(budget)
    labelled = pool.need("labelled")
    if not len(labelled):
        return random.select(pool, budget, generator=generator)
    at = candidates(pool, budget, subset, generator=generator)
    return largest(pool.need("predicted_losses"), budget, at, labelled)


def candidates(
    pool: Pool, budget: int, subset: float, *, generator: Generator
) -> Int64[Tensor, " m"]:
    """A random ``subset`` (share of the pool) of unlabelled samples, at least K of them; sorted.

    The highest scores of a whole pool are near duplicates; a random subset spreads them. Yoo and
    Kweon, and TA-VAAL's code, draw 10,000 of CIFAR-10's 50,000, a share of 0.2.
    """
    at = pool.unlabelled()
    count = max(budget, round(subset * pool.size))
    return at[torch.randperm(len(at), generator=generator)[:count].sort().values]
