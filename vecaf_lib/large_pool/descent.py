r"""Steps of unit centroids towards an objective, over a pool that streams.

The pull on a centroid is the weighted sum of the samples nearest to it, and where an objective has
no diversity its direction is where the centroid goes: spherical k-means (Dhillon and Modha, 2001).
Early steps then take random batches that grow, in the leading principal directions alone.

ODS and ActiveFT push centroids apart, by the gradient of

$$\log n_k = \log\sum_j e^{\langle\theta_k,\theta_j\rangle/\tau}$$

with j = k (ActiveFT) or without (VeCAF's equation 2). Where they end is a matter of the path, and
which samples are chosen of where they end. So the path is that of the exact descent, 300 steps of
Adam by 1e-3: S steps are by 0.3 / S, and Adam's memory is shorter in the same measure. Larger pools
take random batches that grow to the whole.

The matrix between centroids is visited block by block; beyond ``DENSE`` of them its cosines are in
the chosen product, and sums over it in bfloat16 unless that is float32.
"""

import math
from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Float, Int64
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from torch.nn.functional import logsigmoid, normalize

from vecaf_lib.errors import BadInput
from vecaf_lib.large_pool.products import (
    BLOCK,
    Part,
    Product,
    Rows,
    code,
    cosines,
    in_order,
    nearest,
)

FIRST = 10  # samples a centroid in the first batch of k-means
GROWTH = 1.5  # of a batch to the next
FAMILIAR = 256  # samples a centroid that early steps of k-means draw on
SHOWN = 4096  # samples that the principal directions are of
SMALL = 10**6  # N x K up to which k-means has no early steps
FULL = 10**9  # N x K up to which each step of ods and activeft takes all samples
DRAWN = 16  # samples a centroid in the first batch beyond
STEPS = 75  # of ods and activeft, for the 300 of the exact descent
DENSE = 2048  # centroids


class Plan(BaseModel):
    """Settings of the steps towards ``kmeans``, ``ods`` (equation 7) or ``activeft``.

    They end where one over all samples, of ods and activeft a thirtieth of them, lowers the
    objective by less than the fraction ``tolerance`` of it; 0 ends none early. The objective of
    k-means is 1 minus the mean cosine of a sample to its nearest centroid, weighted by p_L.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    objective: Literal["kmeans", "ods", "activeft"] = "ods"
    tau: float = Field(0.07, ge=0.02)  # temperature; sums are in float32, without a shift
    lambda_: float = Field(1.0, ge=0)  # weight of diversity in ods
    loss_power: float = Field(1.0, ge=0)  # gamma, the power of the losses in p_L
    iterations: int | None = Field(None, ge=1)  # None is 75, of k-means 5, or 3 after early ones
    tolerance: float | None = Field(None, ge=0)  # None is 0, of k-means 2e-3
    ensemble: int = Field(1, ge=1)  # E members, started at different samples; VeCAF's is 5
    shrinkage: float = Field(1.0, gt=0, le=1)  # rho of their correction, 1 gives their mean
    dimensions: int = Field(64, ge=1)  # principal directions of the early steps of k-means
    # auto: by a probe, but float32 for ods and activeft up to FULL, whose path int8 changes
    product: Literal["auto", "float32", "bfloat16", "int8"] = "auto"

    @property
    def push(self) -> float:
        """Weight of diversity."""
        return {"kmeans": 0.0, "ods": self.lambda_, "activeft": 1.0}[self.objective]


class Crowding:
    """Values and gradients for unit centroids; ActiveFT has j = k in its sum, theta_j constant."""

    def __init__(
        self, theta: Float[Tensor, "k d"], plan: Plan, product: Product, threads: int = 1
    ) -> None:
        self.tau, self.activeft, self.threads = plan.tau, plan.objective == "activeft", threads
        product = "float32" if len(theta) <= DENSE else product
        self.coded = code(theta, product)
        self.half = theta if product == "float32" else theta.bfloat16()
        self.n = self._over_blocks(len(theta), lambda _, e: e.sum(1))  # times exp(-1 / tau)
        # minus infinity for a single centroid without its own term
        self.log_n = self.n.log() + 1 / self.tau

    def push(self, mass: Float[Tensor, " k"], free: int) -> Float[Tensor, "f d"]:
        """Gradient of sum_k mass_k log n_k in the first ``free`` centroids, times tau."""
        share = torch.where(self.n > 0, mass / self.n, 0.0)  # (k,)

        def force(rows: slice, e: Tensor) -> Tensor:
            weight = share[rows].unsqueeze(1) + (0 if self.activeft else share)
            return ((weight * e).to(self.half) @ self.half).float()

        return self._over_blocks(free, force)

    def _over_blocks(self, count: int, work: Callable[[slice, Tensor], Tensor]) -> Tensor:
        """``work`` of each block of rows of exp((cosine - 1) / tau), which is at most 1."""

        def block(start: int) -> Tensor:
            rows = slice(start, min(start + BLOCK, count))
            e = cosines(self.coded.part(rows), self.coded).sub_(1).div_(self.tau).exp_()
            e.diagonal(start).fill_(float(self.activeft))
            return work(rows, e)

        return torch.cat(list(in_order(block, range(0, count, BLOCK), self.threads)))


class Centroids:
    """K unit centroids, of which the first ``free`` move, in place; samples of the pool weigh p."""

    def __init__(
        self,
        rows: Rows,
        p: Float[Tensor, " n"],
        theta: Float[Tensor, "k d"],
        free: int,
        plan: Plan,
        product: Product,
    ) -> None:
        self.rows, self.p, self.theta, self.free = rows, p, theta, free
        self.plan, self.product = plan, product
        self.moving, self.pull = theta[:free], torch.zeros_like(theta)
        steps = plan.iterations or STEPS
        memory = max(0.0, 1 - 30 / steps), max(0.0, 1 - 0.3 / steps)  # 0.9 and 0.999 of 300
        self.adam = torch.optim.Adam([self.moving], lr=0.3 / steps, betas=memory)
        self.mass = theta.new_full((len(theta),), plan.push / len(theta))
        self.crowding: Crowding | None = None
        self.curve: list[float] = []  # the objective at each step

    def descend(self, generator: torch.Generator) -> None:
        """Go down the objective."""
        plan, total, (k, d) = self.plan, self.rows.total, self.theta.shape
        large = total * k > (FULL if plan.push else SMALL)
        steps = plan.iterations or (STEPS if plan.push else 3 if large else 5)
        sizes = [total] * steps
        if large and plan.push:
            growth = max(1.0, total / (DRAWN * k)) ** (1 / steps)
            sizes = [int(total / growth**left) for left in reversed(range(steps))]
        elif large and min(d, k) >= 2 * plan.dimensions:
            self.sketch(generator)
        elif large:
            sizes = growing(total, k) + sizes
        self.walk(sizes, generator)

    def walk(self, sizes: list[int], generator: torch.Generator) -> None:
        """A step for each batch, of samples in random order, until the objective stands still."""
        total, at = self.rows.total, 0
        back = max(1, len(sizes) // 30) if self.plan.push else 1  # ten of 300 steps
        tolerance = self.plan.tolerance
        tolerance = (0.0 if self.plan.push else 2e-3) if tolerance is None else tolerance
        order = torch.randperm(total, generator=generator) if sizes[0] < total else torch.empty(0)
        for step, size in enumerate(sizes):
            at = at if at + size <= total else 0
            self.assign(order[at : at + size].sort().values if size < total else None)
            self.step()
            at += size
            value = self.curve[step]
            comparable = tolerance and step >= back and sizes[step - back] == total
            if comparable and self.curve[step - back] - value < tolerance * abs(value):
                return

    def assign(self, index: Int64[Tensor, " m"] | None = None) -> None:
        """Sum the pull of samples, all or some, on their nearest centroids; note the objective."""
        plan = self.plan
        if plan.push and len(self.theta) > 1:
            self.crowding = Crowding(self.theta, plan, self.product, self.rows.threads)
        coded = code(self.theta, self.product, one_scale=True)
        whole = float((self.p if index is None else self.p[index]).sum()) or 1.0

        def work(part: Part, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
            c, mass = nearest(code(x, self.product), coded), self.p[part] / whole
            value = mass
            if plan.objective == "activeft":
                log_n = 1 / plan.tau if self.crowding is None else self.crowding.log_n[c]
                margin = (x * self.theta[c]).sum(1) / plan.tau - log_n
                mass, value = mass * torch.sigmoid(-margin), -mass * logsigmoid(margin)
            return c, x * mass.unsqueeze(1), mass, value.sum()

        pull, masses = torch.zeros_like(self.pull), torch.zeros_like(self.mass)
        total = self.p.new_zeros(())
        for c, forces, mass, value in self.rows.map(work, index):
            pull.index_add_(0, c, forces)
            if plan.objective == "activeft":
                masses.index_add_(0, c, mass)
                total = total + value
        self.pull = pull
        if plan.objective == "activeft":
            self.mass = masses
        elif plan.objective == "kmeans":
            total = 1 - (pull * self.theta).sum()
        else:
            total = -(pull * self.theta).sum() / plan.tau
            if self.crowding is not None:
                total = total + plan.push * self.crowding.log_n.mean()
        if not math.isfinite(total):
            raise BadInput(f"select: the objective is {float(total)}; use a larger tau.")
        self.curve.append(float(total))

    def step(self) -> None:
        """Move those that are free; without a push, to the direction of their pull."""
        theta, force = self.moving, self.pull[: self.free]
        if self.plan.push:
            if self.crowding is not None:
                force = force - self.crowding.push(self.mass, self.free)
            along = force - (force * theta).sum(1, keepdim=True) * theta  # the sphere
            theta.grad = -along / self.plan.tau
            self.adam.step()
            force = theta
        theta.copy_(torch.where(force.any(1, keepdim=True), normalize(force, dim=1), theta))

    def sketch(self, generator: torch.Generator) -> None:
        """Steps in the leading principal directions, then centroids of that assignment in all."""
        rows, p, k = self.rows, self.p, len(self.theta)
        drawn = torch.randperm(rows.total, generator=generator)[: FAMILIAR * k]
        shown = rows[drawn[:SHOWN].sort().values]
        q = torch.randn(shown.shape[1], self.plan.dimensions, generator=generator).to(rows.device)
        for _ in range(2):  # subspace iteration
            q = torch.linalg.qr(shown.T @ (shown @ q)).Q
        if len(drawn) < rows.total:
            among = drawn.sort().values
            rows, p = rows.only(among), p[among]
        low = shown.new_empty(rows.total, self.plan.dimensions)
        for part, x in rows.map(lambda part, x: (part, x @ q)):
            low[part] = x
        small = Rows(low, rows.chunk, rows.device, threads=rows.threads, unit=False)
        theta = normalize(self.theta @ q, dim=1)
        lower = Centroids(small, p, theta, self.free, self.plan, self.product)
        lower.walk([*growing(rows.total, k), rows.total], generator)
        coded = code(theta, self.product, one_scale=True)

        def work(part: Part, x: Tensor) -> tuple[Tensor, Tensor]:
            return nearest(code(low[part], self.product), coded), x * p[part].unsqueeze(1)

        for c, forces in rows.map(work):
            self.pull.index_add_(0, c, forces)
        self.step()


def growing(total: int, k: int) -> list[int]:
    """Sizes of the early batches of k-means, below the pool's."""
    sizes, size = list[int](), FIRST * k
    while size < total:
        sizes.append(size)
        size = int(size * GROWTH)
    return sizes
