r"""k-means centres: the image nearest to each of K spherical k-means centres; no label is used.

$$\min_\theta\; \frac1N\sum_i \Big(1 - \max_k \cos(e_i,\theta_k)\Big)$$

What most people do by hand. ``e`` embeddings, ``theta`` unit centres, moved by Lloyd's algorithm on
the sphere (Dhillon and Modha, Machine Learning 2001): each sample goes to its nearest centre, each
centre to the direction of its samples' sum. Samples of kept sets are centres that do not move.
``vecaf_lib.large_pool`` does it, in float32.
"""

from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Generator, Tensor

from vecaf_lib import large_pool
from vecaf_lib.options import Count, NotNegative
from vecaf_lib.selection import descent
from vecaf_lib.selection.pool import Pool, Record

NEEDS = frozenset({"embeddings"})


def select(
    pool: Pool,
    budget: int,
    *,
    generator: Generator,
    record: Record = None,
    iterations: Count = 100,
    tolerance: NotNegative = 1e-4,
) -> Tensor:
    """Choose the sample nearest to each centre, in no order.

    Args:
        record: receives the ``iterations`` made and the ``objective``.
        iterations: over the whole pool, at most.
        tolerance: stop when an iteration lowers the objective by less than this fraction of it.
    """
    pool.check_budget(budget)
    options: dict[str, Any] = {"iterations": iterations, "tolerance": tolerance, "record": record}
    options |= {"objective": "kmeans", "labelled": pool.covered(), "generator": generator}
    return descent.select_fast(pool, budget, None, **options)


def clusters(e: Float[Tensor, "n d"], k: int, *, generator: Generator) -> Int64[Tensor, " n"]:
    """The cluster, 0 to k - 1, of each unit row: the number of its nearest centre."""
    found: dict[str, Any] = {}
    options: Any = {"objective": "kmeans", "iterations": 100, "tolerance": 1e-4}
    options |= {"product": "float32", "generator": generator, "record": found}
    large_pool.select(e, k, **options)
    return descent.nearest(e, torch.from_numpy(found["centroids"]).to(e))[1]
