r"""The term that keeps centroids apart, streamed over blocks of K x K.

$$\log n_k = \log\sum_j e^{\langle\theta_k,\theta_j\rangle/\tau}$$

with j = k (ActiveFT) or without (VeCAF's equation 2). Up to ``DENSE`` centroids the matrix is one
block and computed in float32. Beyond, the upper triangle is visited block by block: cosines in the
faster product, their weighted sums of centroids in bfloat16. Up to ``KEPT`` centroids the
exponentials wait in memory from the sum to the gradient.
"""

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from vecaf_lib.centroids.products import BLOCK, Coded, Product, code, cosines

DENSE = 2048  # centroids; 16 MiB of float32
KEPT = 20_000  # centroids; 0.4 GB of bfloat16

Block = tuple[slice, slice, Float[Tensor, "a b"]]  # rows, columns, their exponentials


class Crowding:
    """Values and gradients for one set of unit centroids."""

    def __init__(
        self, theta: Float[Tensor, "k d"], tau: float, *, own: bool, product: Product
    ) -> None:
        """Compute log n.

        Args:
            theta: unit centroids.
            tau: temperature.
            own: whether the sum holds j = k.
            product: of cosines above ``DENSE`` centroids.
        """
        self.theta, self.tau, self.own = theta, tau, own
        self.dense = len(theta) <= DENSE
        self.coded = code(theta, "float32" if self.dense else product, one_scale=True)
        self.half = theta if self.dense else theta.bfloat16()
        self.kept: list[Block] = []
        n = theta.new_zeros(len(theta))
        for rows, columns, e in self._blocks():
            n[rows] += e.sum(1)
            if rows != columns:
                n[columns] += e.sum(0)
            if len(theta) <= KEPT:
                self.kept.append((rows, columns, e.to(self.half.dtype)))
        self.n = n  # times exp(-1 / tau)

    @property
    def log_n(self) -> Float[Tensor, " k"]:
        """log n_k; minus infinity for a single centroid without its own term."""
        return self.n.log() + 1 / self.tau

    def push(self, mass: Float[Tensor, " k"], *, both: bool) -> Float[Tensor, "k d"]:
        """Gradient of sum_k mass_k log n_k, times tau.

        Args:
            mass: weight of each centroid's log n.
            both: False holds theta_j constant, as ActiveFT does; True differentiates it too.
        """
        share = torch.where(self.n > 0, mass / self.n, 0.0)  # (k,)
        found = torch.zeros_like(self.theta)
        for rows, columns, e in self.kept or self._blocks():
            if both:
                both_shares = share[rows].unsqueeze(1) + share[columns]
                there = back = both_shares.mul_(e).to(self.half)
            else:
                there = (e * share[rows].unsqueeze(1)).to(self.half)
                back = (e * share[columns]).to(self.half)
            found[rows] += there @ self.half[columns]
            if rows != columns:
                found[columns] += back.T @ self.half[rows]
        return found

    def _blocks(self) -> Iterator[Block]:
        """exp((cosine - 1) / tau) of the upper triangle, block by block; cosine is at most 1."""
        size = DENSE if self.dense else BLOCK
        for i in range(0, len(self.theta), size):
            rows = slice(i, min(i + size, len(self.theta)))
            for j in range(i, len(self.theta), size):
                columns = slice(j, min(j + size, len(self.theta)))
                e = self._exponentials(self.coded[rows], self.coded[columns])
                if i == j:
                    e.fill_diagonal_(float(self.own))
                yield rows, columns, e

    def _exponentials(self, a: Coded, b: Coded) -> Float[Tensor, "a b"]:
        return cosines(a, b).sub_(1).div_(self.tau).exp_()
