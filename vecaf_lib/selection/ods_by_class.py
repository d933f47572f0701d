r"""ODS class by class. **Ours, not the paper's**: the variant ``vecaf_by_class`` of our evidence.

$$K_c \;\propto\; \Big(\sum_{i \in c} L_i^{\gamma}\Big)^{a}, \qquad
  S = \bigcup_c \mathrm{ODS}(c;\, K_c)$$

Each class c gets a part of the budget by its share of equation 3's distribution, and equation 7
chooses K_c samples inside it: ODS itself can leave out whole classes.
``L`` losses, gamma ``loss_power``, a ``class_power``: 1 divides as p_L does, 0 equally.
"""

from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Generator, Tensor

from vecaf_lib.options import Count, NotNegative
from vecaf_lib.selection import ods
from vecaf_lib.selection.pool import Pool, Record, builds_on

NEEDS = frozenset({"embeddings", "losses", "all_labels"})


def class_budgets(
    weight: Float[Tensor, " c"], budget: int, sizes: Int64[Tensor, " c"]
) -> Int64[Tensor, " c"]:
    """K_c near to the shares of ``weight`` (Sainte-Laguë), 1 at least where the budget reaches."""
    counts = (sizes > 0).long() if budget >= int((sizes > 0).sum()) else torch.zeros_like(sizes)
    weight = weight.double() + 1e-12 * weight.double().sum().clamp_min(1.0)  # where all are 0
    for _ in range(budget - int(counts.sum())):
        quotients = torch.where(counts < sizes, weight / (2 * counts + 1), -1.0)
        counts[quotients.argmax()] += 1
    return counts


def classes(
    pool: Pool, budget: int, weight: Float[Tensor, " c"]
) -> Iterator[tuple[int, Int64[Tensor, " m"], Pool, int]]:
    """Each class c with a part of the budget: its number, its samples, their pool and K_c."""
    labels, free = pool.need("all_labels"), pool.free()
    counts = class_budgets(weight, budget, torch.bincount(labels[free], minlength=len(weight)))
    known = {name: getattr(pool, name) for name in ("embeddings", "losses")}
    for c in counts.nonzero().squeeze(1).tolist():
        inside = (labels == c).nonzero().squeeze(1)
        own = {name: values[inside] for name, values in known.items() if values is not None}
        kept = (~free[inside]).nonzero().squeeze(1)
        yield c, inside, Pool(len(inside), excluded=kept, **own), int(counts[c])


@builds_on(ods.select, without={"engine"})
def select(
    pool: Pool,
    budget: int,
    *,
    generator: Generator,
    record: Record = None,
    class_power: NotNegative = 1.0,
    loss_power: NotNegative = 1.0,
    ensemble: Count = 1,
    **options: Any,
) -> Tensor:
    """Choose K_c samples of each class c by ODS.

    ``record`` receives the mean over all classes of what ``ods`` says of its centroids. An
    ``ensemble`` of one, since averages of few centroids lie inside.
    """
    pool.check_budget(budget)
    losses = pool.need("losses").double()
    mass = torch.bincount(pool.need("all_labels"), losses**loss_power)  # (c,)
    options |= {"loss_power": loss_power, "ensemble": ensemble}
    chosen = []
    shares = {"empty_centroids": 0.0, "start_kept": 0.0}
    for _, inside, part, k in classes(pool, budget, mass**class_power):
        own: dict[str, Any] = {}
        chosen.append(inside[ods.select(part, k, generator=generator, record=own, **options)])
        shares = {name: value + own[name] * k / budget for name, value in shares.items()}
    if record is not None:
        record |= shares
    return torch.cat(chosen)
