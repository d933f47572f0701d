"""Per-sample losses before there is a classifier: a closed-form linear probe on the pool."""

from typing import Literal

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn.functional import normalize, one_hot

FirstLosses = Literal["uniform", "linear_probe", "classifier"]


def linear_probe_losses(
    embeddings: Float[Tensor, "n d"],
    labels: Int64[Tensor, " n"],
    *,
    classes: int,
    ridge: float = 1e-2,
) -> Float[Tensor, " n"]:
    """Leave-one-out squared errors of ridge regression onto one-hot labels, no training needed.

    In the first loop the classifier is random, so its losses say nothing of the samples. The
    leave-one-out residual of a linear fit is closed form, r_i / (1 - h_ii) with h the diagonal of
    the hat matrix (Allen's PRESS statistic), and is large where the neighbours disagree.

    Args:
        embeddings: image embeddings e; only their direction is used.
        labels: class indices.
        classes: number of classes.
        ridge: penalty as a fraction of the mean eigenvalue of the Gram matrix.
    """
    E = normalize(embeddings.double(), dim=1)
    X = E - E.mean(0)  # (n, d)
    Y = one_hot(labels, classes).double()
    Y = Y - Y.mean(0)  # (n, c)
    gram = X.T @ X  # (d, d)
    gram += ridge * gram.diagonal().mean().clamp_min(1e-12) * torch.eye(len(gram), dtype=gram.dtype)
    solved = torch.linalg.solve(gram, X.T)  # (d, n)
    leverage = (X * solved.T).sum(1) + 1 / len(X)  # (n,), the centring costs 1/n
    residual = Y - X @ (solved @ Y)  # (n, c)
    return (residual / (1 - leverage).clamp_min(1e-6).unsqueeze(1)).square().sum(1).float()
