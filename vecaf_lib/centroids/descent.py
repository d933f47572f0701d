"""Adam over unit centroids, all members of an ensemble in step, so that they share the pool.

A step needs two things: where the samples pull, and how the centroids push. The pull is a sum per
centroid over the samples nearest to it; it costs a pass over the pool and changes slowly, so it is
renewed at every tenth step only, on all samples or on a draw of them. The push costs K x K.
"""

import math
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn.functional import logsigmoid
from tqdm.auto import tqdm

from vecaf_lib.centroids.checkpoint import Checkpoint
from vecaf_lib.centroids.crowding import Crowding
from vecaf_lib.centroids.member import Member
from vecaf_lib.centroids.plan import Plan
from vecaf_lib.centroids.products import code, nearest
from vecaf_lib.centroids.rows import Rows
from vecaf_lib.centroids.target import Draws
from vecaf_lib.errors import BadInput

LANDING = 0.3  # last part of the steps, in which the rate falls to 0
INERTIA = 0.8  # what the pulls of earlier draws weigh against a new one's, at the end; 0 at step 0


class Descent(NamedTuple):
    """Where the members arrived.

    Attributes:
        thetas: centroids of each member, K x d.
        curves: each member's objective at every renewal, as the draw estimates it.
        steps: Adam steps made.
    """

    thetas: list[Tensor]
    curves: list[list[float]]
    steps: int


def descend(
    rows: Rows,
    p: Float[Tensor, " n"],
    starts: list[Float[Tensor, "k d"]],
    plan: Plan,
    *,
    generator: torch.Generator,
    checkpoint: Path | None = None,
    progress: bool = False,
) -> Descent:
    """Move every member's centroids down its objective.

    Args:
        rows: the pool.
        p: weights of the own rows.
        starts: first centroids of each member; they are changed.
        plan: how.
        generator: of the draws.
        checkpoint: file to go on from and to keep up to date.
        progress: whether to show a bar.

    Raises:
        BadInput: the objective is not finite, or the checkpoint is another selection's.
    """
    members = [Member(theta, plan) for theta in starts]
    draws = Draws(p, rows.processes) if plan.draws else None
    curves: list[list[float]] = [[] for _ in members]
    kept = Checkpoint(checkpoint, rows, p, plan)
    first = kept.restore(members, curves, generator)
    bar = tqdm(
        range(first, plan.steps),
        initial=first,
        total=plan.steps,
        desc="centroids",
        disable=not (progress and rows.processes.rank == 0),
    )
    done = first
    for step in bar:
        crowdings = [member.crowding() for member in members]
        if step % plan.renew_every == 0:
            if step > first:
                kept.save(step, members, curves, generator)
            values = renew(rows, p, members, crowdings, draws, step, generator)
            for curve, value in zip(curves, values, strict=True):
                curve.append(value)
            bar.set_postfix(objective=f"{values[0]:.4f}")
            if not draws and all(_settled(curve, plan.tolerance) for curve in curves):
                break
        rate = plan.learning_rate * min(1.0, (1 - step / plan.steps) / LANDING)
        for member, crowding in zip(members, crowdings, strict=True):
            member.step(crowding, rate)
        done = step + 1
    kept.remove()
    return Descent([member.theta for member in members], curves, done)


def renew(
    rows: Rows,
    p: Float[Tensor, " n"],
    members: list[Member],
    crowdings: list[Crowding],
    draws: Draws | None,
    step: int,
    generator: torch.Generator,
) -> list[float]:
    """Look up the nearest centroids anew, in one pass for all members; returns the objectives."""
    plan = members[0].plan
    count = plan.draws if draws and step < plan.sweep_from * plan.steps else 0
    index = draws.draw(count, generator) if draws and count else torch.arange(rows.own)
    coded = [code(member.theta, plan.product, one_scale=True) for member in members]
    sums = [torch.zeros_like(member.theta) for member in members]
    masses = [torch.zeros_like(member.mass) for member in members]
    values = [torch.zeros((), dtype=torch.float64, device=rows.device) for _ in members]
    for part in rows.parts(index):
        x = rows.take(part if count else slice(int(part[0]), int(part[-1]) + 1))
        w = x.new_full((len(x),), 1 / count) if count else p[part].to(x)
        x_coded = code(x, plan.product)
        for number, member in enumerate(members):
            c = nearest(x_coded, coded[number])
            cosine = (x * member.theta[c]).sum(1)
            weight, value = _weights(plan, cosine, crowdings[number], c)
            sums[number].index_add_(0, c, x * (w * weight).unsqueeze(1))
            masses[number].index_add_(0, c, w * weight)
            values[number] += (w * value).double().sum()
    found = []
    for number, member in enumerate(members):
        pull = rows.processes.sum(sums[number])
        mass = rows.processes.sum(masses[number])
        keep = INERTIA * step / plan.steps if count else 0.0
        member.pull = keep * member.pull + (1 - keep) * pull
        total = float(rows.processes.sum(values[number]))
        if plan.objective == "activeft":
            member.mass = keep * member.mass + (1 - keep) * mass
        elif len(member.theta) > 1:
            total += plan.lambda_ * float(crowdings[number].log_n.mean())
        if not math.isfinite(total):
            raise BadInput(f"select: the objective is {total}; use a larger tau.")
        found.append(total)
    return found


def _weights(
    plan: Plan, cosine: Float[Tensor, " m"], crowding: Crowding, c: Int64[Tensor, " m"]
) -> tuple[Tensor, Tensor]:
    """How hard each sample pulls, and its part of the objective."""
    if plan.objective == "ods":
        return torch.ones_like(cosine), -cosine / plan.tau
    margin = cosine / plan.tau - crowding.log_n[c]
    return torch.sigmoid(-margin), -logsigmoid(margin)


def _settled(curve: list[float], tolerance: float) -> bool:
    if tolerance == 0 or len(curve) < 3:
        return False
    return curve[-3] - curve[-1] < tolerance * abs(curve[-1])
