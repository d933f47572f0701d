"""The best samples of every centroid, gathered while the pool streams by."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor

CROWD = 2048  # candidates of a centroid beyond which it is left to a more exact product
PENDING = 100_000  # candidates that wait to be sorted into the lists, or as many as are in them


class Lists:
    """Candidates of K centroids as the pool streams by: score, centroid and sample of each.

    ``threshold`` is what the HEAD-th best of a centroid reaches for certain: whoever cannot reach
    it is not kept, so every sample at or above it is.
    """

    def __init__(self, k: int, head: int, device: torch.device) -> None:
        """Begin with none.

        Args:
            k: centroids.
            head: samples of which each list is to be certain.
            device: of the scores.
        """
        self.k, self.head = k, head
        self.low = torch.empty(0, device=device)  # the score, less the error it may have
        self.high = torch.empty(0, device=device)
        self.column = torch.empty(0, dtype=torch.int64, device=device)
        self.row = torch.empty(0, dtype=torch.int64, device=device)
        self.threshold = torch.full((k,), -3.0, device=device)  # below any cosine
        self.crowded = torch.zeros(k, dtype=torch.bool, device=device)
        self.pending: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []
        self.waiting = 0

    def offer(
        self, found: Float[Tensor, "m b"], off: float, first_row: int, first_column: int
    ) -> None:
        """Keep those of a block of scores that may reach the threshold.

        Args:
            found: scores of m samples with b centroids.
            off: how far they may be from the true ones.
            first_row, first_column: what the block begins with.
        """
        floor = self.threshold[first_column : first_column + found.shape[1]] - off
        row, column = (found >= floor).nonzero(as_tuple=True)
        score = found[row, column]
        self.add(score - off, score + off, column + first_column, row + first_row)

    def add(self, low: Tensor, high: Tensor, column: Tensor, row: Tensor) -> None:
        """Candidates, one an element."""
        self.pending.append((low, high, column, row))
        self.waiting += len(low)
        if self.waiting > max(PENDING, len(self.low)):
            self.merge()

    def merge(self) -> None:
        """Raise the thresholds, drop who fails them; order: centroid, best first, lower row."""
        parts = [(self.low, self.high, self.column, self.row), *self.pending]
        low, high, column, row = (torch.cat([part[i] for part in parts]) for i in range(4))
        self.pending, self.waiting = [], 0
        order = order_of(column, low, row)
        low, high, column, row = low[order], high[order], column[order], row[order]
        place = _place(column, self.k)
        last = place == self.head - 1
        self.threshold[column[last]] = torch.maximum(self.threshold[column[last]], low[last])
        kept = high >= self.threshold[column]
        low, high, column, row = low[kept], high[kept], column[kept], row[kept]
        self.crowded |= torch.bincount(column, minlength=self.k) > max(CROWD, self.head)
        self.threshold[self.crowded] = torch.inf
        kept = ~self.crowded[column]
        self.low, self.high, self.column, self.row = low[kept], high[kept], column[kept], row[kept]


def order_of(
    column: Int64[Tensor, " c"], score: Float[Tensor, " c"], row: Int64[Tensor, " c"]
) -> Int64[Tensor, " c"]:
    """Sort by centroid, then best first, then by row."""
    order = row.argsort(stable=True)
    order = order[score[order].argsort(descending=True, stable=True)]
    return order[column[order].argsort(stable=True)]


def _place(column: Int64[Tensor, " c"], k: int) -> Int64[Tensor, " c"]:
    """Position of each entry within its centroid's; ``column`` is sorted."""
    counts = torch.bincount(column, minlength=k)
    return torch.arange(len(column), device=column.device) - (counts.cumsum(0) - counts)[column]
