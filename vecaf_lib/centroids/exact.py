"""From K centroids to exactly K distinct samples, with the answer of a full sort.

The rule is that of `selection._exact`: each centroid, in order, takes its nearest sample that no
earlier one has taken. The head of each centroid's sorted list decides nearly all of them. One pass
in the fast product finds it: a sample is kept while, at most the product's error above its score,
it could belong to the head; those kept are then scored in float32.
"""

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from vecaf_lib.centroids.lists import Lists, order_of
from vecaf_lib.centroids.products import BLOCK, Coded, Product, code, cosines, error
from vecaf_lib.centroids.rows import Rows

HEAD = 32  # samples of which each centroid's list is certain, at least
SLACK = 1e-6  # between two float32 sums of the same products
LOOK = 2048  # rows of the first look, which only sets thresholds


def heads(
    rows: Rows, theta: Float[Tensor, "k d"], product: Product, head: int = HEAD
) -> tuple[Int64[Tensor, " c"], Int64[Tensor, " c"]]:
    """The head of every centroid's list, sorted in float32, from all processes.

    Returns:
        Centroid and sample of each entry, centroid by centroid, nearest first; at least ``head``
        entries each, or the whole pool.
    """
    k = len(theta)
    lists = Lists(k, min(head, rows.total), rows.device)
    coded = code(theta, product)
    _first_look(rows, coded, lists, product)
    for part in rows.chunks():
        x = code(rows.take(part), product)
        off = error(x, coded) + SLACK
        for start in range(0, k, BLOCK):
            found = cosines(x, coded[start : start + BLOCK])
            lists.offer(found, off, rows.first + part.start, start)
    lists.merge()
    crowded = rows.processes.largest(lists.crowded.long()).bool()
    column, row = _sorted(rows, theta, lists, crowded)
    if product == "float32" or not bool(crowded.any()):
        return column, row
    again = crowded.nonzero().squeeze(1)
    column_2, row_2 = heads(rows, theta[again], "float32", head)
    column, row = torch.cat([column, again[column_2]]), torch.cat([row, row_2])
    order = column.argsort(stable=True)
    return column[order], row[order]


def _first_look(rows: Rows, coded: Coded, lists: Lists, product: Product) -> None:
    """Thresholds that most rows fail, from a few rows all over the pool."""
    some = torch.linspace(0, rows.own - 1, min(LOOK, rows.own)).long()
    if len(some) < lists.head:
        return
    x = code(rows.take(some), product)
    off = error(x, coded) + SLACK
    for start in range(0, len(coded), BLOCK):
        best = cosines(x, coded[start : start + BLOCK]).topk(lists.head, dim=0).values
        lists.threshold[start : start + BLOCK] = best[-1] - off


def _sorted(
    rows: Rows, theta: Tensor, lists: Lists, crowded: Tensor
) -> tuple[Int64[Tensor, " c"], Int64[Tensor, " c"]]:
    """Score the candidates in float32, join those of all processes, cut where one may be missing.

    Float32 differs in the last bits by the way a sum is made: all are scored here, the same way.
    """
    score = torch.empty_like(lists.low)
    for part in lists.row.argsort().split(rows.chunk):
        x = rows.take((lists.row[part] - rows.first).cpu())
        score[part] = (x * theta[lists.column[part]]).sum(1)
    packed = torch.stack([score.double(), lists.column.double(), lists.row.double()])
    sizes = rows.processes.lists(torch.tensor([len(score)], device=rows.device))
    padded = torch.zeros(3, max(int(n) for n in sizes), dtype=torch.float64, device=rows.device)
    padded[:, : len(score)] = packed
    parts = [
        part[:, : int(size)] for size, part in zip(sizes, rows.processes.lists(padded), strict=True)
    ]
    score, column, row = torch.cat(parts, 1)
    column, row = column.long(), row.long()
    floor = rows.processes.largest(torch.where(lists.crowded, -3.0, lists.threshold))
    certain = (score >= floor[column] + SLACK) & ~crowded[column]
    if rows.total <= lists.head:
        certain = torch.ones_like(certain)
    score, column, row = score[certain], column[certain], row[certain]
    order = order_of(column, score, row)
    return column[order], row[order]


def choose(
    rows: Rows, theta: Float[Tensor, "k d"], product: Product, head: int = HEAD
) -> Int64[Tensor, " k"]:
    """Each centroid, in order, takes its nearest sample that no earlier one has taken.

    Args:
        rows: the pool.
        theta: K unit centroids, the same in every process.
        product: of the first look.
        head: samples of which each list is certain.

    Returns:
        Numbers of samples in the whole pool; the same in every process.
    """
    column, found = heads(rows, theta, product, head)
    counts = torch.bincount(column, minlength=len(theta)).tolist()
    row = found.tolist()
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
