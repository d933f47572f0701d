r"""Objective-aware data selection, ODS (section 3.1, equations 3 to 7).

$$p_i = \frac{L_i^\gamma}{\sum_j L_j^\gamma},\qquad
  \min_\theta\; -\sum_i p_i\,\frac{\langle e_i,\theta_{c_i}\rangle}{\tau}
  + \frac{\lambda}{K}\sum_k \log\sum_{j\ne k} e^{\langle\theta_k,\theta_j\rangle/\tau}$$

``L`` finetuning losses, ``e`` embeddings, ``theta`` centroids, ``c_i`` the centroid nearest to
sample i, <.,.> cosine. Equation 7 prints sums with neither temperature nor lambda's value; its two
sums then grow with N and with K. Here p sums to one and the diversity is a mean over k, so that
lambda means the same at every pool size; tau = 1 is the printed form up to a constant in lambda.
gamma = 1 is equation 3; gamma = 0 is the paper's ODS ablation (Table 6), no loss term.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from vecaf_lib.centroids.target import loss_distribution
from vecaf_lib.selection._centroids import Objective, nearest, optimise, start
from vecaf_lib.selection._ensemble import correct, match
from vecaf_lib.selection._exact import nearest_unused
from vecaf_lib.selection._fast import Engine, fast
from vecaf_lib.selection._pool import Pool, check_budget
from vecaf_lib.selection._types import Count, NotNegative, Positive, Record, Share

NEEDS = frozenset({"embeddings", "losses"})


def ods_objective(
    e: Float[Tensor, "n d"],
    p: Float[Tensor, " n"],
    tau: float,
    lambda_: float,
    reassign_every: int = 1,
) -> Objective:
    """Equation 7 and its gradient; a fresh one for each descent, since it keeps the assignment."""
    pull, calls = torch.empty(0), 0

    def objective(theta: Tensor) -> tuple[float, Tensor]:
        nonlocal pull, calls
        if calls % reassign_every == 0:  # each centroid's pull depends on the assignment alone
            _, c = nearest(e, theta)  # (n,)
            pull = torch.zeros_like(theta).index_add_(0, c, p.to(e).unsqueeze(1) * e)  # (k, d)
        calls += 1
        between = theta @ theta.T / tau  # (k, k)
        between.fill_diagonal_(-torch.inf)  # j != k
        crowding = between.logsumexp(1).mean() if len(theta) > 1 else torch.zeros(())
        share = between.softmax(1) if len(theta) > 1 else torch.zeros_like(between)  # (k, k)
        push = (share + share.T) @ theta / len(theta)  # theta_k appears in its own sum and others'
        value = -(pull * theta).sum() / tau + lambda_ * crowding
        return float(value), (lambda_ * push - pull) / tau

    return objective


def select(
    pool: Pool,
    budget: int,
    *,
    generator: torch.Generator,
    record: Record = None,
    tau: Positive = 0.07,
    lambda_: NotNegative = 1.0,
    loss_power: NotNegative = 1.0,
    iterations: Count = 300,
    learning_rate: Positive = 1e-3,
    reassign_every: Count = 1,
    tolerance: NotNegative = 1e-4,
    ensemble: Count = 5,
    shrinkage: Share = 1.0,
    engine: Engine = "exact",
) -> Tensor:
    """Choose the samples nearest to the centroids of the corrected ensemble.

    Args:
        pool: with ``embeddings`` and ``losses``.
        budget: K.
        generator: draws the first centroids of every member.
        record: receives the optimisation's diagnostics and ``ensemble_overlap``, the share of the
            selection that member 1 alone would have chosen.
        tau: temperature of both cosines; none is printed, 0.07 is ActiveFT's.
        lambda_: weight of diversity (equation 2); no value is printed.
        loss_power: gamma, the loss weight; 1 as printed.
        iterations: Adam steps at most ("until convergence"; ActiveFT's 300).
        learning_rate: Adam's (section 4.1: 0.001).
        reassign_every: steps for which a sample keeps its nearest centroid; 1 is exact, more is
            almost as many times faster (`python benchmarks/selection_steps.py`).
        tolerance: "until convergence" made exact, see ``optimise``.
        ensemble: E independently initialised members (the paper: 5); 1 switches the ensemble off.
        shrinkage: rho of the covariance correction, see ``correct``; 1 gives the members' mean.
        engine: ``exact`` or ``fast``, see ``_fast``; with ``fast`` no ``ensemble_overlap`` is told.
    """
    check_budget(pool, budget)
    if engine == "fast":
        return fast(
            pool,
            budget,
            pool.need("losses"),
            generator=generator,
            record=record,
            tau=tau,
            lambda_=lambda_,
            loss_power=loss_power,
            steps=iterations,
            learning_rate=learning_rate,
            renew_every=reassign_every,
            tolerance=tolerance,
            ensemble=ensemble,
            shrinkage=shrinkage,
        )
    e = normalize(pool.need("embeddings"), dim=1)
    p = loss_distribution(pool.need("losses"), loss_power)
    members = []
    for _ in range(ensemble):
        first = start(e, budget, generator=generator)
        members.append(
            optimise(
                first,
                ods_objective(e, p, tau, lambda_, reassign_every),
                iterations=iterations,
                learning_rate=learning_rate,
                tolerance=tolerance,
                record=record,
            )
        )
    alone = nearest_unused(e, members[0])
    if ensemble == 1:
        return alone
    matched = torch.stack([match(member, members[0]) for member in members])  # (E, k, d)
    chosen = nearest_unused(e, normalize(correct(matched, shrinkage), dim=1))
    if record is not None:
        record["ensemble_overlap"] = float(torch.isin(chosen, alone).float().mean())
    return chosen
