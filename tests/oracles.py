"""The paper's formulas as naive loops in its symbols: slow, plain, and the judge of the library.

Nothing here imports vecaf_lib. Centroids may have any length: <.,.> is the cosine, so autograd
through these loops goes through the normalisation too.
"""

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor


def cosine(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum() / ((a * a).sum().sqrt() * (b * b).sum().sqrt())


def nearest_centroid(e: Tensor, theta: Tensor) -> list[int]:
    """c_i: the centroid of largest cosine, the first of equals."""
    c = []
    for e_i in e:
        best = 0
        for k in range(len(theta)):
            if cosine(e_i, theta[k]) > cosine(e_i, theta[best]):
                best = k
        c.append(best)
    return c


def equation_3(L: Sequence[float], gamma: float = 1.0) -> list[float]:
    Z = sum(L_i**gamma for L_i in L)
    return [L_i**gamma / Z for L_i in L]


def equation_7(e: Tensor, p: Sequence[float], theta: Tensor, tau: float, lambda_: float) -> Tensor:
    """Equation 7 with p_L for L, a mean over k, and both cosines over tau."""
    c, K = nearest_centroid(e, theta.detach()), len(theta)
    value = torch.zeros((), dtype=e.dtype)
    for i in range(len(e)):
        value = value - p[i] * cosine(e[i], theta[c[i]]) / tau
    for k in range(K):
        others = [torch.exp(cosine(theta[k], theta[j]) / tau) for j in range(K) if j != k]
        if others:
            value = value + lambda_ / K * torch.log(sum(others))
    return value


def contrast(e: Tensor, theta: Tensor, tau: float, w: Sequence[float] | None = None) -> Tensor:
    """-mean_i [log(w_i p_i) - log(w_i p_i + n_{c_i})]; w = 1 is ActiveFT, else the released ODS."""
    c, bar = nearest_centroid(e, theta.detach()), theta.detach()
    total = torch.zeros((), dtype=e.dtype)
    for i in range(len(e)):
        p = torch.exp(cosine(e[i], theta[c[i]]) / tau)
        n = sum(torch.exp(cosine(theta[c[i]], bar[j]) / tau) for j in range(len(bar)))
        weighted = p if w is None else w[i] * p
        total = total + torch.log(weighted) - torch.log(weighted + n)
    return -total / len(e)


def exact_k(e: Tensor, theta: Tensor) -> list[int]:
    """Each centroid in order: the unused sample of largest cosine, the first of equals."""
    chosen: list[int] = []
    for theta_k in theta:
        best = -1
        for i in range(len(e)):
            if i in chosen:
                continue
            if best < 0 or cosine(e[i], theta_k) > cosine(e[best], theta_k):
                best = i
        chosen.append(best)
    return chosen


def best_matching(member: Tensor, reference: Tensor) -> tuple[int, ...]:
    """Of all orders of the member's centroids, the one of largest summed cosine."""

    def agreement(order: tuple[int, ...]) -> float:
        return sum(float(cosine(member[j], reference[k])) for k, j in enumerate(order))

    return max(itertools.permutations(range(len(member))), key=agreement)


def corrected(members: Tensor, rho: float) -> Tensor:
    """theta_1 - Sigma^-1 (theta_1 - mu) with Sigma = rho I + (1 - rho) S, d x d, inverted."""
    E, K, d = members.shape
    theta = torch.empty(K, d, dtype=members.dtype)
    for k in range(K):
        mu = sum(members[m, k] for m in range(E)) / E
        S = sum(torch.outer(members[m, k] - mu, members[m, k] - mu) for m in range(E)) / (E - 1)
        sigma = rho * torch.eye(d, dtype=members.dtype) + (1 - rho) * S
        theta[k] = members[0, k] - torch.linalg.inv(sigma) @ (members[0, k] - mu)
    return theta


def official_correction(members: Tensor) -> Tensor:
    """theta_1 + (theta_1 - mu) * [(theta_1 - mu) Sigma^-1].

    Sigma as released: the mean over members of the sum over centroids.
    """
    E, K, d = members.shape
    mu = sum(members[m] for m in range(E)) / E
    sigma = torch.zeros(d, d, dtype=members.dtype)
    for m, k in itertools.product(range(E), range(K)):
        sigma += torch.outer(members[m, k] - mu[k], members[m, k] - mu[k]) / E
    inverse = torch.linalg.inv(sigma)
    theta = members[0].clone()
    for k in range(K):
        away = members[0, k] - mu[k]
        turned = [sum(away[a] * inverse[a, b] for a in range(d)) for b in range(d)]
        for b in range(d):
            theta[k, b] += away[b] * turned[b]
    return theta


def equation_8(e: Tensor, t: Tensor) -> list[float]:
    scores = [torch.exp(cosine(e_i, t_i)) for e_i, t_i in zip(e, t, strict=True)]
    return [float(score / sum(scores)) for score in scores]


def equation_9(e: Tensor, t: Tensor, alpha: Sequence[float], eta: float) -> Tensor:
    rows = []
    for e_i, t_i, alpha_i in zip(e, t, alpha, strict=True):
        rows.append(e_i - eta * alpha_i * (e_i - t_i))
    return torch.stack(rows)


def leave_one_out(
    embeddings: Tensor, labels: Sequence[int], classes: int, ridge: float
) -> list[float]:
    """Squared error on each sample of a ridge regression fitted without it, n fits in all.

    The penalty, a number, is that of the whole pool: ``ridge`` times the mean eigenvalue of the
    centred Gram matrix. The intercept is not penalised.
    """
    n, d = embeddings.shape
    X = torch.stack([row / row.norm() for row in embeddings.double()])
    Y = torch.tensor([[float(y == c) for c in range(classes)] for y in labels]).double()
    centred = X - X.mean(0)
    penalty = ridge * float(torch.linalg.eigvalsh(centred.T @ centred).mean())
    design = torch.cat([X, torch.ones(n, 1).double()], 1)  # (n, d + 1)
    shrink = penalty * torch.eye(d + 1).double()
    shrink[d, d] = 0
    errors = []
    for i in range(n):
        rest = [j for j in range(n) if j != i]
        A = design[rest]
        weights = torch.linalg.inv(A.T @ A + shrink) @ A.T @ Y[rest]
        errors.append(float((Y[i] - design[i] @ weights).square().sum()))
    return errors
