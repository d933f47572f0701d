r"""ODS class by class. **Ours, not the paper's**: the variant ``vecaf_by_class`` of our evidence.

$$K_c \;\propto\; \Big(\sum_{i \in c} L_i^{\gamma}\Big)^{a}, \qquad
  S = \bigcup_c \mathrm{ODS}(c;\, K_c)$$

The budget is dealt to the classes c by their share of the objective-aware distribution (equation
3), and equation 7 chooses K_c samples inside each. ODS is told all labels by way of the losses; it
makes no use of them where K centroids follow the density of the pool and leave out whole classes.
``L`` losses, gamma ``loss_power``, a ``class_power``: 1 deals as p_L does, 0 the same to all.
"""

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from vecaf_lib.selection import ods
from vecaf_lib.selection._pool import Pool, among_unlabelled, check_budget
from vecaf_lib.selection._types import Count, NotNegative, Positive, Record, Share

NEEDS = frozenset({"embeddings", "losses", "all_labels", "labelled"})


def deal(
    weight: Float[Tensor, " c"], budget: int, most: Int64[Tensor, " c"]
) -> Int64[Tensor, " c"]:
    """Whole numbers as near to the shares of ``weight`` as Sainte-Laguë's method deals them.

    Each class that has samples gets one first, if the budget reaches; ties go to the first class.

    Args:
        weight: of each class, 0 or larger.
        budget: their sum, at most that of ``most``.
        most: samples that a class has.
    """
    given = (most > 0).long() if budget >= int((most > 0).sum()) else torch.zeros_like(most)
    weight = weight.double() + 1e-12 * weight.double().sum().clamp_min(1.0)  # for want of others
    for _ in range(budget - int(given.sum())):
        bids = torch.where(given < most, weight / (2 * given + 1), -1.0)
        given[bids.argmax()] += 1
    return given


def select(
    pool: Pool,
    budget: int,
    *,
    generator: torch.Generator,
    record: Record = None,
    class_power: NotNegative = 1.0,
    repeat: bool = False,
    tau: Positive = 0.07,
    lambda_: NotNegative = 1.0,
    loss_power: NotNegative = 1.0,
    iterations: Count = 300,
    learning_rate: Positive = 1e-3,
    reassign_every: Count = 1,
    tolerance: NotNegative = 1e-4,
    ensemble: Count = 1,
    shrinkage: Share = 1.0,
) -> Tensor:
    """Choose K_c samples of each class c by ODS.

    Args:
        pool: with ``embeddings``, ``losses``, ``all_labels`` and ``labelled``.
        budget: K.
        generator: draws the first centroids.
        record: receives ``classes``, how many got a sample, and ``repeated``, how many samples an
            earlier loop had chosen.
        class_power: a, see above.
        repeat: whether samples of earlier loops may be chosen again.
        tau, lambda_, loss_power, iterations, learning_rate, reassign_every, tolerance: see ``ods``.
        ensemble, shrinkage: see ``ods``; one member, since averages of few centroids lie inside.
    """
    check_budget(pool, budget)
    e, losses, labels = (pool.need(name) for name in ("embeddings", "losses", "all_labels"))
    known = pool.need("labelled")
    at = torch.arange(pool.size) if repeat else among_unlabelled(pool, budget, generator=generator)
    own = labels[at]  # (m,)
    sizes = torch.bincount(own)  # (c,)
    mass = torch.zeros(len(sizes), dtype=torch.float64)
    mass.index_add_(0, own, losses[at].double() ** loss_power)
    counts = deal(mass**class_power, budget, sizes)
    chosen = []
    for c in counts.nonzero().squeeze(1).tolist():
        here = at[own == c]
        found = ods.select(
            Pool(len(here), embeddings=e[here], losses=losses[here]),
            int(counts[c]),
            generator=generator,
            tau=tau,
            lambda_=lambda_,
            loss_power=loss_power,
            iterations=iterations,
            learning_rate=learning_rate,
            reassign_every=reassign_every,
            tolerance=tolerance,
            ensemble=ensemble,
            shrinkage=shrinkage,
        )
        chosen.append(here[found])
    if record is not None:
        repeated = int(torch.isin(torch.cat(chosen), known).sum())
        record |= {"classes": len(chosen), "repeated": repeated}
    return torch.cat(chosen)
