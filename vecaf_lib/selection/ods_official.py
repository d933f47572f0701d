r"""ODS as the authors' released code (commit 3a60486) computes it, made runnable.

$$J = -\frac1N\sum_i \Big[\log(w_i p_i) - \log(w_i p_i + n_{c_i})\Big]$$

p and n as in ``activeft``, ``w_i`` a function of the loss; read off their code, nothing is copied.
It departs from the paper: the pull on a sample is n / (w p + n), so that a LARGER loss pulls LESS;
there is no lambda; ensemble members are never matched, and the update adds element by element.
"""

from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Generator, Tensor
from torch.nn.functional import normalize, softplus

from vecaf_lib.errors import BadInput
from vecaf_lib.options import Count, Positive
from vecaf_lib.selection.activeft import contrast
from vecaf_lib.selection.descent import describe, nearest_unused, optimise, start
from vecaf_lib.selection.pool import Pool, Record, builds_on

NEEDS = frozenset({"embeddings", "losses"})
Weight = Literal["sigmoid", "log", "exp", "l2"]


def log_weight(losses: Float[Tensor, " n"], kind: Weight) -> Float[Tensor, " n"]:
    """log w_i for the four flags of the released code; there ``log`` gives NaN for L <= 1."""
    if kind == "sigmoid":
        return -softplus(-losses)
    if kind == "exp":
        return losses
    if kind == "l2":
        return (losses / losses.norm().clamp_min(1e-12)).clamp_min(1e-12).log()
    if bool((losses <= 1).any()):
        raise BadInput("weight: 'log' is undefined where a loss is 1 or less; use sigmoid or l2.")
    return losses.log().log()


def correct(members: Float[Tensor, "E k d"]) -> Float[Tensor, "k d"]:
    """theta_1 + (theta_1 - mu) * [(theta_1 - mu) Sigma^-1], element by element, plus sign.

    Sigma is a sum over centroids and members, divided by the number of members E alone: the update
    shrinks about as sqrt(d) / K. Where E K < d its pseudo-inverse is taken, as it is singular.
    """
    centred = (members - members.mean(0)).double()  # (E, k, d)
    rows = centred.flatten(0, 1)  # (E k, d)
    sigma = rows.T @ rows / len(members)  # (d, d)
    noise = len(sigma) * torch.finfo(torch.float32).eps  # of the centroids, which are float32
    turned = centred[0] @ torch.linalg.pinv(sigma, hermitian=True, rtol=noise)  # (k, d)
    return members[0] + (centred[0] * turned).to(members)


@builds_on(optimise)
def select(
    pool: Pool,
    budget: int,
    *,
    generator: Generator,
    record: Record = None,
    weight: Weight = "sigmoid",
    tau: Positive = 0.07,
    iterations: Count = 100,
    ensemble: Count | None = None,
    **options: Any,
) -> Tensor:
    """Choose as the released code does; the defaults are its own.

    ``ensemble`` members, by default int(10 / percent), its formula for CIFAR-10. Member 1 is
    discarded; with fewer than two left there is no correction.
    """
    pool.check_budget(budget)
    e = pool.unit()
    objective = contrast(e, tau, log_weight(pool.need("losses"), weight))
    options |= {"iterations": iterations, "record": record}
    count = ensemble or max(1, int(10 * pool.size / (100 * budget)))
    firsts = [start(pool.size, budget, generator=generator) for _ in range(count)]
    members = [optimise(e[first], objective, **options) for first in firsts]
    kept = members[1:] or members
    theta = normalize(kept[0] if len(kept) == 1 else correct(torch.stack(kept)), dim=1)
    chosen = nearest_unused(e, theta, pool.candidates())
    describe(record, e, theta, (firsts[1:] or firsts)[0], chosen)
    return chosen
