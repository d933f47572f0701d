r"""MaxHerding (Bae et al., ECCV 2024): the samples that cover the pool best, greedily.

$$s = \arg\max_i \sum_j u_j \max(k_{ij} - m_j, 0),\qquad m_j \leftarrow \max(m_j, k_{sj}),\qquad
  k_{ij} = e^{-\lVert x_i - x_j\rVert^2/\sigma^2}$$

``x`` embeddings of unit length; ``m_j`` how well sample j is covered by what is chosen or kept, 0
at first; ``u`` weights, here all 1. No label is used, nothing is drawn.

The choice is that of the plain greedy loop, but the N x N kernel is never held. A gain only ever
falls, so an old one is an upper bound, and a candidate is looked at again only where its bound
reaches the best gain known. What it lost since is a sum over the samples whose m_j rose; once few
pairs have k_ij > m_j, they are kept in lists. Two samples that cover each other often tie exactly.
"""

import torch
from jaxtyping import Float, Int64
from torch import Generator, Tensor

from vecaf_lib.large_pool.products import alone, in_order, inner
from vecaf_lib.options import Positive
from vecaf_lib.selection.pool import Pool, Record

NEEDS = frozenset({"embeddings"})
TILE = 512  # rows and columns of the kernel that are made at once; 1 MiB
FIRST = 64  # candidates that are looked at again before their best rules out others
SAMPLE = 256  # evenly spaced j by which the pairs with k_ij > m_j are counted
EQUAL = 1 - 1e-5  # a gain of this share of the best is as good: rounding must not decide
PAIRS = 100_000_000  # of these are kept in lists, about; 8 bytes each


def select(
    pool: Pool, budget: int, *, generator: Generator, record: Record = None, sigma: Positive = 1.0
) -> Tensor:
    """Choose ``budget`` samples, in the order of choice; of equals the lower index.

    ``record`` receives ``coverage``, the weighted mean of m, 0 to 1; ``sigma``: the kernel's width.
    """
    return herd(pool, budget, torch.ones(pool.size), sigma=sigma, record=record)


def herd(
    pool: Pool, budget: int, u: Float[Tensor, " n"], *, sigma: float = 1.0, record: Record = None
) -> Int64[Tensor, " k"]:
    """The greedy choice under weights ``u``, not negative, from the pool's candidates."""
    pool.check_budget(budget)
    with alone() as threads:
        cover = Cover(pool.unit(), u, sigma, threads)
        cover.add(pool.covered())
        cover.start(pool.candidates())
        chosen = [cover.take() for _ in range(budget)]
    if record is not None:
        record["coverage"] = float(cover.m @ cover.u / cover.u.sum())
    return torch.tensor(chosen)


class Cover:
    """How well each of N samples is covered, and what a candidate would add: lazy greedy."""

    def __init__(
        self, x: Float[Tensor, "n d"], u: Float[Tensor, " n"], sigma: float, threads: int
    ) -> None:
        self.x, self.u, self.shift = x * (2**0.5 / sigma), u.to(x), 2 / sigma**2
        self.threads = threads
        self.m = x.new_zeros(len(x))
        self.picks = 0  # samples that cover
        self.gain = torch.empty(0, dtype=torch.float64)  # exact or an upper bound
        self.seen = torch.full((len(x),), -1)  # number of picks at which the gain was exact
        self.covers: dict[int, Tensor] = {}  # m at these numbers
        self.lists: list[tuple[Tensor, Tensor]] = []  # of each sample i, at last: each j, k_ij

    def kernel(self, rows: Float[Tensor, "a d"], columns: Float[Tensor, "b d"]) -> Tensor:
        """k of scaled rows, (a, b)."""
        return inner(rows, columns).sub_(self.shift).exp_()

    def add(self, samples: Int64[Tensor, " s"]) -> None:
        """Let ``samples`` cover, too."""
        self.picks += len(samples)
        if self.lists:  # no other m_j can rise
            for j, k in (self.lists[s] for s in samples.tolist()):
                self.m[j] = torch.maximum(self.m[j], k)
            return
        for part in samples.split(TILE) if len(samples) else ():
            high = [self.kernel(self.x[part], rows).amax(0) for rows in self.x.split(TILE)]
            self.m = torch.maximum(self.m, torch.cat(high))

    def start(self, candidates: Int64[Tensor, " c"]) -> None:
        """Find the gains of all ``candidates``, by half of the kernel, which is symmetric."""
        parts = torch.arange(len(self.x))

        def beside(a: Tensor) -> Tensor:
            """What the pairs of these rows with those from them on add to all gains."""
            gain = torch.zeros(len(self.x), dtype=torch.float64)
            for b in parts[a[0] :].split(TILE):
                k = self.kernel(self.x[a], self.x[b])
                if a[0] != b[0]:
                    gain[b] += self.u[a] @ (k - self.m[a, None]).relu_()
                gain[a] += k.sub_(self.m[b]).relu_() @ self.u[b]
            return gain

        gain = torch.zeros(len(self.x), dtype=torch.float64)
        for part in in_order(beside, parts.split(TILE), self.threads):
            gain += part
        self.gain = torch.full_like(gain, -torch.inf)
        self.gain[candidates], self.seen[candidates] = gain[candidates], self.picks
        self.covers[self.picks] = self.m

    def take(self) -> int:
        """Choose the candidate of the largest gain."""
        late = self.gain.topk(min(FIRST, len(self.gain))).indices
        late = late[(self.seen[late] < self.picks) & self.gain[late].isfinite()]
        while len(late):
            self.look(late)
            best = self.gain[self.seen == self.picks].amax()
            late = ((self.gain >= EQUAL * best) & (self.seen < self.picks)).nonzero().squeeze(1)
        s = int((self.gain >= EQUAL * self.gain.amax()).nonzero()[0])
        bare = self.picks == 0
        self.gain[s] = -torch.inf
        self.add(torch.tensor([s]))
        if bare:  # every m_j rose
            self.start(self.gain.isfinite().nonzero().squeeze(1))
        return s

    def look(self, candidates: Int64[Tensor, " c"]) -> None:
        """Make the gains of ``candidates`` exact."""
        if not self.lists:
            j = torch.arange(0, len(self.x), max(1, len(self.x) // SAMPLE))
            parts = [self.kernel(x, self.x[j]) > self.m[j] for x in self.x.split(TILE)]
            if sum(int(part.sum()) for part in parts) / len(j) * len(self.x) < PAIRS:
                self.list_pairs()
        if self.lists:
            for part in candidates.split(TILE):
                self.sum_lists(part)
        else:
            self.covers[self.picks] = self.m
            self.catch_up(candidates)
        self.gain[candidates] = self.gain[candidates].clamp_min(0)  # where rounding went below
        self.seen[candidates] = self.picks

    def catch_up(self, candidates: Int64[Tensor, " c"]) -> None:
        """Take from their gains what they lost where m_j rose from ``low`` to ``high``."""
        for picks in self.seen[candidates].unique().tolist():
            old, late = self.covers[picks], candidates[self.seen[candidates] == picks]
            for j in (self.m > old).nonzero().squeeze(1).split(TILE):
                x, low, high, u = self.x[j], old[j], self.m[j], self.u[j]
                for i in late.split(TILE):
                    self.gain[i] -= self.kernel(self.x[i], x).clamp_(low, high).sub_(low) @ u

    def list_pairs(self) -> None:
        """Give each sample i the list of its j with k_ij > m_j."""

        def listed(rows: Tensor) -> list[tuple[Tensor, Tensor]]:
            k = torch.cat([self.kernel(rows, columns) for columns in self.x.split(TILE)], 1)
            row, j = (k > self.m).nonzero(as_tuple=True)  # of (tile, n)
            counts = torch.bincount(row, minlength=len(rows)).tolist()
            return [*zip(j.int().split(counts), k[row, j].split(counts), strict=True)]

        for lists in in_order(listed, self.x.split(TILE), self.threads):
            self.lists += lists

    def sum_lists(self, candidates: Int64[Tensor, " c"]) -> None:
        """Their gains, over their lists."""
        lists = [self.lists[i] for i in candidates.tolist()]
        j, k = (torch.cat(parts) for parts in zip(*lists, strict=True))
        gains = (k - self.m[j]).relu_().mul_(self.u[j]).double()
        lengths = torch.tensor([len(own) for own, _ in lists])
        self.gain[candidates] = torch.segment_reduce(gains, "sum", lengths=lengths)
