"""From K centroids to exactly K distinct samples, with the answer of a full sort.

The rule is that of `selection._exact`: each centroid, in order, takes its nearest sample that no
earlier one has taken. A list of the m nearest samples of each centroid decides nearly all of them.
The lists come from one pass in the fast product; its error is bounded, and whatever the bound
leaves open is looked up again in float32.
"""

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from vecaf_lib.centroids.products import BLOCK, Product, code, cosines, error
from vecaf_lib.centroids.rows import Rows

LENGTH = 32  # samples listed for each centroid
PENDING = 4_000_000  # candidates kept before they are sorted into the lists


class Lists:
    """The ``length`` best samples of each of K centroids, as they stream by."""

    def __init__(self, k: int, length: int, device: torch.device) -> None:
        self.k, self.length = k, length
        self.score = torch.empty(0, device=device)
        self.column = torch.empty(0, dtype=torch.int64, device=device)
        self.row = torch.empty(0, dtype=torch.int64, device=device)
        self.threshold = torch.full((k,), -2.0, device=device)  # below any cosine
        self.pending: list[tuple[Tensor, Tensor, Tensor]] = []
        self.waiting = 0

    def offer(self, found: Float[Tensor, "m b"], first_row: int, first_column: int) -> None:
        """Take what is at least as good as the worst of a full list."""
        floor = self.threshold[first_column : first_column + found.shape[1]]
        row, column = (found >= floor).nonzero(as_tuple=True)
        self.add(found[row, column], column + first_column, row + first_row)

    def add(self, score: Tensor, column: Tensor, row: Tensor) -> None:
        """Candidates, one an element."""
        self.pending.append((score, column, row))
        self.waiting += len(score)
        if self.waiting > PENDING:
            self.merge()

    def merge(self) -> None:
        """Sort the candidates into the lists: by centroid, best first, ties to the lower row."""
        parts = [(self.score, self.column, self.row), *self.pending]
        score, column, row = (torch.cat([part[i] for part in parts]) for i in range(3))
        self.pending, self.waiting = [], 0
        order = row.argsort(stable=True)
        order = order[score[order].argsort(descending=True, stable=True)]
        order = order[column[order].argsort(stable=True)]
        score, column, row = score[order], column[order], row[order]
        counts = torch.bincount(column, minlength=self.k)
        place = torch.arange(len(column), device=column.device) - (counts.cumsum(0) - counts)[
            column
        ]
        kept = place < self.length
        self.score, self.column, self.row = score[kept], column[kept], row[kept]
        full = place == self.length - 1
        self.threshold[column[full]] = score[full]


def candidates(
    rows: Rows, theta: Float[Tensor, "k d"], product: Product, length: int = LENGTH
) -> Lists:
    """The best samples of every centroid, from all processes, scored in float32.

    The list of a centroid is the head of the full sort: it holds every sample above its threshold.
    """
    k = len(theta)
    lists = Lists(k, min(length, rows.total), rows.device)
    coded = code(theta, product, one_scale=True)
    bound = 0.0
    step = max(1, rows.own // max(1, min(4096, rows.own)))
    some = torch.arange(0, rows.own, step)  # a first look sets thresholds that most rows fail
    x = code(rows.take(some[: rows.chunk]), product)
    for start in range(0, k, BLOCK):
        found = cosines(x, coded[start : start + BLOCK])
        worst = found.topk(min(lists.length, len(found)), dim=0).values[-1]
        if len(found) >= lists.length:
            lists.threshold[start : start + BLOCK] = worst
    for part in rows.chunks():
        x = code(rows.take(part), product)
        bound = max(bound, error(x, coded))
        for start in range(0, k, BLOCK):
            found = cosines(x, coded[start : start + BLOCK])
            lists.offer(found, rows.first + part.start, start)
    lists.merge()
    floor = lists.threshold + bound  # no sample outside a list can be above
    exact = _rescored(rows, theta, lists, floor)
    if product == "float32":
        return exact
    open_ = torch.bincount(exact.column, minlength=k) < min(length // 4, rows.total)
    unsure = _everyone(rows, open_)
    if len(unsure):  # too few are certain: look at all samples in float32
        again = candidates(rows, theta[unsure], "float32", length)
        settled = ~torch.isin(exact.column, unsure)
        exact.score = torch.cat([exact.score[settled], again.score])
        exact.row = torch.cat([exact.row[settled], again.row])
        exact.column = torch.cat([exact.column[settled], unsure[again.column]])
        exact.merge()
    return exact


def _everyone(rows: Rows, flags: Tensor) -> Int64[Tensor, " u"]:
    return rows.processes.largest(flags.long()).nonzero().squeeze(1)


def _rescored(rows: Rows, theta: Tensor, lists: Lists, floor: Tensor) -> Lists:
    """The lists of all processes with float32 cosines, cut where a sample may be missing."""
    score = torch.empty_like(lists.score)
    order = lists.row.argsort()
    for part in order.split(rows.chunk):
        x = rows.take((lists.row[part] - rows.first).cpu())
        score[part] = (x * theta[lists.column[part]]).sum(1)
    merged = Lists(lists.k, lists.length, rows.device)
    sizes = rows.processes.lists(torch.tensor([len(score)], device=rows.device))
    longest = max(int(size) for size in sizes)
    packed = torch.zeros(3, longest, dtype=torch.float64, device=rows.device)
    packed[:, : len(score)] = torch.stack([score.double(), lists.column.double(), lists.row.double()])
    floor = rows.processes.largest(floor)
    for size, part in zip(sizes, rows.processes.lists(packed), strict=True):
        score, column, row = part[:, : int(size)]
        merged.add(score.float(), column.long(), row.long())
    merged.length = merged.length * rows.processes.size
    merged.merge()
    certain = merged.score > floor[merged.column]
    merged.score, merged.column, merged.row = (
        values[certain] for values in (merged.score, merged.column, merged.row)
    )
    merged.length = lists.length
    return merged


def choose(
    rows: Rows, theta: Float[Tensor, "k d"], product: Product, length: int = LENGTH
) -> Int64[Tensor, " k"]:
    """Each centroid, in order, takes its nearest sample that no earlier one has taken.

    Args:
        rows: the pool.
        theta: K unit centroids, the same in every process.
        product: of the first look.
        length: samples listed for each centroid.

    Returns:
        Numbers of samples in the whole pool; the same in every process.
    """
    lists = candidates(rows, theta, product, length)
    counts = torch.bincount(lists.column, minlength=len(theta)).tolist()
    row = lists.row.tolist()
    taken: set[int] = set()
    chosen, at = [], 0
    for k, count in enumerate(counts):
        own = next((r for r in row[at : at + count] if r not in taken), None)
        at += count
        if own is None:  # the whole list is taken: look at every sample that is free
            own = _best_free(rows, theta[k], taken)
        taken.add(own)
        chosen.append(own)
    return torch.tensor(chosen)


def _best_free(rows: Rows, centroid: Float[Tensor, " d"], taken: set[int]) -> int:
    best = torch.tensor([-3.0, 0.0], dtype=torch.float64, device=rows.device)
    used = np.fromiter(taken, dtype=np.int64)
    for part in rows.chunks():
        found = (rows.take(part) * centroid).sum(1)
        first = rows.first + part.start
        here = used[(used >= first) & (used < first + len(found))] - first
        found[torch.from_numpy(here).to(rows.device)] = -3.0
        value, index = found.max(0)
        if float(value) > float(best[0]):
            best = torch.stack([value.double(), (index + first).double()])
    everyone = torch.stack(rows.processes.lists(best))  # (processes, 2), in the pool's order
    return int(everyone[everyone[:, 0].argmax(), 1])
