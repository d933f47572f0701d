"""``select``: the engine in one call."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from vecaf_lib.centroids.descent import descend
from vecaf_lib.centroids.ensemble import combine
from vecaf_lib.centroids.exact import choose
from vecaf_lib.centroids.plan import Plan, draws_for
from vecaf_lib.centroids.processes import Alone, Together
from vecaf_lib.centroids.rows import Rows
from vecaf_lib.centroids.target import loss_distribution
from vecaf_lib.errors import BadInput
from vecaf_lib.options import checked

CHUNK = 1024  # rows


def select(
    embeddings: Any,
    budget: int,
    losses: Any = None,
    *,
    ensemble: int = 1,
    shrinkage: float = 1.0,
    seed: int = 0,
    generator: torch.Generator | None = None,
    draws: int | None = None,
    device: str = "cpu",
    sharded: bool = False,
    chunk: int = CHUNK,
    checkpoint: str | Path | None = None,
    progress: bool = False,
    record: dict[str, Any] | None = None,
    **options: Any,
) -> np.ndarray:
    """Choose ``budget`` samples that stand for a pool.

    Args:
        embeddings: N x d floats, a numpy array, a ``numpy.memmap`` or a torch tensor; rows need
            not have unit length.
        budget: K, how many to choose.
        losses: N losses, 0 or larger: samples with larger ones pull harder (VeCAF's equation 3).
            None, all alike.
        ensemble: E members, started at different samples; 1 is the plain method, VeCAF's is 5.
        shrinkage: rho of the ensemble's correction, 1 gives the members' mean.
        seed: fixes the first centroids and the draws.
        generator: in place of ``seed``.
        draws: samples drawn at each renewal but the last, 0 looks at all; None takes all while
            N x K is at most 10^9, and 16 K beyond.
        device: ``cpu`` or ``cuda``.
        sharded: every process of the torch.distributed group has a part of the pool, in the order
            of ranks, and gets the same answer: numbers in the whole pool.
        chunk: rows converted at a time.
        checkpoint: file from which a stopped call goes on; it is removed at the end. Where the pool
            is sharded, the first process writes it and all must see it.
        progress: show a bar.
        record: receives ``curve``, the first member's objective at each renewal, ``objective``, the
            last of them, ``steps`` made, and ``centroids`` (K x d) as corrected.
        options: any setting of :class:`vecaf_lib.centroids.plan.Plan`.

    Returns:
        K distinct indices; with the same seed the same for any number of threads and any chunk, up
        to near ties that the order of float32 sums decides.

    Raises:
        BadInput: one sentence that says which argument is wrong and what would be right.
    """
    processes = _processes(sharded)
    where = _device(device)
    rows = Rows(embeddings, chunk=chunk, device=where, processes=processes)
    if not 1 <= budget <= rows.total:
        raise BadInput(
            f"budget: {budget} samples of a pool of {rows.total}; use 1 to {rows.total}."
        )
    if ensemble < 1 or not 0 < shrinkage <= 1:
        raise BadInput("ensemble must be at least 1 and shrinkage in (0, 1].")
    count = draws_for(rows.total, budget) if draws is None else draws
    plan = Plan(**checked(Plan, options | {"draws": count}, "select"))
    p = loss_distribution(_losses(losses, rows.own), plan.loss_power, processes)
    g = torch.Generator().manual_seed(seed) if generator is None else generator
    starts = [rows.start(budget, g) for _ in range(ensemble)]
    made = descend(
        rows,
        p,
        starts,
        plan,
        generator=g,
        checkpoint=None if checkpoint is None else Path(checkpoint),
        progress=progress,
    )
    theta = combine(made.thetas, shrinkage)
    if record is not None:
        curve = made.curves[0]
        record |= {"objective": curve[-1], "curve": curve, "steps": made.steps}
        record["centroids"] = theta.cpu().numpy()
    return choose(rows, theta, plan.product).numpy()


def _losses(losses: Any, size: int) -> Tensor:
    if losses is None:
        return torch.ones(size, dtype=torch.float64)
    values = torch.as_tensor(losses).detach().cpu().double()
    if values.shape != (size,):
        raise BadInput(
            f"losses: must be one number for each of the {size} rows; got shape "
            f"{tuple(values.shape)}."
        )
    wrong = ~torch.isfinite(values) | (values < 0)
    if bool(wrong.any()):
        raise BadInput(
            f"losses: the loss of row {int(wrong.nonzero()[0])} is "
            f"{float(values[wrong][0])}; a loss is finite and 0 or larger."
        )
    return values


def _processes(sharded: bool) -> Alone:
    if not sharded:
        return Alone()
    if not (dist.is_available() and dist.is_initialized()):
        raise BadInput(
            "sharded: torch.distributed is not initialised; call init_process_group first, or "
            "leave sharded False."
        )
    return Together()


def _device(name: str) -> torch.device:
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise BadInput(f"device: {name!r} is asked for, but torch sees no GPU here; use 'cpu'.")
    return torch.device(name)
