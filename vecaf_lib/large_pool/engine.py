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
from vecaf_lib.large_pool.descent import Centroids, Plan
from vecaf_lib.large_pool.products import (
    BLOCK,
    Coded,
    Part,
    Product,
    Rows,
    alone,
    code,
    cosines,
    error,
    fastest,
    nearest,
)
from vecaf_lib.objective import loss_distribution
from vecaf_lib.options import checked

HEAD = 8  # samples of which each centroid's list is certain, at least
SLACK = 1e-6  # between two float32 sums of the same products
CROWD = 2048  # candidates of a centroid beyond which it is left to a more exact product
PENDING = 100_000  # candidates that wait to be sorted into the lists, or as many as are in them

Candidates = tuple[Tensor, Tensor, Tensor, Tensor]  # lowest and highest score, column, row
Entries = tuple[Int64[Tensor, " c"], Int64[Tensor, " c"]]  # centroid and sample of each entry


class Lists:
    """Candidates of K centroids: all samples that may reach the ``threshold`` of one.

    That is what the ``head``-th best of the centroid reaches for certain.
    """

    def __init__(self, k: int, head: int, device: torch.device) -> None:
        self.k, self.head = k, head
        self.threshold = torch.full((k,), -3.0, device=device)  # below any cosine
        self.crowded = torch.zeros(k, dtype=torch.bool, device=device)
        none = torch.empty(0, device=device)
        self.parts: list[Candidates] = [(none, none, none.long(), none.long())]  # part 0 is merged

    def reach(self, block: Float[Tensor, "m b"], off: float, row: int, column: int) -> Candidates:
        """What may reach the threshold of a block, up to ``off`` wrong, at (row, column)."""
        floor = self.threshold[column : column + block.shape[1]] - off
        rows, columns = (block >= floor).nonzero(as_tuple=True)
        score = block[rows, columns]
        return score - off, score + off, columns + column, rows + row

    def add(self, candidates: list[Candidates]) -> None:
        """Keep candidates, to be sorted into the lists when there are enough."""
        self.parts += candidates
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
    coded = code(theta, product, bounded=True)
    _estimate_thresholds(rows, coded, lists, product)

    def work(part: Part, x: Tensor) -> list[Candidates]:
        blocks = _scores(x, coded, product)
        return [lists.reach(block, off, part.start, column) for column, block, off in blocks]

    for found in rows.map(work):
        lists.add(found)
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
    x_coded = code(x, product, bounded=True)
    off = error(x_coded, coded) + SLACK
    for start in range(0, len(coded.values), BLOCK):
        yield start, cosines(x_coded, coded.part(slice(start, start + BLOCK))), off


def _estimate_thresholds(rows: Rows, coded: Coded, lists: Lists, product: Product) -> None:
    """Set thresholds that most rows fail, from a part of the pool, evenly spaced."""
    count = min(rows.total, max(2048, rows.total // 32))
    best = lists.threshold.repeat(lists.head, 1)

    def work(_: Part, x: Tensor) -> Tensor:
        head, blocks = min(lists.head, len(x)), _scores(x, coded, product)
        return torch.cat([(block - off).topk(head, 0).values for _, block, off in blocks], 1)

    for top in rows.map(work, torch.arange(count) * rows.total // count):  # no row twice
        best = torch.cat([best, top]).topk(lists.head, dim=0).values
    lists.threshold = best[-1]


def _sorted(rows: Rows, theta: Float[Tensor, "k d"], lists: Lists) -> Entries:
    """Score the candidates in float32, all the same way, and cut where one may be missing."""
    _, _, column, row = lists.parts[0]
    by_row = row.argsort()
    column, row = column[by_row], row[by_row]
    parts = zip(rows.map(lambda _, x: x, row.cpu()), column.split(rows.chunk), strict=True)
    score = torch.cat([(x * theta[c]).sum(1) for x, c in parts])
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


def represent(
    rows: Rows, chosen: Int64[Tensor, " k"], product: Product
) -> tuple[Int64[Tensor, " n"], Float[Tensor, " n"]]:
    """Each row's nearest among the chosen, by number, and the cosine to it in float32."""
    theta = rows[chosen]
    coded = code(theta, product, one_scale=True)

    def work(_: Part, x: Tensor) -> tuple[Tensor, Tensor]:
        c = nearest(code(x, product), coded)
        return chosen[c.cpu()], (x * theta[c]).sum(1).cpu()

    numbers, similarity = zip(*rows.map(work), strict=True)
    return torch.cat(numbers), torch.cat(similarity)


def numbers(name: str, given: Any, total: int) -> Int64[Tensor, " x"]:
    """Distinct row numbers, sorted; refused where the pool has none such."""
    found = torch.as_tensor([] if given is None else given).long().unique()
    if len(found) and not 0 <= int(found[0]) <= int(found[-1]) < total:
        wrong = int(found[0] if found[0] < 0 else found[-1])
        raise BadInput(f"{name}: there is no row {wrong}; the rows are 0 to {total - 1}.")
    return found


def select(
    embeddings: Any,
    budget: int,
    losses: Any = None,
    *,
    excluded: Any = None,
    labelled: Any = None,
    ensemble: int = 1,
    shrinkage: float = 1.0,
    seed: int = 0,
    generator: torch.Generator | None = None,
    device: torch.device | str = "cpu",
    progress: bool = False,
    record: dict[str, Any] | None = None,
    representatives: bool = False,
    **options: Any,
) -> np.ndarray:
    """Choose ``budget`` samples, K, that stand for a pool.

    Args:
        embeddings: N x d floats, a numpy array, a ``numpy.memmap`` or a torch tensor.
        losses: N losses, 0 or larger, which weigh the samples (equation 3); None, all alike.
        excluded: numbers of rows that may not be chosen; the centroids are fitted to them, too.
        labelled: numbers of rows that are not chosen either, and are centroids that stay where they
            are: what is near to them is covered, and the K free centroids start and go elsewhere.
        ensemble: E members, started at different samples; VeCAF's is 5.
        shrinkage: rho of the ensemble's correction, 1 gives the members' mean.
        seed: fixes the initial centroids and the batches, unless ``generator`` is given.
        device: where blocks are computed, such as ``cuda``; K centroids are matched on the CPU.
        record: receives ``curve``, member 1's objective at each step over the pool, ``objective``,
            the last of them, ``iterations``, their number, ``centroids`` (K x d) as corrected,
            the ``product`` and the number of ``threads`` that were used.
        representatives: also record each row's ``representative``, the nearest of the chosen
            rows, and its ``similarity``, their cosine (both N).
        options: any setting of ``descent.Plan``.

    Returns:
        K distinct indices, the same for any number of threads. Given the centroids they are the
        same for any product, up to near ties that the order of float32 sums decides; the centroids
        differ a little, where a sample lies between two.
    """
    with alone() as threads:
        rows = Rows(embeddings, device=device, threads=threads)
        fixed = numbers("labelled", labelled, rows.total)
        kept = torch.cat([fixed, numbers("excluded", excluded, rows.total)])
        free = np.delete(np.arange(rows.total), kept.numpy())
        if not 1 <= budget <= len(free):
            raise BadInput(
                f"budget is {budget}; use 1 to {len(free)}, the rows that may be chosen."
            )
        if ensemble < 1 or not 0 < shrinkage <= 1:
            raise BadInput("ensemble must be at least 1 and shrinkage in (0, 1].")
        plan = Plan(**checked(Plan, options, "select"))
        values = (
            torch.ones(rows.total) if losses is None else torch.as_tensor(losses).detach().cpu()
        )
        if values.shape != (rows.total,) or not bool(((values >= 0) & values.isfinite()).all()):
            raise BadInput(
                f"losses: need a finite number, 0 or larger, for each of {rows.total} rows."
            )
        p = loss_distribution(values.double(), plan.loss_power).to(rows.device, torch.float32)
        d = rows.embeddings.shape[1]
        product = fastest(d, rows.device) if plan.product == "auto" else plan.product
        g = torch.Generator().manual_seed(seed) if generator is None else generator

        far = torch.ones(rows.total)  # from the labelled
        if len(fixed):
            far = (1 - represent(rows, fixed, product)[1]).index_fill(0, fixed, 0.0)

        def start() -> Tensor:
            """K samples of the pool (ActiveFT's initialisation), and those that are labelled."""
            drawn = torch.randperm(rows.total, generator=g)
            if len(fixed):  # without replacement, by distance: the shortest of exponential waits
                waits = torch.rand(rows.total, generator=g).log().neg() / far.clamp_min(1e-9)
                drawn = waits.argsort()
            return rows[torch.cat([drawn[:budget], fixed])]

        members = [Centroids(rows, p, start(), budget, plan, product) for _ in range(ensemble)]
        done = [member.descend(g, progress) for member in members]
        theta = combine([member.theta[:budget].cpu() for member in members], shrinkage)
        candidates = Rows(embeddings, device=device, among=torch.from_numpy(free), threads=threads)
        chosen = free[choose(candidates, theta.to(rows.device), product).numpy()]
        if record is not None:
            curve = members[0].curve
            record |= {"curve": curve, "objective": curve[-1], "iterations": done[0]}
            record |= {"centroids": theta.numpy(), "product": product, "threads": threads}
            if representatives:
                nearest_chosen, cosine = represent(rows, torch.from_numpy(chosen), product)
                record |= {"representative": nearest_chosen.numpy(), "similarity": cosine.numpy()}
    return chosen
