"""Random, stratified by class: the share of each class in the set is its share of the pool.

Proportional allocation (Neyman, 1934), and samples of each class drawn without replacement. Not in
the paper; it tells how much of a method's gain is the balance of classes. It looks at all labels.
"""

from collections.abc import Callable

import torch
from torch import Generator, Tensor

from vecaf_lib.selection import random
from vecaf_lib.selection.ods_by_class import classes
from vecaf_lib.selection.pool import Pool, Record

NEEDS = frozenset({"all_labels"})


def select(pool: Pool, budget: int, *, generator: Generator, record: Record = None) -> Tensor:
    """Choose ``budget`` samples, each class by its size; ``by_class`` has the order."""
    return by_class(pool, budget, 1.0, lambda part, k: random.select(part, k, generator=generator))


def by_class(
    pool: Pool, budget: int, power: float, choose: Callable[[Pool, int], Tensor]
) -> Tensor:
    """The samples that ``choose`` takes of each class, given its part of the pool and its quota.

    Quotas are near to n_c ** ``power``, n_c the size of class c, see ``class_budgets``. The order
    is that in which these quotas grow with the budget: a prefix with a sample of each class has
    the quotas of its own length.
    """
    pool.check_budget(budget)
    weight = torch.bincount(pool.need("all_labels")).double() ** power  # (c,)
    chosen, turns = [], []
    for c, inside, part, k in classes(pool, budget, weight):
        chosen.append(inside[choose(part, k)])
        turns.append(weight[c] / (2 * torch.arange(k) + 1))
        turns[-1][0] = torch.inf
    return torch.cat(chosen)[torch.cat(turns).sort(descending=True, stable=True).indices]
