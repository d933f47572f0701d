"""``select``: the engine in one call.

Each centroid, in order, takes its nearest sample that no earlier one has taken, with the answer of
a full sort. The head of its sorted list decides nearly always. One pass in the fast product finds
it: a sample stays a candidate while it could belong to the head, given the product's error;
candidates are scored in float32.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from vecaf_lib.ensemble import combine
from vecaf_lib.errors import BadInput
from vecaf_lib.large_pool.descent import Member, Plan, descend
from vecaf_lib.large_pool.products import BLOCK, Coded, Product, Rows, code, cosines, error
from vecaf_lib.objective import loss_distribution
from vecaf_lib.options import checked

HEAD = 8  # samples of which each centroid's list is certain, at least
SLACK = 1e-6  # between two float32 sums of the same products
CROWD = 2048  # candidates of a centroid beyond which it is left to a more exact product
PENDING = 100_000  # candidates that wait to be sorted into the lists, or as many as are in them

Entries = tuple[Int64[Tensor, " c"], Int64[Tensor, " c"]]  # centroid and sample of each entry


class Lists:
    """Candidates of K centroids: all samples that may reach the ``threshold`` of one.

    That is what the ``head``-th best of the centroid reaches for certain.
    """

    def __init__(self, k: int, head: int, device: torch.device) -> None:
        self.k, self.head = k, head
        self.threshold = torch.full((k,), -3.0, device=device)  # below any cosine
        self.crowded = torch.zeros(k, dtype=torch.bool, device=device)
        # lowest and highest score possible, column and row of candidates; part 0 is merged
        none = torch.empty(0, device=device)
        self.parts = [(none, none, none.long(), none.long())]

    def offer(self, block: Float[Tensor, "m b"], off: float, row: int, column: int) -> None:
        """Add what may reach the threshold of a block, up to ``off`` wrong, at (row, column)."""
        floor = self.threshold[column : column + block.shape[1]] - off
        rows, columns = (block >= floor).nonzero(as_tuple=True)
        score = block[rows, columns]
        self.parts.append((score - off, score + off, columns + column, rows + row))
        merged, *waiting = (len(part[0]) for part in self.parts)
        if sum(waiting) > max(PENDING, merged):
            self.merge()

    def merge(self) -> None:
        """Raise the thresholds, drop who fails them; order: centroid, best first, lower row."""
        low, high, column, row = (torch.cat(tensors) for tensors in zip(*self.parts, strict=True))
        order = _order(column, low, row)
        low, high, column, row = low[order], high[order], column[order], row[order]
        counts = torch.bincount(column, minlength=self.k)
        rank = torch.arange(len(column)).to(column) - (counts.cumsum(0) - counts)[column]
        last = rank == self.head - 1  # of its list
        self.threshold[column[last]] = torch.maximum(self.threshold[column[last]], low[last])
        kept = high >= self.threshold[column]
        self.crowded |= torch.bincount(column[kept], minlength=self.k) > max(CROWD, self.head)
        self.threshold[self.crowded] = torch.inf
        kept &= ~self.crowded[column]
        self.parts = [(low[kept], high[kept], column[kept], row[kept])]


def heads(rows: Rows, theta: Float[Tensor, "k d"], product: Product, head: int = HEAD) -> Entries:
    """Every centroid's ``head`` nearest samples, in float32, up to near ties at the end."""
    lists = Lists(len(theta), min(head, rows.total), rows.device)
    coded = code(theta, product)
    _estimate_thresholds(rows, coded, lists, product)
    for part, x in rows.stream():
        for start, block, off in _scores(x, coded, product):
            lists.offer(block, off, int(part[0]), start)
    lists.merge()
    column, row = _sorted(rows, theta, lists)
    if product == "float32" or not bool(lists.crowded.any()):
        return column, row
    again = lists.crowded.nonzero().squeeze(1).cpu()
    column_2, row_2 = heads(rows, theta[again], "float32", head)
    column, row = torch.cat([column, again[column_2]]), torch.cat([row, row_2])
    order = column.argsort(stable=True)
    return column[order], row[order]


def _scores(x: Tensor, coded: Coded, product: Product) -> Iterator[tuple[int, Tensor, float]]:
    """Each block of centroids: its start, cosines with it, and their largest error."""
    x_coded = code(x, product)
    off = error(x_coded, coded) + SLACK
    for start in range(0, len(coded.values), BLOCK):
        yield start, cosines(x_coded, coded.part(slice(start, start + BLOCK))), off


def _estimate_thresholds(rows: Rows, coded: Coded, lists: Lists, product: Product) -> None:
    """Set thresholds that most rows fail, from a part of the pool, evenly spaced."""
    count = min(rows.total, max(2048, rows.total // 32))
    best = lists.threshold.repeat(lists.head, 1)
    for _, x in rows.stream(torch.arange(count) * rows.total // count):  # no row twice
        for start, block, off in _scores(x, coded, product):
            columns = slice(start, start + BLOCK)
            top = (block - off).topk(min(lists.head, len(block)), dim=0).values
            best[:, columns] = torch.cat([best[:, columns], top]).topk(lists.head, dim=0).values
    lists.threshold = best[-1]


def _sorted(rows: Rows, theta: Float[Tensor, "k d"], lists: Lists) -> Entries:
    """Score the candidates in float32, all the same way, and cut where one may be missing."""
    _, _, column, row = lists.parts[0]
    by_row = row.argsort()
    column, row = column[by_row], row[by_row]
    parts = zip(rows.stream(row.cpu()), column.split(rows.chunk), strict=True)
    score = torch.cat([(x * theta[c]).sum(1) for (_, x), c in parts])
    if rows.total > lists.head:
        certain = score >= lists.threshold[column] + SLACK
        column, row, score = column[certain], row[certain], score[certain]
    order = _order(column, score, row)
    return column[order].cpu(), row[order].cpu()


def _order(column: Tensor, score: Tensor, row: Tensor) -> Tensor:
    """Sort by centroid, then best first, then by row."""
    order = row.argsort(stable=True)
    order = order[score[order].argsort(descending=True, stable=True)]
    return order[column[order].argsort(stable=True)]


def choose(
    rows: Rows, theta: Float[Tensor, "k d"], product: Product, head: int = HEAD
) -> Int64[Tensor, " k"]:
    """Each centroid, in order, takes its nearest sample that no earlier one has taken."""
    taken: dict[int, None] = {}  # in the order of choice
    while len(taken) < len(theta):
        rest = theta[len(taken) :]
        column, row = heads(rows, rest, product, head)
        for samples in row.split(torch.bincount(column, minlength=len(rest)).tolist()):
            free = next((sample for sample in samples.tolist() if sample not in taken), None)
            if free is None:
                break
            taken[free] = None
        head *= 8  # a list of which all are taken: longer ones for the centroids that are left
    return torch.tensor(list(taken))


def select(
    embeddings: Any,
    budget: int,
    losses: Any = None,
    *,
    excluded: Int64[np.ndarray, " x"] | Int64[Tensor, " x"] | None = None,
    ensemble: int = 1,
    shrinkage: float = 1.0,
    seed: int = 0,
    generator: torch.Generator | None = None,
    draws: int | None = None,
    device: torch.device | str = "cpu",
    progress: bool = False,
    record: dict[str, Any] | None = None,
    **options: Any,
) -> np.ndarray:
    """Choose ``budget`` samples, K, that stand for a pool.

    Args:
        embeddings: N x d floats, a numpy array, a ``numpy.memmap`` or a torch tensor.
        losses: N losses, 0 or larger, which weigh the samples (equation 3); None, all alike.
        excluded: rows that may not be chosen; the centroids are fitted to them, too.
        ensemble: E members, started at different samples; VeCAF's is 5.
        shrinkage: rho of the ensemble's correction, 1 gives the members' mean.
        seed: fixes the initial centroids and the draws, unless ``generator`` is given.
        draws: samples drawn at each reassignment but the last; 0 takes all,
            None does while N x K is at most 10^9 and then takes 16 a centroid.
        device: where blocks are computed, such as ``cuda``; K centroids are matched on the CPU.
        record: receives ``curve``, member 1's objective at each reassignment, ``objective``, the
            last of them, ``iterations`` made, and ``centroids`` (K x d) as corrected.
        options: any setting of ``descent.Plan``.

    Returns:
        K distinct indices, the same for any number of threads, up to near ties that the order of
        float32 sums decides.
    """
    rows = Rows(embeddings, device=device)
    free = np.delete(np.arange(rows.total), [] if excluded is None else np.asarray(excluded))
    if not 1 <= budget <= len(free):
        raise BadInput(f"budget is {budget}; use 1 to {len(free)}, the rows that may be chosen.")
    if ensemble < 1 or not 0 < shrinkage <= 1:
        raise BadInput("ensemble must be at least 1 and shrinkage in (0, 1].")
    if draws is None:
        draws = 0 if rows.total * budget <= 10**9 else min(16 * budget, rows.total)
    plan = Plan(**checked(Plan, options | {"draws": draws}, "select"))
    values = torch.ones(rows.total) if losses is None else torch.as_tensor(losses).detach().cpu()
    if values.shape != (rows.total,) or not bool(((values >= 0) & values.isfinite()).all()):
        raise BadInput(f"losses: need a finite number, 0 or larger, for each of {rows.total} rows.")
    p = loss_distribution(values.double(), plan.loss_power)
    g = torch.Generator().manual_seed(seed) if generator is None else generator
    members = [Member(rows.start(budget, g), plan) for _ in range(ensemble)]
    done = descend(rows, p, members, generator=g, progress=progress)
    theta = combine([member.theta.cpu() for member in members], shrinkage)
    if record is not None:
        curve = members[0].curve
        record |= {"curve": curve, "objective": curve[-1], "iterations": done}
        record["centroids"] = theta.numpy()
    candidates = Rows(embeddings, device=device, among=torch.from_numpy(free))
    return free[choose(candidates, theta.to(rows.device), plan.product).numpy()]
