r"""k-means centres: the image nearest to each of K spherical k-means centres; no label is used.

$$\min_\theta\; \frac1N\sum_i \Big(1 - \max_k \cos(e_i,\theta_k)\Big)$$

What most people do by hand. ``e`` embeddings, ``theta`` unit centres, moved by Lloyd's algorithm on
the sphere (Dhillon and Modha, Machine Learning 2001): each sample goes to its nearest centre, each
centre to the direction of its samples' sum. Samples of kept sets are centres that do not move.
"""

from itertools import count
from typing import Any, Literal

import torch
from jaxtyping import Float, Int64
from torch import Generator, Tensor
from torch.nn.functional import normalize

from vecaf_lib.options import Count, NotNegative
from vecaf_lib.selection import descent
from vecaf_lib.selection.pool import Pool, Record, builds_on

NEEDS = frozenset({"embeddings"})

Start = Literal["random", "k-means++"]


def spread(
    e: Float[Tensor, "n d"], k: int, kept: Float[Tensor, "x d"], *, generator: Generator
) -> Int64[Tensor, " k"]:
    """Rows drawn one by one by squared distance to those before (Arthur and Vassilvitskii, 2007).

    The first is drawn uniformly unless rows are ``kept``, and so are all once no distance is left.
    """
    nearest = descent.nearest(e, kept)[0] if len(kept) else e.new_full((len(e),), -torch.inf)
    first: list[int] = []
    for _ in range(k):
        weight = (1 - nearest).clamp(0, 2)  # half the squared distance; inf, of none, is 2 for all
        weight[first] = 0
        if not bool(weight.any()):
            weight = torch.ones_like(weight).index_fill_(0, torch.tensor(first).long(), 0)
        first.append(int(torch.multinomial(weight, 1, generator=generator)))
        nearest = torch.maximum(nearest, e @ e[first[-1]])
    return torch.tensor(first)


def centres(
    e: Float[Tensor, "n d"],
    k: int,
    *,
    generator: Generator,
    kept: Float[Tensor, "x d"] | None = None,
    record: Record = None,
    start: Start = "random",
    iterations: Count = 100,
    tolerance: NotNegative = 1e-4,
) -> Float[Tensor, "k d"]:
    """K unit centres of unit rows, beside the fixed ones that are ``kept``.

    Args:
        record: receives the ``iterations`` made and the ``objective``.
        start: rows at which the centres start, drawn uniformly or by ``spread``. At N 50,000,
            d 384, K 500 (a clustered pool) spreading takes 3.5 CPU seconds more; the objective is
            0.2144 both ways, and beside 1,000 kept rows, whose places it spares, 0.2122 to 0.2138.
        iterations: at most. A centre that has lost all its rows moves to the row that is farthest
            from its own centre, a second such centre to the next farthest.
        tolerance: stop when an iteration lowers the objective by at most this fraction of it.
    """
    fixed = e[:0] if kept is None else kept
    if start == "random":
        first = descent.start(len(e), k, generator=generator)
    else:
        first = spread(e, k, fixed, generator=generator)
    theta, last = e[first], torch.inf
    for done in count():
        cosine, c = descent.nearest(e, torch.cat([theta, fixed]))  # (n,), (n,)
        value = 1 - float(cosine.double().mean())
        if done == iterations or last - value <= tolerance * value:
            break
        sums = e.new_zeros(k + len(fixed), e.shape[1]).index_add_(0, c, e)[:k]  # (k, d)
        empty = torch.bincount(c, minlength=k)[:k] == 0
        sums[empty] = e[cosine.argsort(stable=True)[: int(empty.sum())]]
        theta, last = normalize(sums, dim=1), value
    if record is not None:
        record |= {"iterations": done, "objective": value}
    return theta


@builds_on(centres, without={"kept"})
def select(
    pool: Pool,
    budget: int,
    *,
    generator: Generator,
    record: Record = None,
    engine: descent.Engine = "exact",
    **options: Any,
) -> Tensor:
    """Choose the sample nearest to each centre, in no order; options: see ``centres``.

    Args:
        record: receives, of the exact engine, the share of ``empty_centroids``, too.
        engine: ``exact``, or ``fast`` for large pools, see ``descent.select_fast``; its start is
            its own.
    """
    pool.check_budget(budget)
    options |= {"generator": generator, "record": record}
    if engine == "fast":
        options = {name: value for name, value in options.items() if name != "start"}
        return descent.select_fast(pool, budget, None, objective="kmeans", **options)
    e = pool.unit()
    theta = centres(e, budget, kept=e[pool.covered()], **options)
    if record is not None:
        record["empty_centroids"] = descent.empty(e, theta)
    return descent.nearest_unused(e, theta, pool.candidates())
