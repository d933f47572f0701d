r"""Adam over unit centroids, the members of an ensemble together, so that they share each pass.

An iteration needs the pull of the samples and the push between centroids. The pull is a sum over
each centroid's nearest samples; it costs a pass over the pool and changes slowly, so samples are
reassigned only every few iterations, all of them or a draw. The push comes from

$$\log n_k = \log\sum_j e^{\langle\theta_k,\theta_j\rangle/\tau}$$

with j = k (ActiveFT) or without (VeCAF's equation 2). Up to ``DENSE`` centroids this matrix is one
block in float32. Beyond, its upper triangle is visited block by block: cosines in the chosen
product, weighted sums of centroids in bfloat16.
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
from vecaf_lib.large_pool.products import BLOCK, Product, Rows, code, cosines, nearest

LANDING = 0.3  # last share of the iterations, in which the learning rate falls to 0
SWEEP_FROM = 0.86  # share of the iterations after which no sample is left out of a draw
INERTIA = 0.8  # weight of earlier draws' pulls against a new one at the end; 0 at the start
DENSE = 2048  # centroids; 16 MiB of float32
KEPT = 20_000  # centroids up to which exponentials are kept for the gradient; 0.4 GB

Block = tuple[slice, slice, Float[Tensor, "a b"]]  # rows, columns, their exponentials


class Plan(BaseModel):
    """Settings of a descent towards ``ods`` (equation 7) or ``activeft``.

    It stops when two reassignments lower the objective by less than the fraction ``tolerance`` of
    it; with 0 never early, nor with draws, whose noise would decide.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    objective: Literal["ods", "activeft"] = "ods"
    tau: float = Field(0.07, ge=0.02)  # temperature; sums are in float32, without a shift
    lambda_: float = Field(1.0, ge=0)  # weight of diversity in ods
    loss_power: float = Field(1.0, ge=0)  # gamma, the power of the losses in p_L
    iterations: int = Field(150, ge=1)  # Adam steps
    learning_rate: float = Field(3e-3, gt=0)  # it falls to 0 over the last 30 %
    reassign_every: int = Field(10, ge=1)  # iterations for which a sample keeps its centroid
    draws: int = Field(0, ge=0)  # samples drawn from p at each reassignment; 0 takes all
    tolerance: float = Field(0.0, ge=0)
    product: Product = "int8"  # of cosines in the descent; the choice of samples is exact with any


class Crowding:
    """Values and gradients for unit centroids; ActiveFT has j = k in its sum, theta_j constant."""

    def __init__(self, theta: Float[Tensor, "k d"], plan: Plan) -> None:
        self.theta, self.tau, self.activeft = theta, plan.tau, plan.objective == "activeft"
        self.dense = len(theta) <= DENSE
        self.coded = code(theta, "float32" if self.dense else plan.product, one_scale=True)
        self.half = theta if self.dense else theta.bfloat16()
        self.kept: list[Block] = []
        self.n = theta.new_zeros(len(theta))  # times exp(-1 / tau)
        for rows, columns, e in self._blocks():
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
        for rows, columns, e in self.kept or self._blocks():
            if self.activeft:
                there = (e * share[rows].unsqueeze(1)).to(self.half)
                back = (e * share[columns]).to(self.half)
            else:
                there = back = (share[rows].unsqueeze(1) + share[columns]).mul_(e).to(self.half)
            gradient[rows] += there @ self.half[columns]
            if rows != columns:
                gradient[columns] += back.T @ self.half[rows]
        return gradient

    def _blocks(self) -> Iterator[Block]:
        """exp((cosine - 1) / tau) of the upper triangle, block by block; cosine is at most 1."""
        size = DENSE if self.dense else BLOCK
        for i in range(0, len(self.theta), size):
            rows = slice(i, min(i + size, len(self.theta)))
            for j in range(i, len(self.theta), size):
                columns = slice(j, min(j + size, len(self.theta)))
                cosine = cosines(self.coded.part(rows), self.coded.part(columns))
                e = cosine.sub_(1).div_(self.tau).exp_()
                if i == j:
                    e.fill_diagonal_(float(self.activeft))
                yield rows, columns, e


class Member:
    """One set of unit centroids, changed in place, with Adam's state and the forces on them."""

    crowding: Crowding

    def __init__(self, theta: Float[Tensor, "k d"], plan: Plan) -> None:
        self.theta, self.plan = theta, plan
        # second moments forget in 100 iterations, for there are few
        self.adam = torch.optim.Adam([theta], lr=plan.learning_rate, betas=(0.9, 0.99))
        self.pull = torch.zeros_like(theta)
        self.mass = theta.new_full((len(theta),), plan.lambda_ / len(theta))
        self.curve: list[float] = []  # the objective at each reassignment

    def weigh(self, cosine: Float[Tensor, " m"], c: Int64[Tensor, " m"]) -> tuple[Tensor, Tensor]:
        """Each sample's pull on its centroid c, and its part of the objective."""
        if self.plan.objective == "ods":
            return torch.ones_like(cosine), -cosine / self.plan.tau
        margin = cosine / self.plan.tau - self.crowding.log_n[c]
        return torch.sigmoid(-margin), -logsigmoid(margin)

    def renew(self, pull: Tensor, mass: Tensor, value: float, keep: float) -> None:
        """Take up new forces beside the old ones' share, and note the objective."""
        self.pull = keep * self.pull + (1 - keep) * pull
        if self.plan.objective == "activeft":
            self.mass = keep * self.mass + (1 - keep) * mass
        elif len(self.theta) > 1:
            value += self.plan.lambda_ * float(self.crowding.log_n.mean())
        if not math.isfinite(value):
            raise BadInput(f"select: the objective is {value}; use a larger tau.")
        self.curve.append(value)

    def step(self, rate: float) -> None:
        """One step of Adam along the sphere."""
        gradient = (self.crowding.push(self.mass) - self.pull) / self.plan.tau
        radial = (gradient * self.theta).sum(1, keepdim=True)
        self.theta.grad = gradient - radial * self.theta  # the part that a unit vector can follow
        self.adam.param_groups[0]["lr"] = rate
        self.adam.step()
        self.theta.copy_(normalize(self.theta, dim=1))


def descend(
    rows: Rows,
    p: Float[Tensor, " n"],
    members: list[Member],
    *,
    generator: torch.Generator,
    progress: bool = False,
) -> int:
    """Move every member down its objective under the weights p of samples; the steps made."""
    plan = members[0].plan
    bar = tqdm(range(plan.iterations), desc="centroids", disable=not progress)
    for iteration in bar:
        for member in members:
            member.crowding = Crowding(member.theta, plan)
        if iteration % plan.reassign_every == 0:
            reassign(rows, p, members, iteration, generator)
            bar.set_postfix(objective=f"{members[0].curve[-1]:.4f}")
            curves = (member.curve for member in members)
            flat = (len(c) > 2 and c[-3] - c[-1] < plan.tolerance * abs(c[-1]) for c in curves)
            if plan.tolerance and not plan.draws and all(flat):
                return iteration
        for member in members:
            member.step(plan.learning_rate * min(1.0, (1 - iteration / plan.iterations) / LANDING))
    return plan.iterations


def reassign(
    rows: Rows,
    p: Float[Tensor, " n"],
    members: list[Member],
    iteration: int,
    generator: torch.Generator,
) -> None:
    """Assign samples, or a draw of them, to their nearest centroids in one pass for all members."""
    plan = members[0].plan
    count = plan.draws if iteration < SWEEP_FROM * plan.iterations else 0
    coded = [code(member.theta, plan.product, one_scale=True) for member in members]
    pulls = [torch.zeros_like(member.pull) for member in members]
    masses = [torch.zeros_like(member.mass) for member in members]
    values = torch.zeros(len(members), dtype=torch.float64, device=rows.device)
    drawn = None
    if count:  # systematic resampling of p: unbiased, less variance than independent draws; sorted
        running = p.double().cumsum(0)
        shift = torch.rand((), generator=generator, dtype=torch.float64)
        points = (torch.arange(count, dtype=torch.float64) + shift) / count * running[-1]
        drawn = torch.searchsorted(running, points, right=True).clamp_max(len(p) - 1)
    for part, x in rows.stream(drawn):
        w = x.new_full((len(x),), 1 / count) if count else p[part].to(x)
        x_coded = code(x, plan.product)
        for number, member in enumerate(members):
            c = nearest(x_coded, coded[number])
            pull, value = member.weigh((x * member.theta[c]).sum(1), c)
            pulls[number].index_add_(0, c, x * (w * pull).unsqueeze(1))
            masses[number].index_add_(0, c, w * pull)
            values[number] += (w * value).double().sum()
    keep = INERTIA * iteration / plan.iterations if count else 0.0
    for member, pull, mass, value in zip(members, pulls, masses, values.tolist(), strict=True):
        member.renew(pull, mass, value, keep)
