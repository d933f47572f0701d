r"""Class-quota herding: the plainest rival that knows every label, as VeCAF does. **Ours**.

$$K_c \propto n_c^{a},\qquad S = \bigcup_c \mathrm{MaxHerding}(c;\, K_c)$$

Each class c, of n_c samples, gets a quota, and MaxHerding (Bae et al., ECCV 2024) chooses inside
the class alone, where the kept samples cover from the start; a ``power``. No loss or score of a
model is looked at, but all labels are.
"""

from functools import partial

from torch import Generator, Tensor

from vecaf_lib.options import NotNegative, Positive
from vecaf_lib.selection import maxherding
from vecaf_lib.selection.pool import Pool, Record
from vecaf_lib.selection.stratified import by_class

NEEDS = frozenset({"embeddings", "all_labels"})


def select(
    pool: Pool,
    budget: int,
    *,
    generator: Generator,
    record: Record = None,
    sigma: Positive = 1.0,
    power: NotNegative = 0.5,
) -> Tensor:
    """Choose in the order of ``by_class``; ``power`` 1 divides by the classes' sizes, 0 equally."""
    choose = partial(maxherding.select, generator=generator, sigma=sigma)
    return by_class(pool, budget, power, choose)
