r"""ODS that begins with what is easy. **Ours, not the paper's**: our variant ``vecaf_self_paced``.

$$p_i = \frac{e^{-\gamma L_i}}{\sum_j e^{-\gamma L_j}} \quad\text{in place of equation 3's}\quad
  p_i = \frac{L_i}{\sum_j L_j}$$

All else is equation 7. For the cross-entropy, e^{-L} is the probability that the model gives the
label: images that it understands pull the centroids, and those with a doubtful label, which have
the largest losses, do not. Each loop brings new images, the easiest of those that are left, so the
sets grow harder. That is self-paced learning (Kumar, Packer and Koller, NeurIPS 2010), and what
small budgets ask for (Hacohen, Dekel and Weinshall, ICML 2022): typical images first.
``L`` losses, gamma ``pace``; 0 gives all images the same weight.
"""

import torch
from torch import Tensor

from vecaf_lib.selection import ods
from vecaf_lib.selection._pool import Pool, among_unlabelled, check_budget
from vecaf_lib.selection._types import Count, NotNegative, Positive, Record, Share

NEEDS = frozenset({"embeddings", "losses", "labelled"})


def select(
    pool: Pool,
    budget: int,
    *,
    generator: torch.Generator,
    record: Record = None,
    pace: NotNegative = 3.0,
    tau: Positive = 0.07,
    lambda_: NotNegative = 1.0,
    iterations: Count = 300,
    learning_rate: Positive = 1e-3,
    reassign_every: Count = 1,
    tolerance: NotNegative = 1e-4,
    ensemble: Count = 5,
    shrinkage: Share = 1.0,
) -> Tensor:
    """Choose by ODS among the samples that no earlier loop has chosen, the easy ones first.

    Args:
        pool: with ``embeddings``, ``losses`` and ``labelled``.
        budget: K.
        generator: draws the first centroids, and samples chosen before where too few are left.
        record: receives what ``ods`` tells of itself.
        pace: gamma, see above.
        tau, lambda_, iterations, learning_rate, reassign_every, tolerance: see ``ods``.
        ensemble, shrinkage: see ``ods``.
    """
    check_budget(pool, budget)
    e, losses = pool.need("embeddings"), pool.need("losses").double()
    left = among_unlabelled(pool, budget, generator=generator)  # (m,)
    easy = (-pace * (losses[left] - losses[left].min())).exp()  # (m,), the easiest has 1
    found = ods.select(
        Pool(len(left), embeddings=e[left], losses=easy),
        budget,
        generator=generator,
        record=record,
        tau=tau,
        lambda_=lambda_,
        loss_power=1.0,
        iterations=iterations,
        learning_rate=learning_rate,
        reassign_every=reassign_every,
        tolerance=tolerance,
        ensemble=ensemble,
        shrinkage=shrinkage,
    )
    return left[found]
