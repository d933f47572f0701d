r"""Objective-aware data selection, ODS (section 3.1, equations 3 to 7).

$$p_i = \frac{L_i^\gamma}{\sum_j L_j^\gamma},\qquad
  \min_\theta\; -\sum_i p_i\,\frac{\langle e_i,\theta_{c_i}\rangle}{\tau}
  + \frac{\lambda}{K}\sum_k \log\sum_{j\ne k} e^{\langle\theta_k,\theta_j\rangle/\tau}$$

``L`` finetuning losses, ``e`` embeddings, ``theta`` centroids, ``c_i`` the centroid nearest to
sample i, <.,.> cosine. Equation 7 prints no temperature, and two sums that grow with N and with K.
Here p sums to one and the diversity is a mean over k, so that lambda means the same at every pool
size; tau = 1 is the printed form up to a constant in lambda. gamma = 1 is equation 3; gamma = 0 is
the paper's ODS ablation (Table 6), no loss term.
"""

from itertools import combinations
from statistics import fmean
from typing import Any

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from vecaf_lib.ensemble import combine
from vecaf_lib.errors import BadInput
from vecaf_lib.objective import loss_distribution
from vecaf_lib.options import Count, NotNegative, Positive, Share
from vecaf_lib.selection import descent
from vecaf_lib.selection.pool import Pool, Record, builds_on

NEEDS = frozenset({"embeddings", "losses"})


def ods_objective(
    e: Float[Tensor, "n d"], p: Tensor, tau: float, lambda_: float
) -> descent.Objective:
    """Equation 7 and its gradient."""

    def objective(theta: Tensor) -> tuple[float, Tensor]:
        _, c = descent.nearest(e, theta)  # (n,)
        pull = torch.zeros_like(theta).index_add_(0, c, p.to(e).unsqueeze(1) * e)  # (k, d)
        between = theta @ theta.T / tau  # (k, k)
        between.fill_diagonal_(-torch.inf)  # j != k
        crowding = between.logsumexp(1).mean() if len(theta) > 1 else 0.0
        share = between.softmax(1) if len(theta) > 1 else torch.zeros_like(between)  # (k, k)
        push = (share + share.T) @ theta / len(theta)  # theta_k appears in its own sum and others'
        value = -(pull * theta).sum() / tau + lambda_ * crowding
        return float(value), (lambda_ * push - pull) / tau

    return objective


@builds_on(descent.optimise)
def select(
    pool: Pool,
    budget: int,
    *,
    generator: Generator,
    record: Record = None,
    tau: Positive = 0.07,
    lambda_: NotNegative = 1.0,
    loss_power: NotNegative = 1.0,
    tolerance: NotNegative = 1e-4,
    ensemble: Count = 5,
    shrinkage: Share = 1.0,
    last_descent: bool = False,
    engine: descent.Engine = "exact",
    **options: Any,
) -> Tensor:
    """Choose the samples nearest to the centroids of the corrected ensemble.

    Args:
        record: receives the ``iterations`` of the last descent and the ``objective``; from the
            exact engine that of the centroids that choose, what ``descent.describe`` says (of
            member 1's start), and ``members_overlap``: of the choices of two members, on average.
        tau: temperature of both cosines; none is printed, 0.07 is ActiveFT's.
        lambda_, loss_power: lambda and gamma. Equation 7 as printed, over sums with lambda 1, is
            K / sum_i L_i here at tau = 1: about 0.02 for 2 % of a pool whose mean loss is 1.
        ensemble: E independently initialised members; 1 switches the ensemble off.
        shrinkage: rho of the covariance correction, see ``correct``; 1 gives the members' mean.
        last_descent: **ours, not the paper's**: the corrected centroids start one more descent;
            only with the exact engine.
        engine: ``exact``, or ``fast`` for large pools, see ``descent.select_fast``.
    """
    pool.check_budget(budget)
    losses = pool.need("losses")
    options |= {"tolerance": tolerance, "record": record}
    if engine == "fast":
        if last_descent:
            raise BadInput("last_descent: engine 'fast' has none; use engine 'exact'.")
        options |= {"tau": tau, "lambda_": lambda_, "loss_power": loss_power, "ensemble": ensemble}
        options |= {"shrinkage": shrinkage, "generator": generator}
        return descent.select_fast(pool, budget, losses, **options)
    e = pool.unit()
    p = loss_distribution(losses, loss_power)
    objective = ods_objective(e, p, tau, lambda_)
    firsts = [descent.start(pool.size, budget, generator=generator) for _ in range(ensemble)]
    members = [descent.optimise(e[first], objective, **options) for first in firsts]
    theta = combine(members, shrinkage, optimal=budget)
    theta = descent.optimise(theta, objective, **options) if last_descent else theta
    chosen = descent.nearest_unused(e, theta, pool.candidates())
    descent.describe(record, e, theta, firsts[0], chosen)
    if record is not None:
        record["objective"] = objective(theta)[0]
        if ensemble > 1:
            alone = [descent.nearest_unused(e, member, pool.candidates()) for member in members]
            record["members_overlap"] = fmean(descent.share(*two) for two in combinations(alone, 2))
    return chosen
