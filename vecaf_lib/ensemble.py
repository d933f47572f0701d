r"""The ensemble of data selection models and its covariance correction (after equation 7).

$$\theta^* = \theta_1 - \Sigma^{-1}(\theta_1 - \mu)$$

Printed, this leaves three things open. (1) Centroid j of one member is not centroid j of another:
members are matched to member 1 before. (2) Sigma over E = 5 members in d dimensions is singular:
it is shrunk, Sigma = rho I + (1 - rho) S, with S the sample covariance of a matched centroid.
(3) The formula depends on the scale of theta: centroids are unit vectors. rho = 1 gives mu.
"""

import numpy as np
import torch
from jaxtyping import Float
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn.functional import normalize

NEAR = 16  # pairs of a centroid in each round of the greedy matching
BLOCK = 1024  # centroids at a time


def match(
    member: Float[Tensor, "k d"], reference: Float[Tensor, "k d"], optimal: int | None = None
) -> Float[Tensor, "k d"]:
    """Reorder ``member`` so that the summed cosine to ``reference``, row by row, is largest.

    Up to ``optimal`` unit centroids (None: any number) the matching is the best there is
    (Hungarian). Beyond, the closest of the ``NEAR`` nearest pairs of each are joined in rounds.
    """
    left, right = np.arange(len(reference)), np.arange(len(member))
    order = np.zeros(len(reference), dtype=np.int64)
    while optimal is not None and len(left) > optimal:
        near = min(NEAR, len(right))
        tops = [(rows @ member[right].T).topk(near, dim=1) for rows in reference[left].split(BLOCK)]
        a = np.arange(len(left)).repeat(near)  # the nearest pairs of every row
        b = torch.cat([top.indices for top in tops]).flatten().numpy()
        value = torch.cat([top.values for top in tops]).flatten().numpy()
        free_a, free_b = np.ones(len(left), bool), np.ones(len(right), bool)
        for at in np.argsort(-value, kind="stable"):
            if free_a[a[at]] and free_b[b[at]]:
                order[left[a[at]]] = right[b[at]]
                free_a[a[at]] = free_b[b[at]] = False
        left, right = left[free_a], right[free_b]
    if len(left):
        cosine = (reference[left] @ member[right].T).numpy()
        rows, columns = linear_sum_assignment(cosine, maximize=True)
        order[left[rows]] = right[columns]
    return member[torch.from_numpy(order)]


def correct(members: Float[Tensor, "E k d"], rho: float) -> Float[Tensor, "k d"]:
    """theta_1 - Sigma^-1 (theta_1 - mu) for every centroid, members matched.

    Sigma^-1 v is taken by the Woodbury identity through an E x E system, so that d x d matrices
    are never formed. With X the centred members (E x d) of one centroid and a = (1-rho)/(E-1):
    (rho I + a X'X)^-1 v = (v - a X' (rho I + a X X')^-1 X v) / rho, with rho in (0, 1].
    """
    E = len(members)
    mu = members.mean(0)  # (k, d)
    v = (members[0] - mu).unsqueeze(2)  # (k, d, 1)
    if E == 1 or rho == 1:
        return members[0] - v.squeeze(2)
    X = (members - mu).transpose(0, 1)  # (k, E, d)
    a = (1 - rho) / (E - 1)
    small = rho * torch.eye(E).to(X) + a * X @ X.mT  # (k, E, E)
    inner = torch.linalg.solve(small, X @ v)  # (k, E, 1)
    return members[0] - ((v - a * X.mT @ inner) / rho).squeeze(2)


def combine(
    members: list[Float[Tensor, "k d"]], rho: float, optimal: int = 2048
) -> Float[Tensor, "k d"]:
    """Match all to member 1, in the best way up to ``optimal`` centroids, and correct it; unit."""
    if len(members) == 1:
        return members[0]
    matched = [members[0], *(match(member, members[0], optimal) for member in members[1:])]
    blocks = zip(*(member.split(BLOCK) for member in matched), strict=True)
    return normalize(torch.cat([correct(torch.stack(block), rho) for block in blocks]), dim=1)
