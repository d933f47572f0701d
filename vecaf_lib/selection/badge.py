r"""BADGE (Ash et al., ICLR 2020): k-means++ draws among gradient embeddings.

$$g_i = (\mathrm{onehot}(\hat y_i) - p_i) \otimes e_i,\qquad
  P(s) \propto \min_{s' \in S} \lVert g_s - g_{s'}\rVert^2$$

``g`` is, but for its sign, the gradient of the loss of the predicted label $\hat y = \arg\max p$
by the weights of the last layer; ``e`` the embedding that this layer is given, not normalised. With
a the first factor, squared distances are
$\lVert a_i\rVert^2\lVert e_i\rVert^2 + \lVert a_s\rVert^2\lVert e_s\rVert^2
- 2\,(a_i\cdot a_s)(e_i\cdot e_s)$: nothing of N x C x d is held. As in the paper, what is kept is
left out and is no centre. Of labels it knows what the classifier learned from the chosen; the first
set, from a classifier that is still random, is k-means++ among the embeddings.
"""

from typing import Literal

import torch
from torch import Generator, Tensor
from torch.nn.functional import one_hot

from vecaf_lib.selection.pool import Pool, Record

NEEDS = frozenset({"embeddings", "probabilities"})


def select(
    pool: Pool,
    budget: int,
    *,
    generator: Generator,
    record: Record = None,
    first: Literal["drawn", "longest"] = "drawn",
) -> Tensor:
    """Draw ``budget`` samples, in the order of the draws; evenly once all distances are 0.

    ``first``: the first sample is ``drawn`` evenly, as in k-means++, or has the ``longest``
    gradient, as in the authors' code.
    """
    pool.check_budget(budget)
    at = pool.candidates()
    e = pool.need("embeddings")[at]
    a = e.new_ones(len(e), 1)
    if pool.probabilities is not None:
        p = pool.probabilities[at].to(e)
        a = one_hot(p.argmax(1), p.shape[1]) - p
    lengths = (a.square().sum(1) * e.square().sum(1)).double()  # squared, (m,)
    nearest, free = torch.full_like(lengths, torch.inf), torch.ones(len(at), dtype=torch.bool)
    chosen: list[int] = []
    for _ in range(budget):
        weight = torch.where(free, nearest, 0.0)
        if not chosen or not bool(weight.any()):
            weight = free.double()
        s = int(torch.multinomial(weight, 1, generator=generator))
        if first == "longest" and not chosen:
            s = int(lengths.argmax())
        chosen.append(s)
        free[s] = False
        between = lengths + lengths[s] - 2 * ((a @ a[s]) * (e @ e[s])).double()
        nearest = torch.minimum(nearest, between.clamp_min_(0))
    return at[torch.tensor(chosen)]
