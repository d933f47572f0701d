r"""Fixed-point steps of unit centroids, the members of an ensemble together: they share each pass.

The pull on a centroid is the weighted sum of the samples nearest to it, and where an objective has
no diversity its direction is where the centroid goes: spherical k-means (Dhillon and Modha, 2001).
ODS and ActiveFT push it away from the others, by the gradient of

$$\log n_k = \log\sum_j e^{\langle\theta_k,\theta_j\rangle/\tau}$$

with j = k (ActiveFT) or without (VeCAF's equation 2). Then a step goes along the tangential force,
divided by the curvature of the pull and ``DAMPING`` times the mass of the push, with momentum for
a strong push, whose valleys are long. Early steps take random batches that grow; those of k-means
in the leading principal directions alone.

Up to ``DENSE`` centroids the matrix between them is one block in float32. Beyond, its upper
triangle is visited block by block: cosines in the chosen product, weighted sums of centroids in
bfloat16, unless the product is float32.
"""

import math
from collections.abc import Iterator
from typing import Literal

import torch
from jaxtyping import Float, Int64
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from torch.nn.functional import logsigmoid, normalize
from tqdm.auto import tqdm

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
SMALL = 4 * 10**6  # N x K up to which k-means has no early steps
FULL = 10**9  # N x K up to which each step of ods and activeft takes all samples
DRAWN = 16  # samples a centroid in the first batch beyond
DAMPING = 5.0  # of the push, in its masses
MOMENTUM = 0.7  # of ods at a lambda of 1, and of activeft; none of ods up to 0.1
DENSE = 2048  # centroids; 16 MiB of float32
KEPT = 20_000  # centroids up to which exponentials are kept for the gradient; 0.4 GB

Block = tuple[slice, slice, Float[Tensor, "a b"]]  # rows, columns, their exponentials


class Plan(BaseModel):
    """Settings of the steps towards ``kmeans``, ``ods`` (equation 7) or ``activeft``.

    They end where one over all samples, two where there is a push, lowers the objective by less
    than the fraction ``tolerance`` of it; 0 ends none early.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    objective: Literal["kmeans", "ods", "activeft"] = "ods"
    tau: float = Field(0.07, ge=0.02)  # temperature; sums are in float32, without a shift
    lambda_: float = Field(1.0, ge=0)  # weight of diversity in ods
    loss_power: float = Field(1.0, ge=0)  # gamma, the power of the losses in p_L
    iterations: int | None = Field(None, ge=1)  # None is 50, of k-means 5, or 3 after early ones
    tolerance: float | None = Field(None, ge=0)  # None is 1e-4, of k-means 2e-3
    dimensions: int = Field(64, ge=1)  # principal directions of the early steps of k-means
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
        self.theta, self.tau, self.activeft = theta, plan.tau, plan.objective == "activeft"
        self.dense, self.threads = len(theta) <= DENSE, threads
        self.coded = code(theta, "float32" if self.dense else product, one_scale=True)
        self.half = theta if self.dense or product == "float32" else theta.bfloat16()
        self.kept: list[Block] = []
        self.n = theta.new_zeros(len(theta))  # times exp(-1 / tau)
        for rows, columns, e in in_order(self._block, self._places(), threads):
            self.n[rows] += e.sum(1)
            if rows != columns:
                self.n[columns] += e.sum(0)
            if len(theta) <= KEPT:
                self.kept.append((rows, columns, e.to(self.half.dtype)))
        # minus infinity for a single centroid without its own term
        self.log_n = self.n.log() + 1 / self.tau

    def push(self, mass: Float[Tensor, " k"]) -> Float[Tensor, "k d"]:
        """Gradient of sum_k mass_k log n_k, times tau."""
        share = torch.where(self.n > 0, mass / self.n, 0.0)  # (k,)
        gradient = torch.zeros_like(self.theta)

        def forces(block: Block) -> tuple[slice, slice, Tensor, Tensor | None]:
            rows, columns, e = block
            if self.activeft:
                there = (e * share[rows].unsqueeze(1)).to(self.half)
                back = (e * share[columns]).to(self.half)
            else:
                there = back = (share[rows].unsqueeze(1) + share[columns]).mul_(e).to(self.half)
            there = there @ self.half[columns]
            return rows, columns, there, back.T @ self.half[rows] if rows != columns else None

        blocks = self.kept or map(self._block, self._places())
        for rows, columns, there, back in in_order(forces, blocks, self.threads):
            gradient[rows] += there
            if back is not None:
                gradient[columns] += back
        return gradient

    def _places(self) -> Iterator[tuple[slice, slice]]:
        """The blocks of the upper triangle."""
        size, k = DENSE if self.dense else BLOCK, len(self.theta)
        parts = [slice(i, min(i + size, k)) for i in range(0, k, size)]
        return ((rows, columns) for i, rows in enumerate(parts) for columns in parts[i:])

    def _block(self, place: tuple[slice, slice]) -> Block:
        """exp((cosine - 1) / tau) of a block; cosine is at most 1."""
        rows, columns = place
        cosine = cosines(self.coded.part(rows), self.coded.part(columns))
        e = cosine.sub_(1).div_(self.tau).exp_()
        if rows == columns:
            e.fill_diagonal_(float(self.activeft))
        return rows, columns, e


class Member:
    """One set of unit centroids, changed in place; the first ``free`` of them move."""

    def __init__(self, theta: Float[Tensor, "k d"], plan: Plan, free: int | None = None) -> None:
        self.theta, self.plan = theta, plan
        self.free = slice(0, len(theta) if free is None else free)
        self.speed = torch.zeros_like(theta[self.free])
        self.pull = torch.zeros_like(theta)
        self.mass = theta.new_full((len(theta),), plan.push / len(theta))
        self.crowding: Crowding | None = None
        self.curve: list[float] = []  # the objective at each step

    def crowd(self, product: Product, threads: int) -> None:
        """Measure how near the centroids are to each other, if the objective asks."""
        if self.plan.push and len(self.theta) > 1:
            self.crowding = Crowding(self.theta, self.plan, product, threads)

    def weigh(self, cosine: Float[Tensor, " m"], c: Int64[Tensor, " m"]) -> tuple[Tensor, Tensor]:
        """For ActiveFT, each sample's pull on its centroid c and its part of the objective."""
        log_n = 1 / self.plan.tau if self.crowding is None else self.crowding.log_n[c]
        margin = cosine / self.plan.tau - log_n
        return torch.sigmoid(-margin), -logsigmoid(margin)

    def renew(self, pull: Tensor, mass: Tensor, value: float) -> None:
        """Take up new forces and note the objective."""
        self.pull = pull
        if self.plan.objective == "activeft":
            self.mass = mass
        else:
            value = -float((pull * self.theta).sum()) / self.plan.tau
            if self.crowding is not None:
                value += self.plan.push * float(self.crowding.log_n.mean())
        if not math.isfinite(value):
            raise BadInput(f"select: the objective is {value}; use a larger tau.")
        self.curve.append(value)

    def step(self) -> None:
        """Move the free centroids; without a push, to the direction of their pull."""
        theta, force = self.theta[self.free], self.pull[self.free]
        curvature = (force * theta).sum(1, keepdim=True).clamp_min(0)
        if self.crowding is not None:
            force = force - self.crowding.push(self.mass)[self.free]
            curvature += DAMPING * self.mass[self.free].unsqueeze(1)
        tangential = force - (force * theta).sum(1, keepdim=True) * theta
        lasting = MOMENTUM * min(1.0, max(0.0, (self.plan.push - 0.1) / 0.9))
        self.speed = lasting * self.speed + tangential / curvature.clamp_min(1e-12)
        theta.copy_(normalize(theta + self.speed, dim=1))


def descend(
    rows: Rows,
    p: Float[Tensor, " n"],
    members: list[Member],
    product: Product,
    *,
    generator: torch.Generator,
    progress: bool = False,
) -> int:
    """Move every member down its objective under the weights p of samples; the steps made."""
    plan, (k, d) = members[0].plan, members[0].theta.shape
    large = rows.total * k > (FULL if plan.push else SMALL)
    steps = plan.iterations or (50 if plan.push else 3 if large else 5)
    sizes = [rows.total] * steps
    if large and plan.push:
        growth = max(1.0, rows.total / (DRAWN * k)) ** (1 / steps)
        sizes = [int(rows.total / growth**left) for left in reversed(range(steps))]
    elif large and min(d, k) >= 2 * plan.dimensions:
        sketch(rows, p, members, product, generator)
    elif large:
        sizes = growing(rows.total, k) + sizes
    return walk(rows, p, members, product, sizes, generator, progress)


def growing(total: int, k: int) -> list[int]:
    """Sizes of the early batches of k-means."""
    sizes = [FIRST * k]
    while sizes[-1] < total:
        sizes.append(int(sizes[-1] * GROWTH))
    return sizes[:-1]


def walk(
    rows: Rows,
    p: Tensor,
    members: list[Member],
    product: Product,
    sizes: list[int],
    generator: torch.Generator,
    progress: bool = False,
) -> int:
    """A step for each batch, of samples in random order, until the objective stands still."""
    plan, at = members[0].plan, 0
    back = 2 if plan.push else 1  # momentum may lift the objective for a step
    tolerance = (1e-4 if plan.push else 2e-3) if plan.tolerance is None else plan.tolerance
    order = torch.randperm(rows.total, generator=generator) if sizes[0] < rows.total else None
    bar = tqdm(sizes, desc="centroids", disable=not progress)
    for step, size in enumerate(bar):
        index = None
        if order is not None and size < rows.total:
            at = at if at + size <= rows.total else 0
            index = order[at : at + size].sort().values
            at += size
        for member in members:
            member.crowd(product, rows.threads)
        reassign(rows, p, members, product, index)
        bar.set_postfix(objective=f"{members[0].curve[-1]:.4f}")
        for member in members:
            member.step()
        curves = [m.curve for m in members if step >= back and sizes[step - back] == rows.total]
        if curves and all(c[-1 - back] - c[-1] < tolerance * abs(c[-1]) for c in curves):
            return step + 1
    return len(sizes)


def sketch(
    rows: Rows, p: Tensor, members: list[Member], product: Product, generator: torch.Generator
) -> None:
    """Steps in the leading principal directions, then centroids of that assignment in all."""
    plan, k = members[0].plan, len(members[0].theta)
    drawn = torch.randperm(rows.total, generator=generator)[: FAMILIAR * k]
    shown = rows[drawn[:SHOWN].sort().values]
    q = torch.randn(shown.shape[1], plan.dimensions, generator=generator).to(rows.device)
    for _ in range(2):  # subspace iteration
        q = torch.linalg.qr(shown.T @ (shown @ q)).Q
    if len(drawn) < rows.total:
        among = drawn.sort().values
        rows, p = Rows(rows.embeddings, rows.chunk, rows.device, among, rows.threads), p[among]
    low = torch.cat(list(rows.map(lambda _, x: x @ q)))
    small = Rows(low, rows.chunk, rows.device, threads=rows.threads, unit=False)
    lows = [Member(normalize(m.theta @ q, dim=1), plan, m.free.stop) for m in members]
    walk(small, p, lows, product, [*growing(rows.total, k), rows.total], generator)
    coded = [code(member.theta, product, one_scale=True) for member in lows]

    def work(part: Part, x: Tensor) -> tuple[list[Tensor], Tensor]:
        x_coded = code(low[part], product)
        return [nearest(x_coded, theta) for theta in coded], x * p[part].unsqueeze(1)

    for member in members:
        member.pull.zero_()
    for found, x in rows.map(work):
        for member, c in zip(members, found, strict=True):
            member.pull.index_add_(0, c, x)
    for member in members:
        member.step()


def reassign(
    rows: Rows,
    p: Float[Tensor, " n"],
    members: list[Member],
    product: Product,
    index: Int64[Tensor, " m"] | None = None,
) -> None:
    """Assign samples, all or some, to their nearest centroids in one pass for all members."""
    coded = [code(member.theta, product, one_scale=True) for member in members]
    forces = [(torch.zeros_like(m.pull), torch.zeros_like(m.mass), p.new_zeros(1)) for m in members]
    whole = float(p.sum() if index is None else p[index].sum()) or 1.0

    def work(part: Part, x: Tensor) -> list[tuple[Tensor, Tensor, Tensor, Tensor]]:
        x_coded, w, found = code(x, product), p[part] / whole, []
        for member, theta in zip(members, coded, strict=True):
            c, mass, value = nearest(x_coded, theta), w, w
            if member.plan.objective == "activeft":
                pull, value = member.weigh((x * member.theta[c]).sum(1), c)
                mass = w * pull
            found.append((c, x * mass.unsqueeze(1), mass, (w * value).sum()))
        return found

    for found in rows.map(work, index):
        for force, (c, pull, mass, value) in zip(forces, found, strict=True):
            for total, part in zip(force[:2], (pull, mass), strict=True):
                total.index_add_(0, c, part)
            force[2].add_(value)
    for member, (pull, mass, value) in zip(members, forces, strict=True):
        member.renew(pull, mass, float(value))
