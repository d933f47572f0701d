"""ALFA-Mix (Parvaneh et al., CVPR 2022): choose among samples whose prediction flips when mixed.

Each sample is mixed a little with the anchor of each class, the mean embedding of that class's
labelled samples. If a mix is classified otherwise than the sample, the sample is a candidate.
K-means spreads the chosen ones over the candidates. Labels are seen of chosen samples only; before
there are any, the set is random.
"""

from collections.abc import Iterator
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int64
from sklearn.cluster import KMeans, MiniBatchKMeans
from torch import Tensor, nn
from torch.nn.functional import normalize

from vecaf_lib.selection import random
from vecaf_lib.selection._alfa import flipping_caps, optimised_flips
from vecaf_lib.selection._exact import nearest_unused
from vecaf_lib.selection._pool import Pool, among_unlabelled, check_budget
from vecaf_lib.selection._types import Count, NotNegative, Positive, Record, Share

NEEDS = frozenset({"embeddings", "classifier", "labelled", "labels"})
COLD_START = True
CHUNK = 2048  # samples mixed at once: memory does not grow with pool x classes x width
LARGE = 5000  # candidates above which K-means works on mini-batches
MANY = 1000  # clusters above which their first centres are drawn evenly instead of by k-means++


@torch.no_grad()
def select(
    pool: Pool,
    budget: int,
    *,
    generator: torch.Generator,
    record: Record = None,
    variant: Literal["closed_form", "optimised"] = "closed_form",
    cap_step: Share = 1 / 32,
    learning_rate: Positive = 0.1,
    iterations: Count = 5,
    l2: NotNegative = 0.01,
) -> Tensor:
    """Choose ``budget`` samples near the centres of the candidates' clusters.

    Args:
        pool: with ``embeddings``, ``classifier``, ``labelled`` and ``labels``.
        budget: K.
        generator: draws the first set, the clustering, and what fills up.
        record: receives the last ``cap``, the number of ``candidates``, and how many were
            ``filled`` in at random for want of candidates.
        variant: how alpha is found, see ``_alfa``.
        cap_step: the cap is raised by this until there are more than K candidates or it is 1; the
            paper has 0.2, the authors' code 1/32.
        learning_rate: of Adam, only for ``optimised``.
        iterations: of Adam, only for ``optimised``.
        l2: weight of alpha's norm, only for ``optimised``.
    """
    check_budget(pool, budget)
    labelled, labels = pool.need("labelled"), pool.need("labels")
    embeddings, classifier = pool.need("embeddings"), pool.need("classifier")
    if not len(labelled):
        return random.select(pool, budget, generator=generator)
    e = embeddings.to(classifier.weight)
    anchors = torch.stack([e[labelled[labels == label]].mean(0) for label in labels.unique()])
    among = among_unlabelled(pool, budget, generator=generator)
    if variant == "closed_form":
        rounds = _by_closed_form(e, among, anchors, classifier, cap_step)
    else:
        options = {"learning_rate": learning_rate, "iterations": iterations, "l2": l2}
        rounds = _by_adam(e, among, anchors, classifier, cap_step, options)
    for cap, flips in rounds:  # noqa: B007 (the last ones are used)
        if int(flips.sum()) > budget:
            break
    candidates = among[flips]
    chosen = candidates[spread(e[candidates], min(budget, len(candidates)), generator=generator)]
    rest = among[~torch.isin(among, chosen)]
    drawn = torch.randperm(len(rest), generator=generator)[: budget - len(chosen)]
    if record is not None:
        record |= {"cap": cap, "candidates": len(candidates), "filled": len(drawn)}
    return torch.cat([chosen, rest[drawn]])


def spread(
    e: Float[Tensor, "m d"], count: int, *, generator: torch.Generator
) -> Int64[Tensor, " k"]:
    """Positions of the samples nearest to the centres of ``count`` clusters, all different.

    K-means on embeddings of unit length, from one start.
    """
    if count == len(e):
        return torch.arange(count)
    unit = normalize(e, dim=1)
    kind = MiniBatchKMeans if len(e) > LARGE else KMeans
    means = kind(
        n_clusters=count,
        init="k-means++" if count <= MANY else "random",
        n_init=1,
        random_state=int(torch.randint(2**31 - 1, (1,), generator=generator)),
    ).fit(unit.numpy())
    # all samples have one length, so the nearest to a centre has the largest product with it
    return nearest_unused(unit, torch.from_numpy(means.cluster_centers_).to(unit))


Rounds = Iterator[tuple[float, Bool[Tensor, " m"]]]


def _caps(step: float) -> Iterator[float]:
    """``step``, twice ``step``, ... and 1."""
    count = 1
    while count * step < 1:
        yield count * step
        count += 1
    yield 1.0


def _by_closed_form(
    e: Tensor, among: Tensor, anchors: Tensor, classifier: nn.Linear, cap_step: float
) -> Rounds:
    thresholds = torch.cat([flipping_caps(e[p], anchors, classifier) for p in among.split(CHUNK)])
    for cap in _caps(cap_step):
        yield cap, thresholds < cap


def _by_adam(
    e: Tensor,
    among: Tensor,
    anchors: Tensor,
    classifier: nn.Linear,
    cap_step: float,
    options: dict[str, float],
) -> Rounds:
    flips = torch.zeros(len(among), dtype=torch.bool)
    for cap in _caps(cap_step):
        for anchor in anchors:
            for rows in (~flips).nonzero().squeeze(1).split(CHUNK):  # what flipped stays flipped
                flips[rows] = optimised_flips(e[among[rows]], anchor, classifier, cap, **options)  # type: ignore[arg-type]
        yield cap, flips
