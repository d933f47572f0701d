r"""ODS by margin: the label-free sister of ODS. **Ours, not the paper's**.

Equation 7 with $p_i \propto 1 - (p_{i1} - p_{i2})$, the margin uncertainty of the classifier, in
place of equation 3's losses; all weights are equal in the first loop. Of labels it knows what the
classifier learned from the chosen.
"""

from dataclasses import replace
from typing import Any

from torch import Generator, Tensor

from vecaf_lib.selection import ods
from vecaf_lib.selection.pool import Pool, Record, builds_on
from vecaf_lib.selection.uherding import uncertainty

NEEDS = frozenset({"embeddings", "probabilities"})


@builds_on(ods.select)
def select(
    pool: Pool, budget: int, *, generator: Generator, record: Record = None, **options: Any
) -> Tensor:
    """Choose by ODS, with its ``options``, from the margin uncertainty in place of the losses."""
    doubted = replace(pool, losses=uncertainty(pool))
    return ods.select(doubted, budget, generator=generator, record=record, **options)
