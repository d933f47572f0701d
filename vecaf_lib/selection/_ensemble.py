r"""The ensemble of data selection models and its covariance correction (after equation 7).

$$\theta^* = \theta_1 - \Sigma^{-1}(\theta_1 - \mu)$$

Printed, this leaves three things open. (1) Centroid j of one member is not centroid j of another:
members are matched to member 1 first. (2) Sigma over E = 5 members in d dimensions is singular:
it is shrunk, Sigma = rho I + (1 - rho) S, with S the sample covariance of a matched centroid.
(3) The formula depends on the scale of theta: centroids are unit vectors. rho = 1 gives mu.
"""

import torch
from jaxtyping import Float
from scipy.optimize import linear_sum_assignment
from torch import Tensor


def match(member: Float[Tensor, "k d"], reference: Float[Tensor, "k d"]) -> Float[Tensor, "k d"]:
    """Reorder ``member`` so that the summed cosine to ``reference``, row by row, is largest."""
    _, order = linear_sum_assignment((reference @ member.T).numpy(), maximize=True)
    return member[torch.from_numpy(order)]


def correct(members: Float[Tensor, "E k d"], rho: float) -> Float[Tensor, "k d"]:
    """theta_1 - Sigma^-1 (theta_1 - mu) for every centroid, members matched.

    Sigma^-1 v is taken by the Woodbury identity through an E x E system, so that d x d matrices
    are never formed. With X the centred members (E x d) of one centroid and a = (1-rho)/(E-1):
    (rho I + a X'X)^-1 v = (v - a X' (rho I + a X X')^-1 X v) / rho.

    Args:
        members: E matched members, the first is theta_1.
        rho: shrinkage in (0, 1].
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
