r"""CoreSet (Sener and Savarese, ICLR 2018), its k-centre greedy algorithm; no label is used.

$$s_{t+1} = \arg\max_i\; \min_{s \in S_t}\, |e_i - e_s|$$

``e`` embeddings, here of unit length as in every method of this folder; S begins with the kept
sets, or with a sample drawn at random. The largest distance left is at most twice the optimum.
"""

import torch
from torch import Generator, Tensor

from vecaf_lib.large_pool.products import alone
from vecaf_lib.selection import descent
from vecaf_lib.selection.pool import Pool, Record

NEEDS = frozenset({"embeddings"})


def select(pool: Pool, budget: int, *, generator: Generator, record: Record = None) -> Tensor:
    """Choose the farthest sample, again and again: the first k are the choice of budget k."""
    pool.check_budget(budget)
    e, kept, taken = pool.unit(), pool.covered(), ~pool.free()
    if len(kept):
        nearest = descent.nearest(e, e[kept])[0]  # (n,), the largest cosine
    else:
        nearest = torch.full_like(e[:, 0], -2.0)  # below any cosine
        nearest[torch.randint(pool.size, (), generator=generator)] = -3.0  # the start
    chosen: list[int] = []
    with alone():  # reading the embeddings takes the time
        for _ in range(budget):
            chosen.append(int(nearest.masked_fill(taken, torch.inf).argmin()))
            taken[chosen[-1]] = True
            nearest = torch.maximum(nearest, e @ e[chosen[-1]])
    return torch.tensor(chosen)
