r"""ALFA-Mix (Parvaneh et al., CVPR 2022): choose among samples whose prediction flips when mixed.

A sample e is mixed with each class's anchor a, the mean of its labelled samples, $\tilde e = e +
\alpha z$, $z = a - e$. Where a mix is classified otherwise the sample is a candidate, and K-means
spreads the chosen ones over the candidates.

**Closed form** (their equation 6), with g the gradient of the pseudo-label's loss at e:

$$\alpha = \varepsilon\,\frac{\lVert z\rVert}{\lVert g\rVert}\,\frac{g}{z},\quad
  \varepsilon = \mathrm{cap}/\sqrt d
  \quad\Rightarrow\quad \tilde e = e + \varepsilon \lVert z\rVert\, g / \lVert g\rVert$$

So the mix is a step along +g, and the anchor sets its length alone. Along this ray the scores are
linear, so a sample flips from one cap on, computed once for all caps and anchors.
**Optimised**: alpha in [1e-8, cap], by Adam on the loss.
"""

from itertools import count, takewhile
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float
from torch import Generator, Tensor, nn
from torch.nn.functional import normalize

from vecaf_lib.options import Count, NotNegative, Positive, Share
from vecaf_lib.selection import random
from vecaf_lib.selection.descent import nearest_unused
from vecaf_lib.selection.pool import Pool, Record

NEEDS = frozenset({"embeddings", "classifier", "labelled", "labels"})
COLD_START = True
CHUNK = 2048  # samples mixed at once
LARGE = 5000  # candidates above which K-means works on mini-batches
MANY = 1000  # clusters above which their initial centres are drawn evenly, not by k-means++


@torch.no_grad()
def select(
    pool: Pool,
    budget: int,
    *,
    generator: Generator,
    record: Record = None,
    variant: Literal["closed_form", "optimised"] = "closed_form",
    cap_step: Share = 1 / 32,
    learning_rate: Positive = 0.1,
    iterations: Count = 5,
    l2: NotNegative = 0.01,
) -> Tensor:
    """Choose ``budget`` samples near the centres of the candidates' clusters.

    Args:
        record: receives the last ``cap``, and the numbers of ``candidates`` and of samples that
            were ``filled`` in at random for want of them.
        cap_step: the cap rises so until it is 1 or candidates exceed K; paper: 0.2, code: 1/32.
        learning_rate, iterations, l2: only for ``optimised``, see ``optimised_flips``.
    """
    pool.check_budget(budget)
    labelled, labels, classifier = (pool.need(n) for n in ("labelled", "labels", "classifier"))
    e = pool.need("embeddings").to(classifier.weight)
    if not len(labelled):
        return random.select(pool, budget, generator=generator)
    anchors = torch.stack([e[labelled[labels == label]].mean(0) for label in labels.unique()])
    at, others = pool.unlabelled(), pool.candidates()
    others = others[~torch.isin(others, at)]
    again = torch.randperm(len(others), generator=generator)[: max(0, budget - len(at))]
    at = torch.cat([at, others[again]]).sort().values  # (m,), K at least
    flips = torch.zeros(len(at), dtype=torch.bool)
    if variant == "closed_form":
        lowest = torch.cat([flipping_caps(e[r], anchors, classifier) for r in at.split(CHUNK)])
    adam: dict[str, Any] = {"learning_rate": learning_rate, "iterations": iterations, "l2": l2}
    for cap in [*takewhile(lambda cap: cap < 1, (n * cap_step for n in count(1))), 1.0]:
        if variant == "closed_form":
            flips = lowest < cap
        else:
            for anchor in anchors:
                for rows in (~flips).nonzero().squeeze(1).split(CHUNK):  # the others stay flipped
                    flips[rows] = optimised_flips(e[at[rows]], anchor, classifier, cap, **adam)
        if int(flips.sum()) > budget:
            break
    candidates = chosen = at[flips]
    if len(candidates) > budget:
        from sklearn.cluster import KMeans, MiniBatchKMeans  # here, as it takes a second

        unit = normalize(e[candidates], dim=1)  # the nearest to a centre has the largest product
        means = (MiniBatchKMeans if len(unit) > LARGE else KMeans)(
            budget,
            init="k-means++" if budget <= MANY else "random",
            n_init=1,
            random_state=int(torch.randint(2**31 - 1, (1,), generator=generator)),
        ).fit(unit.numpy())
        centres = torch.from_numpy(means.cluster_centers_).to(unit)
        chosen = candidates[nearest_unused(unit, centres)]
    rest = at[~torch.isin(at, chosen)]
    drawn = torch.randperm(len(rest), generator=generator)[: budget - len(chosen)]
    if record is not None:
        record |= {"cap": cap, "candidates": len(candidates), "filled": len(drawn)}
    return torch.cat([chosen, rest[drawn]])


def flipping_caps(
    e: Float[Tensor, "b d"], anchors: Float[Tensor, "a d"], classifier: nn.Linear
) -> Float[Tensor, " b"]:
    """The cap above which the closed form flips each sample for some anchor; inf for never."""
    W = classifier.weight
    scores = classifier(e)  # (b, c), c > 1
    top, pseudo = scores.max(1, keepdim=True)
    # g / (1 - p_y), which a sure prediction does not round to 0 as it does g
    u = scores.scatter(1, pseudo, -torch.inf).softmax(1) @ W - W[pseudo.squeeze(1)]  # (b, d)
    slope = u @ W.T
    rise = slope - slope.gather(1, pseudo)  # of each class over the pseudo-label
    steps = torch.where(rise > 0, (top - scores) / rise, torch.inf).amin(1)  # in lengths of u
    reach = torch.cdist(e, anchors).amax(1) / e.shape[1] ** 0.5  # of a step, with cap 1
    tiny = torch.finfo(e.dtype).tiny  # inf * 0 is no number
    return steps * u.norm(dim=1).clamp_min(tiny) / reach.clamp_min(tiny)


def optimised_flips(
    e: Float[Tensor, "b d"],
    anchor: Float[Tensor, " d"],
    classifier: nn.Linear,
    cap: float,
    *,
    learning_rate: float,
    iterations: int,
    l2: float,
) -> Bool[Tensor, " b"]:
    """Whether an alpha flips it on Adam's way down l2 ||alpha|| - the pseudo-label's loss."""
    z = anchor - e
    pseudo = classifier(e).argmax(1)
    alpha = torch.full_like(e, cap / 2)  # theirs is a normal draw around it
    adam = torch.optim.Adam([alpha], lr=learning_rate)
    scores = classifier(e + alpha * z)
    flips = scores.argmax(1) != pseudo
    for _ in range(iterations):
        p = scores.softmax(1)
        p[torch.arange(len(p)), pseudo] -= 1
        # z times the loss's gradient is its gradient with respect to alpha
        alpha.grad = l2 * alpha / alpha.norm(dim=1, keepdim=True) - z * (p @ classifier.weight)
        adam.step()
        alpha.clamp_(1e-8, max(cap, 1e-8))
        scores = classifier(e + alpha * z)
        flips |= scores.argmax(1) != pseudo
    return flips
