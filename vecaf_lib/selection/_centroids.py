"""The engine that ODS and ActiveFT share: K centroids moved by Adam on the unit sphere.

A method brings an objective, which returns its value and its gradient with respect to the unit
centroids. Gradients are written out: a sample pulls one centroid only, its nearest, so the pull
is a sum per centroid (a scatter) and the N x K matrix is never kept.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn.functional import normalize

from vecaf_lib.errors import BadInput

CHUNK = 4096  # rows of the pool compared with all centroids at a time

Objective = Callable[[Tensor], tuple[float, Tensor]]


def nearest(
    e: Float[Tensor, "n d"], theta: Float[Tensor, "k d"]
) -> tuple[Float[Tensor, " n"], Int64[Tensor, " n"]]:
    """Cosine to, and index of, the nearest centroid of each sample (both sides unit length)."""
    parts = [(rows @ theta.T).max(1) for rows in e.split(CHUNK)]  # each (chunk, k) -> (chunk,)
    return torch.cat([p.values for p in parts]), torch.cat([p.indices for p in parts])


class Assignment:
    """Nearest centroids, looked up at every ``every``-th call and kept in between.

    Between two lookups a sample goes on pulling the centroid that was nearest. With ``every`` = 1
    the assignment is exact in each step; the N x K comparison is nearly all that a step costs.
    """

    def __init__(self, e: Float[Tensor, "n d"], every: int = 1) -> None:
        self.e, self.every, self.calls = e, every, 0
        self.c = torch.empty(0, dtype=torch.int64)

    def __call__(
        self, theta: Float[Tensor, "k d"]
    ) -> tuple[Float[Tensor, " n"], Int64[Tensor, " n"]]:
        """Cosine to, and index of, each sample's centroid."""
        self.calls += 1
        if (self.calls - 1) % self.every == 0:
            cosine, self.c = nearest(self.e, theta)
            return cosine, self.c
        parts = [  # row by row products, without the other K - 1 centroids
            torch.einsum("nd,nd->n", rows, theta[c])
            for rows, c in zip(self.e.split(CHUNK), self.c.split(CHUNK), strict=True)
        ]
        return torch.cat(parts), self.c


def start(
    e: Float[Tensor, "n d"], budget: int, *, generator: torch.Generator
) -> Float[Tensor, "k d"]:
    """K distinct samples of the pool as first centroids (ActiveFT's initialisation)."""
    return e[torch.randperm(len(e), generator=generator)[:budget]].clone()


def optimise(
    theta: Float[Tensor, "k d"],
    objective: Objective,
    *,
    iterations: int,
    learning_rate: float,
    tolerance: float,
    record: dict[str, Any] | None = None,
) -> Float[Tensor, "k d"]:
    """Minimise ``objective`` over unit centroids by full-batch Adam.

    Args:
        theta: first centroids, unit length, K x d.
        objective: unit centroids -> (value, gradient K x d).
        iterations: Adam steps at most.
        learning_rate: Adam's (section 4.1 and ActiveFT: 1e-3).
        tolerance: stop when ten steps lower the objective by less than this fraction of it; 0
            never stops early.
        record: receives ``iterations`` and ``objective`` (the last value).

    Returns:
        The optimised centroids, unit length.
    """
    theta = theta.clone()
    adam = torch.optim.Adam([theta], lr=learning_rate)
    values: list[float] = []
    for _ in range(iterations):
        value, gradient = objective(theta)
        if not math.isfinite(value):
            raise BadInput(
                f"select: the objective is {value}; use a larger tau or float32 embeddings."
            )
        values.append(value)
        if tolerance and len(values) > 10 and values[-11] - value < tolerance * abs(value):
            break
        radial = (gradient * theta).sum(1, keepdim=True)  # (k, 1)
        theta.grad = gradient - radial * theta  # the part that a unit vector can follow
        adam.step()
        theta.copy_(normalize(theta, dim=1))
    if record is not None:
        record |= {"iterations": len(values), "objective": values[-1]}
    return theta
