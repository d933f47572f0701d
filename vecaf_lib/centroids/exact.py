"""From K centroids to exactly K distinct samples, with the answer of a full sort.

The rule is that of `selection._exact`: each centroid, in order, takes its nearest sample that no
earlier one has taken. The head of each centroid's sorted list decides nearly all of them. One pass
in the fast product finds it: a sample is kept while, at most the product's error above its score,
it could belong to the head; those kept are then scored in float32.
"""

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from vecaf_lib.centroids.lists import Lists, order_of
from vecaf_lib.centroids.products import BLOCK, Coded, Product, code, cosines, error
from vecaf_lib.centroids.rows import Rows

HEAD = 8  # samples of which each centroid's list is certain, at least
SLACK = 1e-6  # between two float32 sums of the same products
LOOK = 2048  # rows of the first look, which only sets thresholds, at least


def heads(
    rows: Rows, theta: Float[Tensor, "k d"], product: Product, head: int = HEAD
) -> tuple[Int64[Tensor, " c"], Int64[Tensor, " c"]]:
    """The head of every centroid's list, sorted in float32, from all processes.

    Returns:
        Centroid and sample of each entry, centroid by centroid, nearest first; ``head`` entries
        each, up to near ties at the end, or the whole pool.
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
    """Thresholds that most rows fail, from a part of the pool, evenly spaced."""
    count = min(rows.own, max(LOOK, rows.own // 32))
    some = torch.arange(count) * rows.own // count  # no row twice
    best = torch.full((lists.head, lists.k), -3.0, device=rows.device)
    for part in rows.parts(some):
        x = code(rows.take(part), product)
        off = error(x, coded) + SLACK
        for start in range(0, lists.k, BLOCK):
            block = slice(start, start + BLOCK)
            found = cosines(x, coded[block]) - off
            top = found.topk(min(lists.head, len(found)), dim=0).values
            best[:, block] = torch.cat([best[:, block], top]).topk(lists.head, dim=0).values
    lists.threshold = best[-1]


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
    taken: dict[int, None] = {}  # in the order of choice
    while len(taken) < len(theta):
        rest = theta[len(taken) :]
        column, row = heads(rows, rest, product, min(head, rows.total))
        _take(column, row, len(rest), taken)
        head *= 8  # a list of which all are taken: longer ones for the centroids that are left
    return torch.tensor(list(taken))


def _take(
    column: Int64[Tensor, " c"], row: Int64[Tensor, " c"], k: int, taken: dict[int, None]
) -> None:
    """Let the centroids take from their lists, in order, up to one that finds nothing free."""
    counts = torch.bincount(column, minlength=k).tolist()
    samples = row.tolist()
    at = 0
    for count in counts:
        own = next((r for r in samples[at : at + count] if r not in taken), None)
        at += count
        if own is None:
            return
        taken[own] = None
