"""The engine for large pools, `vecaf_lib.centroids`, behind ODS and ActiveFT.

It minimises the same objectives with the same options (steps for iterations, a renewal for a
reassignment) and is meant for 150 steps at 3e-3, renewed at every tenth; beyond 10^9 pairs of
sample and centroid a renewal looks at a draw of the pool.
"""

from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from vecaf_lib.centroids import select
from vecaf_lib.selection._pool import Pool
from vecaf_lib.selection._types import Record

Engine = Literal["exact", "fast"]


def fast(
    pool: Pool,
    budget: int,
    losses: Float[Tensor, " n"] | None,
    *,
    generator: torch.Generator,
    record: Record,
    **options: Any,
) -> Tensor:
    """``vecaf_lib.centroids.select`` on the embeddings of a pool.

    Args:
        pool: with ``embeddings``.
        budget: K.
        losses: of p_L; None pulls uniformly.
        generator: draws the first centroids and the samples.
        record: receives ``iterations`` and ``objective``.
        options: of ``select``.
    """
    told: dict[str, Any] = {}
    embeddings = pool.need("embeddings")
    chosen = select(embeddings, budget, losses, generator=generator, record=told, **options)
    if record is not None:
        record |= {"iterations": told["steps"], "objective": told["objective"]}
    return torch.from_numpy(chosen)
