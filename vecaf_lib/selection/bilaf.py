r"""BiLAF (Lu et al., NeurIPS 2024): a few cores by ActiveFT, then samples between the cores.

$$\text{score}_i = \frac{1.1^{n}\, d^{\text{out}}_i - d^{\text{in}}_i}
  {\max(d^{\text{out}}_i, d^{\text{in}}_i)}$$

``d_in`` the mean distance to the samples of i's cluster (those nearest to one core), ``d_out`` the
distance to the nearest core of another cluster, n how many samples chosen in i's cluster face that
core already. Each cluster loses its outermost tenth; then the lowest score is chosen, again and
again. Of a cluster of m samples with a budget of b, the m / b that are nearest to each chosen one,
the core among them, are set aside. Embeddings have unit length. No label is used.

Ours: clusters share the budget as in ``ods_by_class``; what was set aside, then the outermost
tenth, returns where a cluster has nothing else left; kept samples count as chosen before.
"""

from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Generator, Tensor

from vecaf_lib.options import Share
from vecaf_lib.selection import activeft, descent
from vecaf_lib.selection.ods_by_class import class_budgets
from vecaf_lib.selection.pool import Pool, Record, builds_on

NEEDS = frozenset({"embeddings"})

PENALTY = 1.1
OUTERMOST = 0.1  # share of a cluster that is dropped
GROWTH = 0.1  # share of a cluster that joins its dense part at a time
NEIGHBOURS = 10  # whose mean distance says who joins next


def distances(a: Float[Tensor, "m d"], b: Float[Tensor, "n d"]) -> Float[Tensor, "m n"]:
    """Between unit vectors, 0 to 2."""
    return (a @ b.T).mul_(-2).add_(2).clamp_min_(0).sqrt_()


def dense_part(
    x: Float[Tensor, "m d"], core: int, as_released: bool = False
) -> Int64[Tensor, " i"]:
    """Rows of a cluster without the outermost tenth, in the order in which it grows from its core.

    First those nearest to the core, then, a tenth at a time, those of least mean distance to their
    10 nearest rows inside. ``as_released`` takes the places of these 10 in the growing part for
    places in the cluster, as the authors' code does.
    """
    step, size = max(1, int(GROWTH * len(x))), len(x) - int(OUTERMOST * len(x))
    from_core = distances(x[core : core + 1], x)[0]
    from_core[core] = -1.0  # before its equals
    order = from_core.argsort(stable=True)
    part, outside = order[:step], order[step:].sort().values
    while len(part) < size:
        mean, near = [], min(NEIGHBOURS, len(part))
        for rows in x[outside].split(descent.CHUNK):
            gaps, places = distances(rows, x[part]).topk(near, dim=1, largest=False)
            if as_released:
                gaps = distances(rows, x[: len(part)]).gather(1, places)
            mean.append(gaps.mean(1))
        order = torch.cat(mean).argsort(stable=True)
        part = torch.cat([part, outside[order[:step]]])
        outside = outside[order[step:].sort().values]
    return part[:size]


def boundary(
    x: Float[Tensor, "m d"],
    cores: Float[Tensor, "k d"],
    own: int,
    part: Int64[Tensor, " i"],
    free: Bool[Tensor, " m"],
    before: list[int],
    count: int,
) -> list[int]:
    """``count`` rows of cluster ``own`` by their score, of those that are ``free``.

    ``before`` are its core and, after it, its kept rows; ``part`` its ``dense_part``.
    """
    others = distances(x, cores)  # (m, k)
    others[:, own] = 2.0  # farther than any
    outer, faces = others.min(1)
    inner = torch.cat([distances(rows, x[part]).mean(1) for rows in x.split(descent.CHUNK)])
    dense = torch.zeros(len(x), dtype=torch.bool).index_fill_(0, part, True)
    near, free = dense.clone(), free.clone()
    aside = max(1, len(part) // (len(before) + count))
    largest = torch.maximum(outer, inner).clamp_min(1e-12)
    met, chosen = x.new_zeros(len(cores)), list(before)
    for turn in range(len(before) + count):
        if turn == len(chosen):
            allowed = next(rows for rows in (near & free, dense & free, free) if bool(rows.any()))
            score = (PENALTY ** met[faces] * outer - inner) / largest
            chosen.append(int(score.masked_fill(~allowed, torch.inf).argmin()))
        i, rows = chosen[turn], near.nonzero().squeeze(1)
        near[rows[(x[rows] @ x[i]).argsort(descending=True, stable=True)[:aside]]] = False
        near[i] = free[i] = False
        met[faces[i]] += turn > 0  # the core faces none
    return chosen[len(before) :]


@builds_on(activeft.select)
def select(
    pool: Pool,
    budget: int,
    *,
    generator: Generator,
    record: Record = None,
    core_share: Share = 0.25,
    as_released: bool = False,
    **options: Any,
) -> Tensor:
    """Choose the cores, then cluster by cluster the samples between them.

    Args:
        record: receives what ``activeft`` says of the cores.
        core_share: of the budget; 2 cores at least. The authors took 250 of 1,000 for CIFAR-100,
            50 of 250 to 2,500 for CIFAR-10, 6,405 of 12,811 to 64,058 for ImageNet.
        as_released: with the wrong index of the authors' code, see ``dense_part``.
    """
    pool.check_budget(budget)
    few = min(budget, max(2, round(core_share * budget)))
    core = activeft.select(pool, few, generator=generator, record=record, **options)
    e = pool.unit()
    _, c = descent.nearest(e, e[core])
    c[core] = torch.arange(few)  # of equal samples, too, each core has its own cluster
    free = pool.free()
    inside = [(c == k).nonzero().squeeze(1) for k in range(few)]
    place = [int((rows == i).nonzero()) for rows, i in zip(inside, core, strict=True)]
    parts = [dense_part(e[rows], i, as_released) for rows, i in zip(inside, place, strict=True)]
    sizes = torch.tensor([float(len(part)) for part in parts])
    counts = class_budgets(sizes, budget, torch.bincount(c[free], minlength=few))
    chosen = [core]
    for k, rows in enumerate(inside):
        before = [place[k], *(~free[rows]).nonzero().squeeze(1).tolist()]
        more = int(counts[k]) - 1
        picked = boundary(e[rows], e[core], k, parts[k], free[rows], before, more)
        chosen.append(rows[torch.tensor(picked, dtype=torch.int64)])
    return torch.cat(chosen)
