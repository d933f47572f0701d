r"""ProbCover (Yehuda, Dekel, Hacohen and Weinshall, NeurIPS 2022): balls that cover the pool.

$$s_{t+1} = \arg\max_i\; \big|\{j \in U_t : |e_i - e_j| < \delta\}\big|,\quad
  U_{t+1} = U_t \setminus \{j : |e_{s_{t+1}} - e_j| < \delta\}$$

``e`` embeddings of unit length, U the samples that are not covered; the kept sets cover first.
delta is the largest radius at which 95 % of the balls hold samples of one cluster only, under
k-means with as many clusters as classes. Ties, and all samples once everything is covered, are
drawn at random, so that the order of the files chooses nothing. No label is used: the number of
classes is known before any image is labelled.
"""

from typing import Annotated

import torch
from jaxtyping import Float, Int64
from pydantic import Field
from torch import Generator, Tensor

from vecaf_lib.options import Positive
from vecaf_lib.selection import descent
from vecaf_lib.selection.kmeans import clusters
from vecaf_lib.selection.pool import Pool, Record

NEEDS = frozenset({"embeddings"})

IMPURE = 0.05  # of the balls, at most
SAMPLE = 10_000  # balls looked at, at most: the share of pure ones is off by 0.2 points, as 1 SE


def pure_cosine(e: Float[Tensor, "n d"], c: Int64[Tensor, " n"], *, generator: Generator) -> float:
    """The cosine at delta: 95 % of rows have no row of another cluster nearer than that."""
    rows = torch.randperm(len(e), generator=generator)[:SAMPLE]
    largest = []  # cosine to a row of another cluster
    for at in rows.split(descent.CHUNK // 16):
        other = (e[at] @ e.T).masked_fill_(c[at, None] == c, -2)  # (chunk, n)
        largest.append(other.amax(1))
    return float(torch.cat(largest).sort(descending=True).values[int(IMPURE * len(rows))])


def degrees(
    e: Float[Tensor, "n d"], targets: Float[Tensor, "m d"], cosine: float
) -> Int64[Tensor, " n"]:
    """How many targets each row has nearer than delta."""
    counts = [
        sum((rows @ part.T > cosine).sum(1) for part in targets.split(descent.CHUNK))
        for rows in e.split(descent.CHUNK)
    ]
    return torch.cat(counts)


def select(
    pool: Pool,
    budget: int,
    *,
    generator: Generator,
    record: Record = None,
    delta: Positive | None = None,
    classes: Annotated[int, Field(ge=2)] | None = None,
) -> Tensor:
    """Choose the ball with most samples uncovered, again and again; the first k are that of k.

    Two passes over all pairs of samples, at most: to count, and to take off what was covered.

    Args:
        record: receives ``delta`` and ``covered``, the share of the pool in the balls.
        delta: the radius, a distance between unit vectors; None, as above.
        classes: clusters that a ball should not mix; None, the rule of thumb sqrt(N / 2).
    """
    pool.check_budget(budget)
    e, kept = pool.unit(), pool.covered()
    if delta is None:
        k = min(pool.size, classes or max(2, round((pool.size / 2) ** 0.5)))
        cosine = pure_cosine(e, clusters(e, k, generator=generator), generator=generator)
    else:
        cosine = 1 - delta**2 / 2
    uncovered = torch.ones(pool.size, dtype=torch.bool)
    if len(kept):
        uncovered = descent.nearest(e, e[kept])[0] <= cosine
    degree = degrees(e, e[uncovered], cosine)
    candidates = pool.candidates()
    candidates = candidates[torch.randperm(len(candidates), generator=generator)]
    chosen: list[int] = []
    for _ in range(budget):
        chosen.append(int(candidates[degree[candidates].argmax()]))
        new = uncovered & (e @ e[chosen[-1]] > cosine)
        uncovered &= ~new
        degree -= degrees(e, e[new], cosine)
        degree[chosen] = -pool.size  # never again
    if record is not None:
        record["delta"] = min(2.0, max(0.0, 2 - 2 * cosine) ** 0.5)
        record["covered"] = 1 - float(uncovered.double().mean())
    return torch.tensor(chosen)
