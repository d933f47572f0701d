r"""TypiClust (Hacohen, Dekel and Weinshall, ICML 2022): the typical sample of each cluster.

$$\text{typicality}(i) = \Big(\frac1k \sum_{j \in \mathrm{NN}_k(i)} |e_i - e_j|\Big)^{-1}$$

``e`` embeddings of unit length, NN the min(20, half of the cluster's size) nearest samples in i's
own cluster. The pool is divided into min(kept + K, 500) clusters, so that each kept sample has one
of its own; the clusters with fewest kept samples come first, of those the largest, and each in turn
gives its most typical sample that is left, round after round. No label is used.
"""

import torch
from jaxtyping import Float, Int64
from torch import Generator, Tensor

from vecaf_lib.selection import descent
from vecaf_lib.selection.kmeans import clusters
from vecaf_lib.selection.pool import Pool, Record

NEEDS = frozenset({"embeddings"})

CLUSTERS = 500  # at most
MINIBATCH = 50  # clusters beyond which k-means goes by minibatches
NEIGHBOURS = 20  # at most
SMALL = 5  # of which a cluster serves only when all larger ones are used up


def cluster(e: Float[Tensor, "n d"], k: int, *, generator: Generator) -> Int64[Tensor, " n"]:
    """The cluster, 0 to k - 1, of each unit row."""
    if k <= MINIBATCH:
        return clusters(e, k, generator=generator)
    from sklearn.cluster import MiniBatchKMeans  # on first use: slow to import

    seed = int(torch.randint(2**31 - 1, (), generator=generator))
    rows = e.double().numpy()  # in float32 ties fall otherwise now and then, by where memory lies
    labels = MiniBatchKMeans(k, random_state=seed, n_init=1).fit_predict(rows)
    return torch.from_numpy(labels).long()


def by_typicality(e: Float[Tensor, "m d"]) -> Int64[Tensor, " m"]:
    """Rows of a cluster, most typical first, of equals the first."""
    if (k := min(NEIGHBOURS, len(e) // 2)) == 0:
        return torch.zeros(1, dtype=torch.int64)
    mean = []
    for start in range(0, len(e), descent.CHUNK):
        cosine = e[start : start + descent.CHUNK] @ e.T  # (chunk, m)
        cosine.diagonal(start).fill_(-torch.inf)  # itself
        mean.append((2 - 2 * cosine.topk(k, dim=1).values).clamp_min(0).sqrt().mean(1))
    return torch.cat(mean).argsort(stable=True)


def select(pool: Pool, budget: int, *, generator: Generator, record: Record = None) -> Tensor:
    """Choose the most typical samples, round by round; another budget has other clusters."""
    pool.check_budget(budget)
    e, kept, free = pool.unit(), pool.covered(), pool.free()
    k = min(len(kept) + budget, CLUSTERS)
    c = cluster(e, k, generator=generator)
    size, labelled = torch.bincount(c, minlength=k), torch.bincount(c[kept], minlength=k)
    turns = []  # sorted, the order of choice
    for i in size.nonzero().squeeze(1).tolist():
        inside = (c == i).nonzero().squeeze(1)
        inside = inside[by_typicality(e[inside])]
        small, rank = int(size[i]) <= SMALL, (int(labelled[i]), -int(size[i]), i)
        samples = inside[free[inside]].tolist()
        turns += [(small, turn, rank, sample) for turn, sample in enumerate(samples)]
    return torch.tensor([sample for *_, sample in sorted(turns)[:budget]])
