"""Members of an ensemble matched centroid by centroid, at any K; their correction.

Up to ``OPTIMAL`` centroids the matching is the best there is (Hungarian). Above it is greedy: of
the ``NEAR`` nearest pairs of every centroid the closest are joined first, in rounds, until few are
left, and those are matched optimally. The test of this file states what the greedy one loses.
"""

import numpy as np
import torch
from jaxtyping import Float
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn.functional import normalize

from vecaf_lib.centroids.products import BLOCK
from vecaf_lib.selection._ensemble import correct

OPTIMAL = 2048  # centroids
NEAR = 16  # pairs of a centroid in each round


def order(
    member: Float[Tensor, "k d"], reference: Float[Tensor, "k d"], optimal: int = OPTIMAL
) -> np.ndarray:
    """For each row of ``reference`` the row of ``member`` that belongs to it."""
    left, right = np.arange(len(reference)), np.arange(len(member))
    found = np.zeros(len(reference), dtype=np.int64)
    while len(left) > optimal:
        a, b, value = _pairs(reference[left], member[right])
        free_a, free_b = np.ones(len(left), bool), np.ones(len(right), bool)
        for at in np.argsort(-value, kind="stable"):
            if free_a[a[at]] and free_b[b[at]]:
                found[left[a[at]]] = right[b[at]]
                free_a[a[at]] = free_b[b[at]] = False
        left, right = left[free_a], right[free_b]
    if len(left):
        cosine = (reference[left] @ member[right].T).cpu().numpy()
        rows, columns = linear_sum_assignment(cosine, maximize=True)
        found[left[rows]] = right[columns]
    return found


def _pairs(
    reference: Float[Tensor, "k d"], member: Float[Tensor, "k d"]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The nearest pairs of every row: positions in both, and cosines."""
    near = min(NEAR, len(member))
    values, columns = [], []
    for block in reference.split(BLOCK):
        top = (block @ member.T).topk(near, dim=1)
        values.append(top.values)
        columns.append(top.indices)
    a = np.repeat(np.arange(len(reference)), near)
    return a, torch.cat(columns).flatten().cpu().numpy(), torch.cat(values).flatten().cpu().numpy()


def combine(members: list[Float[Tensor, "k d"]], rho: float) -> Float[Tensor, "k d"]:
    """Match the members to the first and correct it; unit length."""
    first = members[0]
    if len(members) == 1:
        return first
    matched = [first, *(m[torch.from_numpy(order(m, first)).to(m.device)] for m in members[1:])]
    parts = [
        correct(torch.stack([m[at : at + BLOCK] for m in matched]), rho)
        for at in range(0, len(first), BLOCK)
    ]
    return normalize(torch.cat(parts), dim=1)
