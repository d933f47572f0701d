r"""ActiveFT (Xie et al., CVPR 2023): match the pool's distribution, keep the centroids apart.

$$\min_\theta\; -\frac1N\sum_i \Big[\log p_i - \log(p_i + n_{c_i})\Big],\quad
  p_i = e^{\cos(e_i,\theta_{c_i})/\tau},\; n_k = \sum_j e^{\cos(\theta_k,\bar\theta_j)/\tau}$$

``e`` embeddings, ``theta`` centroids, ``c_i`` the centroid nearest to sample i; the bar stops the
gradient, and the sum over j contains k itself, as in their formula's released form. No label is
used.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import logsigmoid, normalize

from vecaf_lib.selection._centroids import Assignment, Objective, optimise, start
from vecaf_lib.selection._exact import nearest_unused
from vecaf_lib.selection._fast import Engine, fast
from vecaf_lib.selection._pool import Pool, check_budget
from vecaf_lib.selection._types import Count, NotNegative, Positive, Record

NEEDS = frozenset({"embeddings"})


def contrast(
    e: Float[Tensor, "n d"],
    tau: float,
    log_weight: Float[Tensor, " n"] | None = None,
    reassign_every: int = 1,
) -> Objective:
    """The objective above, for one descent.

    ``log_weight`` (log w_i) puts w_i p_i for p_i, as VeCAF's code does.
    """
    shift = e.new_zeros(len(e)) if log_weight is None else log_weight.to(e)
    assigned = Assignment(e, reassign_every)

    def objective(theta: Tensor) -> tuple[float, Tensor]:
        cosine, c = assigned(theta)  # (n,), (n,)
        repulsion = theta @ theta.T / tau  # (k, k)
        log_n = repulsion.logsumexp(1)  # (k,)
        margin = cosine / tau + shift - log_n[c]  # log(w p / n)
        s = torch.sigmoid(-margin) / len(e)  # n / (w p + n), averaged
        gradient = torch.zeros_like(theta).index_add_(0, c, -s.unsqueeze(1) * e)
        push = s.new_zeros(len(theta)).index_add_(0, c, s).unsqueeze(1)  # (k, 1)
        gradient += push * (repulsion.softmax(1) @ theta)  # j is detached: one side only
        return float(-logsigmoid(margin).mean()), gradient / tau

    return objective


def select(
    pool: Pool,
    budget: int,
    *,
    generator: torch.Generator,
    record: Record = None,
    tau: Positive = 0.07,
    iterations: Count = 300,
    learning_rate: Positive = 1e-3,
    reassign_every: Count = 1,
    tolerance: NotNegative = 0.0,
    engine: Engine = "exact",
) -> Tensor:
    """Choose the samples nearest to ``budget`` optimised centroids.

    Args:
        pool: with ``embeddings``.
        budget: K.
        generator: draws the first centroids.
        record: receives the diagnostics of the optimisation.
        tau: temperature; 0.07 is theirs.
        iterations: full-batch Adam steps; 300 is theirs.
        learning_rate: Adam's; 1e-3 is theirs.
        reassign_every: steps for which a sample keeps its nearest centroid; theirs is 1, exact.
        tolerance: see ``optimise``; 0 runs all iterations, as theirs.
        engine: ``exact`` or ``fast``, see ``_fast``.
    """
    check_budget(pool, budget)
    if engine == "fast":
        return fast(
            pool,
            budget,
            None,
            generator=generator,
            record=record,
            objective="activeft",
            tau=tau,
            steps=iterations,
            learning_rate=learning_rate,
            renew_every=reassign_every,
            tolerance=tolerance,
        )
    e = normalize(pool.need("embeddings"), dim=1)
    theta = optimise(
        start(e, budget, generator=generator),
        contrast(e, tau, reassign_every=reassign_every),
        iterations=iterations,
        learning_rate=learning_rate,
        tolerance=tolerance,
        record=record,
    )
    return nearest_unused(e, theta)
