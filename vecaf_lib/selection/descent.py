r"""K centroids moved by Adam on the unit sphere, then K samples: what ODS and ActiveFT share.

A method brings an objective: unit centroids to its value and written-out gradient. A sample pulls
one centroid only, its nearest: a sum per centroid (a scatter), the N x K matrix is never kept.
"""

import math
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Generator, Tensor
from torch.nn.functional import normalize

from vecaf_lib.errors import BadInput
from vecaf_lib.large_pool.products import inner
from vecaf_lib.options import Count, NotNegative, Positive
from vecaf_lib.selection.pool import Pool, Record

CHUNK = 4096  # rows of the pool compared with all centroids at a time

Objective = Callable[[Tensor], tuple[float, Tensor]]
Engine = Literal["exact", "fast"]  # this file, or ``vecaf_lib.large_pool``


def nearest(
    e: Float[Tensor, "n d"], theta: Float[Tensor, "k d"]
) -> tuple[Float[Tensor, " n"], Int64[Tensor, " n"]]:
    """Cosine to, and index of, the nearest centroid of each sample (both sides unit length)."""
    parts = [inner(rows, theta).max(1) for rows in e.split(CHUNK)]  # each (chunk, k) -> (chunk,)
    return torch.cat([p.values for p in parts]), torch.cat([p.indices for p in parts])


def start(size: int, budget: int, *, generator: Generator) -> Int64[Tensor, " k"]:
    """Indices of K distinct samples, whose embeddings are the initial centroids, as in ActiveFT."""
    return torch.randperm(size, generator=generator)[:budget]


def optimise(
    theta: Float[Tensor, "k d"],
    objective: Objective,
    *,
    record: Record = None,
    iterations: Count = 300,
    learning_rate: Positive = 1e-3,
    tolerance: NotNegative = 0.0,
) -> Float[Tensor, "k d"]:
    """Minimise ``objective`` from unit centroids by full-batch Adam; all defaults are ActiveFT's.

    Args:
        tolerance: "until convergence" made exact: stop when ten steps lower the objective by less
            than this fraction of it; 0 never stops early.
        record: receives ``iterations``, the steps made, and ``objective``, its last value.
    """
    theta = theta.clone()
    adam = torch.optim.Adam([theta], lr=learning_rate)
    values: list[float] = []
    for _ in range(iterations):
        value, gradient = objective(theta)
        if not math.isfinite(value):
            raise BadInput(f"select: the objective is {value}; use a larger tau.")
        values.append(value)
        if tolerance and len(values) > 10 and values[-11] - value < tolerance * abs(value):
            break
        # the part that a unit vector can follow
        theta.grad = gradient - (gradient * theta).sum(1, keepdim=True) * theta
        adam.step()
        theta.copy_(normalize(theta, dim=1))
    if record is not None:
        record |= {"iterations": len(values), "objective": values[-1]}
    return theta


def nearest_unused(
    e: Float[Tensor, "n d"], theta: Float[Tensor, "k d"], candidates: Tensor | None = None
) -> Int64[Tensor, " k"]:
    """Each centroid in turn takes its nearest unused candidate (None: all), the first of equals."""
    chosen: list[int] = []
    free = np.isin(np.arange(len(e)), np.arange(len(e)) if candidates is None else candidates)
    for rows in theta.split(256):
        for cosines in (rows @ e.T).numpy():  # (n,)
            cosines[~free] = -np.inf
            chosen.append(int(cosines.argmax()))  # of equals, the lowest
            free[chosen[-1]] = False
    return torch.tensor(chosen)


def share(part: Int64[Tensor, " k"], whole: Int64[Tensor, " l"]) -> float:
    """The share of ``part`` that is in ``whole``, 0 to 1."""
    return float(torch.isin(part, whole).double().mean())


def empty(e: Float[Tensor, "n d"], theta: Float[Tensor, "k d"]) -> float:
    """The share of centroids that are nobody's nearest, 0 to 1."""
    return 1 - len(nearest(e, theta)[1].unique()) / len(theta)


def describe(
    record: Record,
    e: Float[Tensor, "n d"],
    theta: Float[Tensor, "k d"],
    first: Int64[Tensor, " k"],
    chosen: Int64[Tensor, " k"],
) -> None:
    """Record ``empty_centroids``, and of the ``first`` samples the share ``start_kept``."""
    if record is not None:
        record |= {"empty_centroids": empty(e, theta), "start_kept": share(first, chosen)}


def select_fast(
    pool: Pool,
    budget: int,
    losses: Tensor | None,
    *,
    record: Record,
    learning_rate: float | None = None,
    **options: Any,
) -> Int64[Tensor, " k"]:
    """The same by ``vecaf_lib.large_pool``, for pools of millions.

    Its ``iterations`` S go the way of 300 steps of Adam by 1e-3, in steps by 0.3 / S:
    ``learning_rate`` does not apply. The product is float32, so that the choice does not depend on
    the processor.
    """
    from vecaf_lib.large_pool import select

    diagnostics: dict[str, Any] = {}
    options = {"product": "float32", "excluded": pool.covered()} | options
    chosen = select(pool.need("embeddings"), budget, losses, record=diagnostics, **options)
    if record is not None:
        record |= {name: diagnostics[name] for name in ("iterations", "objective")}
    return torch.from_numpy(chosen)
