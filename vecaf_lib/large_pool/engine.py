"""``select``: each centroid, in order, takes its nearest sample that no earlier one has taken.

The head of its sorted list decides nearly always; one pass in float32 finds it.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from vecaf_lib.ensemble import combine
from vecaf_lib.errors import BadInput
from vecaf_lib.large_pool.descent import FULL, Centroids, Plan
from vecaf_lib.large_pool.products import (
    BLOCK,
    Part,
    Product,
    Rows,
    alone,
    code,
    fastest,
    nearest,
    scores,
)
from vecaf_lib.objective import loss_distribution
from vecaf_lib.options import checked

HEAD = 8  # samples of which each centroid's list is certain, at least
SLACK = 1e-6  # between two float32 sums of the same products
CROWD = 2048  # samples of a list, at most, unless it is to have more
PENDING = 100_000  # candidates that wait to be sorted into the lists, or as many as are in them
HELD = 2**24  # numbers of a pool whose unit rows are kept; 64 MiB
FLOATS = ("float16", "float32", "float64")  # of numpy, which are read as they are
ENTRIES = 10**7  # of all lists together, at most

Candidates = tuple[Tensor, Tensor, Tensor]  # score, centroid and sample of each


def heads(rows: Rows, theta: Float[Tensor, "k d"], head: int) -> list[list[int]]:
    """Every centroid's nearest samples, best first, of equals the lower; ``head`` or more each.

    A block of cosines is held beside each centroid's threshold, which its ``head``-th best so far
    sets. What passes is scored anew, all in the same way, and cut where one may be missing.
    """
    k, coded = len(theta), code(theta, "float32")
    head = min(head, rows.total)

    def blocks(x: Tensor) -> Iterator[tuple[int, Tensor]]:
        for start in range(0, k, BLOCK):
            part = coded.part(slice(start, start + BLOCK))
            yield start, scores(code(x, "float32"), part)

    def best(_: Part, x: Tensor) -> Tensor:
        return torch.cat([block.topk(min(head, len(x)), 0).values for _, block in blocks(x)], 1)

    top = torch.full((head, k), -3.0, device=rows.device)  # below any cosine
    count = min(rows.total, max(2048, rows.total // 32))
    for found in rows.map(best, torch.arange(count) * rows.total // count):  # no row twice
        top = torch.cat([top, found]).topk(head, dim=0).values
    threshold = top[-1] - 2 * SLACK

    def passing(part: slice, x: Tensor) -> list[Candidates]:
        candidates = []
        for start, block in blocks(x):
            row, column = (block >= threshold[start : start + BLOCK]).nonzero(as_tuple=True)
            candidates.append((block[row, column], start + column, part.start + row))
        return candidates

    def merge(old: Candidates, *new: Tensor) -> Candidates:
        score, column, row = _ordered(*map(torch.cat, zip(old, new, strict=True)))
        counts = torch.bincount(column, minlength=k)
        rank = torch.arange(len(column)).to(column) - (counts.cumsum(0) - counts)[column]
        for last, below in ((head - 1, 2 * SLACK), (max(CROWD, head) - 1, 0.0)):
            at = rank == last  # of its list
            threshold[column[at]] = torch.maximum(threshold[column[at]], score[at] - below)
        kept = (score >= threshold[column]) & (rank < max(CROWD, head))
        return score[kept], column[kept], row[kept]

    # copied, since the little that passes would else keep the memory of many blocks in pieces
    none = torch.empty(0, dtype=torch.int64, device=rows.device)
    merged: Candidates = (top[0, :0], none, none)
    waiting, used = [*merged], 0
    for candidates in rows.map(passing):
        for part in candidates:
            if used + len(part[0]) > len(waiting[0]):
                merged, used = merge(merged, *(values[:used] for values in waiting)), 0
                room = max(PENDING, len(merged[0]), len(part[0]))
                waiting = [values.new_empty(room) for values in part]
            for place, values in zip(waiting, part, strict=True):
                place[used : used + len(values)] = values
            used += len(part[0])
    _, column, row = merge(merged, *(values[:used] for values in waiting))
    order = row.argsort()
    column, row = column[order], row[order]
    again = zip(rows.map(lambda _, x: x, row.cpu()), column.split(rows.chunk), strict=True)
    score, column, row = _ordered(torch.cat([(x * theta[c]).sum(1) for x, c in again]), column, row)
    certain = (score >= threshold[column] + SLACK) | torch.tensor(rows.total <= head)
    counts = torch.bincount(column[certain], minlength=k)
    return [part.tolist() for part in row[certain].cpu().split(counts.tolist())]


def _ordered(score: Tensor, column: Tensor, row: Tensor) -> Candidates:
    """By centroid, then best first, then by row."""
    order = row.argsort(stable=True)
    order = order[score[order].argsort(descending=True, stable=True)]
    order = order[column[order].argsort(stable=True)]
    return score[order], column[order], row[order]


def choose(rows: Rows, theta: Float[Tensor, "k d"], head: int = HEAD) -> Int64[Tensor, " k"]:
    """Each centroid, in order, takes its nearest sample that no earlier one has taken."""
    taken: dict[int, None] = {}  # in the order of choice
    while len(taken) < len(theta):
        rest = theta[len(taken) : len(taken) + max(1, ENTRIES // head)]
        for samples in heads(rows, rest, head):
            free = next((sample for sample in samples if sample not in taken), None)
            if free is None:
                head *= 8  # a list of which all are taken: longer ones for those that are left
                break
            taken[free] = None
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


def numbers(name: str, values: Any, ndim: int) -> np.ndarray:
    """The values as an array of floats, not copied where they are one; or BadInput."""
    kind = type(values).__name__
    try:
        if isinstance(values, Tensor):
            values = values.detach().cpu()
            values = values.float() if values.dtype == torch.bfloat16 else values
        values = np.asarray(values)
        if values.dtype.kind in "cmMSU":  # complex, times, text
            raise TypeError
        if values.dtype.name not in FLOATS or not values.dtype.isnative:
            values = values.astype(np.float32)
    except (TypeError, ValueError, RuntimeError):
        values = np.empty(())
    if values.ndim != ndim or 0 in values.shape:
        wanted = "a matrix of numbers, one row a sample" if ndim == 2 else "a number for each row"
        raise BadInput(f"{name}: need {wanted}; got {kind} of shape {tuple(values.shape)}.")
    return values


def not_negative(name: str, values: Any, size: int, ndim: int) -> Tensor:
    """``numbers`` as float32, one or one row of them for each row of X; or BadInput."""
    values = torch.from_numpy(numbers(name, values, ndim).astype(np.float32))
    if len(values) != size or not bool(((values >= 0) & values.isfinite()).all()):
        raise BadInput(f"{name}: need finite numbers, 0 or larger, for each of {size} rows.")
    return values


def positions(name: str, values: Any, size: int) -> Int64[np.ndarray, " x"]:
    """Numbers of rows, given so or as a mask, sorted; BadInput unless each is one, and once."""
    values = np.asarray(values.detach().cpu() if isinstance(values, Tensor) else values)
    if values.dtype == bool and values.shape == (size,):
        return np.flatnonzero(values)
    valid = values.ndim == 1 and (values.dtype.kind in "iuf" or not values.size)
    index = np.unique(values) if valid else values
    outside = valid and bool(((index < 0) | (index >= size) | (index % 1 != 0)).any())
    if not valid or outside or len(index) < len(values):
        raise BadInput(f"{name}: need numbers of rows, 0 to {size - 1}, each once, or a mask.")
    return index.astype(np.int64)


def budget_from(name: str, K: Any, size: int, kept: int) -> int:
    """K as an int, of any type that holds one whole number; BadInput if it is out of range."""
    try:
        value = getattr(K, "item", lambda: K)()
    except (ValueError, RuntimeError):  # several numbers
        value = type(K).__name__
    if not isinstance(value, int | float) or value % 1 != 0 or not 1 <= value <= size - kept:
        if isinstance(value, float) and 0 < value < 1:
            share = max(1, round(value * size))
            raise BadInput(f"{name} is {value}; of {size} rows that share is {share}, give that.")
        rows = f"{size - kept} rows that may be chosen"
        raise BadInput(f"{name} is {value!r}; need a whole number, 1 or more, of the {rows}.")
    return int(value)


def select(
    embeddings: Any,
    budget: int,
    losses: Any = None,
    *,
    excluded: Any = (),
    labelled: Any = (),
    generator: torch.Generator | None = None,
    device: torch.device | str = "cpu",
    record: dict[str, Any] | None = None,
    **options: Any,
) -> np.ndarray:
    """Choose ``budget`` samples, K, that stand for a pool.

    Args:
        embeddings: N x d floats, a numpy array, a ``numpy.memmap`` or a torch tensor.
        losses: N losses, 0 or larger, which weigh the samples (equation 3); None, all alike.
        excluded: numbers of rows that may not be chosen; the centroids are fitted to them, too.
        labelled: numbers of rows that are not chosen either, and are centroids that stay where they
            are: what is near to them is covered, and the K free centroids start and go elsewhere.
        generator: draws the initial centroids and the batches; None, one of seed 0.
        device: where blocks are computed, such as ``cuda``; K centroids are matched on the CPU.
        record: receives ``curve``, member 1's objective at each step but early ones in few
            directions, ``objective``, the last of them, ``iterations``, their number,
            ``centroids`` (K x d) as corrected, the ``product`` and the number of ``threads``.
        options: any setting of ``descent.Plan``.

    Returns:
        K distinct indices, the same for any number of threads. Another product moves the centroids
        a little; given these the indices are the same, up to near ties in float32.
    """
    with alone() as threads:
        rows = Rows(embeddings, device=device, threads=threads)
        if rows.total * rows.embeddings.shape[1] <= HELD:
            rows = Rows(rows[slice(0, rows.total)], device=device, threads=threads, unit=False)
        stay = positions("labelled", labelled, rows.total)
        kept = np.union1d(stay, positions("excluded", excluded, rows.total))
        free, fixed = np.delete(np.arange(rows.total), kept), torch.from_numpy(stay)
        budget = budget_from("budget", budget, rows.total, len(kept))
        plan = Plan(**checked(Plan, options, "select"))
        given = np.ones(rows.total) if losses is None else losses
        values = not_negative("losses", given, rows.total, 1)
        p = loss_distribution(values.double(), plan.loss_power).to(rows.device, torch.float32)
        product: Product = "float32" if plan.product == "auto" else plan.product
        if plan.product == "auto" and (not plan.push or rows.total * budget > FULL):
            product = fastest(rows.embeddings.shape[1], rows.device)
        g = torch.Generator().manual_seed(0) if generator is None else generator

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

        members = [Centroids(rows, p, start(), budget, plan, product) for _ in range(plan.ensemble)]
        for member in members:
            member.descend(g)
        theta = combine([member.theta[:budget].cpu() for member in members], plan.shrinkage)
        candidates = rows.only(torch.from_numpy(free)) if len(kept) else rows
        chosen = free[choose(candidates, theta.to(rows.device)).numpy()]
        if record is not None:
            curve = members[0].curve
            record |= {"curve": curve, "objective": curve[-1], "iterations": len(curve)}
            record |= {"centroids": theta.numpy(), "product": product, "threads": rows.threads}
    return chosen
