r"""ActiveFT (Xie et al., CVPR 2023): match the pool's distribution, keep the centroids apart.

$$\min_\theta\; -\frac1N\sum_i \Big[\log p_i - \log(p_i + n_{c_i})\Big],\quad
  p_i = e^{\cos(e_i,\theta_{c_i})/\tau},\; n_k = \sum_j e^{\cos(\theta_k,\bar\theta_j)/\tau}$$

``e`` embeddings, ``theta`` centroids, ``c_i`` the centroid nearest to sample i; the bar stops the
gradient, and the sum over j contains k itself, as in their released form. No label is used.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Generator, Tensor
from torch.nn.functional import logsigmoid

from vecaf_lib.options import Positive
from vecaf_lib.selection import descent
from vecaf_lib.selection.pool import Pool, Record, builds_on

NEEDS = frozenset({"embeddings"})


def contrast(
    e: Float[Tensor, "n d"], tau: float, log_weight: Tensor | None = None
) -> descent.Objective:
    """The objective above; with log w_i, w_i p_i for p_i as in VeCAF's code."""
    shift = e.new_zeros(len(e)) if log_weight is None else log_weight.to(e)

    def objective(theta: Tensor) -> tuple[float, Tensor]:
        cosine, c = descent.nearest(e, theta)  # (n,), (n,)
        repulsion = theta @ theta.T / tau  # (k, k)
        log_n = repulsion.logsumexp(1)  # (k,)
        margin = cosine / tau + shift - log_n[c]  # log(w p / n)
        s = torch.sigmoid(-margin) / len(e)  # n / (w p + n), averaged
        gradient = torch.zeros_like(theta).index_add_(0, c, -s.unsqueeze(1) * e)
        push = s.new_zeros(len(theta)).index_add_(0, c, s).unsqueeze(1)  # (k, 1)
        gradient += push * (repulsion.softmax(1) @ theta)  # j is detached: one side only
        return float(-logsigmoid(margin).mean()), gradient / tau

    return objective


@builds_on(descent.optimise)
def select(
    pool: Pool,
    budget: int,
    *,
    generator: Generator,
    record: Record = None,
    tau: Positive = 0.07,
    engine: descent.Engine = "exact",
    **options: Any,
) -> Tensor:
    """Choose the samples nearest to K optimised centroids; options: see ``ods``."""
    pool.check_budget(budget)
    if engine == "fast":
        options |= {"objective": "activeft", "tau": tau, "generator": generator}
        return descent.select_fast(pool, budget, None, record=record, **options)
    e = pool.unit()
    first = descent.start(pool.size, budget, generator=generator)
    theta = descent.optimise(e[first], contrast(e, tau), record=record, **options)
    chosen = descent.nearest_unused(e, theta, pool.candidates())
    descent.describe(record, e, theta, first, chosen)
    return chosen
