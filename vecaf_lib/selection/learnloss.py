"""LearnLoss (Yoo and Kweon, CVPR 2019): label the samples of largest predicted loss.

A loss predictor is trained beside the model on the samples chosen so far (``LossPredictor``, margin
ranking) and then asked about all others, of which no label is known. Before the first loop nothing
is trained, and the first set is random, as theirs is.
"""

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from vecaf_lib.loss_prediction import LossPredictor
from vecaf_lib.selection import random
from vecaf_lib.selection._pool import Pool, check_budget
from vecaf_lib.selection._types import Record, Share

NEEDS = frozenset({"predicted_losses", "labelled"})
COLD_START = True
COMPANION = LossPredictor


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

    With ``subset`` 1 only the first set depends on the generator.

    Args:
        pool: with ``labelled`` and, unless that is empty, ``predicted_losses``.
        budget: K.
        generator: draws the first set, and the subset.
        record: receives ``candidates`` and ``repeats``, the chosen samples that had been chosen
            before; nothing of a first set.
        subset: share of the pool, in (0, 1], among which it looks: so many candidates are drawn at
            random, never fewer than K, and fewer of the chosen are near duplicates. Theirs is 0.2
            (10,000 of CIFAR-10's 50,000); 1 looks at all.
        exclude_labelled: choose samples that are not labelled yet, as active learning does. The
            paper's loops each choose afresh from the whole pool; False does that.

    Raises:
        BadInput: samples are labelled, but nothing predicts losses.
    """
    check_budget(pool, budget)
    labelled = pool.need("labelled")
    if not len(labelled):
        return random.select(pool, budget, generator=generator)
    losses = pool.need("predicted_losses")
    old = labelled if exclude_labelled else labelled[:0]
    new = unlabelled(pool.size, old)
    wanted = max(budget, round(subset * pool.size))
    if wanted < len(new):
        new = new[torch.randperm(len(new), generator=generator)[:wanted].sort().values]
    chosen = largest(losses, new, old, budget)
    if record is not None:
        repeats = int(torch.isin(chosen, labelled).sum())
        record |= {"candidates": len(new), "repeats": repeats}
    return chosen


def unlabelled(size: int, labelled: Int64[Tensor, " k"]) -> Int64[Tensor, " u"]:
    """The indices below ``size`` that are not in ``labelled``, sorted."""
    new = torch.ones(size, dtype=torch.bool)
    new[labelled] = False
    return new.nonzero().squeeze(1)


def largest(
    scores: Float[Tensor, " n"],
    first: Int64[Tensor, " u"],
    then: Int64[Tensor, " k"],
    budget: int,
) -> Int64[Tensor, " budget"]:
    """The ``budget`` largest scores among ``first``; if those are too few, also among ``then``.

    Args:
        scores: of the whole pool.
        first: candidates, sorted; all of them are taken before any of ``then``.
        then: other candidates, sorted.
        budget: at most as many as there are candidates.
    """
    ranked = [at[scores[at].sort(descending=True, stable=True).indices] for at in (first, then)]
    return torch.cat(ranked)[:budget]
