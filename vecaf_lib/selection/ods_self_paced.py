r"""ODS that begins with what is easy. **Ours, not the paper's**: the variant ``vecaf_self_paced``.

$$p_i = \frac{e^{-\gamma L_i}}{\sum_j e^{-\gamma L_j}} \quad\text{in place of equation 3's}\quad
  p_i = \frac{L_i}{\sum_j L_j}$$

All else is equation 7. With the cross-entropy, e^{-L} is the label's probability: easy images pull
the centroids, and the sets grow harder, as in self-paced learning (Kumar et al., NeurIPS 2010).
``L`` losses, gamma ``pace``; 0 gives all images the same weight.
"""

from typing import Any

from torch import Generator, Tensor

from vecaf_lib.options import NotNegative
from vecaf_lib.selection import ods
from vecaf_lib.selection.pool import Pool, Record, builds_on

NEEDS = frozenset({"embeddings", "losses", "labelled"})


@builds_on(ods.select, without={"loss_power", "engine"})
def select(
    pool: Pool,
    budget: int,
    *,
    generator: Generator,
    record: Record = None,
    pace: NotNegative = 3.0,
    **options: Any,
) -> Tensor:
    """Choose by ODS, with its ``options``, among the samples that no earlier loop has chosen."""
    pool.check_budget(budget)
    e, losses = pool.need("embeddings"), pool.need("losses").double()
    at = pool.among_unlabelled(budget, generator)  # (m,)
    weight = (-pace * (losses[at] - losses[at].min())).exp()  # (m,), the easiest has 1
    part = Pool(len(at), embeddings=e[at], losses=weight)
    return at[
        ods.select(part, budget, generator=generator, record=record, loss_power=1.0, **options)
    ]
