r"""ODS that begins with what is easy. **Ours, not the paper's**: the variant ``vecaf_self_paced``.

$$p_i = \frac{e^{-\gamma L_i}}{\sum_j e^{-\gamma L_j}} \quad\text{in place of equation 3's}\quad
  p_i = \frac{L_i}{\sum_j L_j}$$

All else is equation 7. With the cross-entropy, e^{-L} is the label's probability: easy images pull
the centroids, and the sets grow harder, as in self-paced learning (Kumar et al., NeurIPS 2010).
``L`` losses, gamma ``pace``; 0 gives all images the same weight.
"""

from dataclasses import replace
from typing import Any

from torch import Generator, Tensor

from vecaf_lib.options import NotNegative
from vecaf_lib.selection import ods
from vecaf_lib.selection.pool import Pool, Record, builds_on

NEEDS = frozenset({"embeddings", "losses"})


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
    """Choose by ODS, with its ``options``, from these weights in place of the losses."""
    losses = pool.need("losses").double()
    weight = (-pace * (losses - losses.min())).exp()  # (n,), the easiest has 1
    options |= {"record": record, "loss_power": 1.0}
    return ods.select(replace(pool, losses=weight), budget, generator=generator, **options)
