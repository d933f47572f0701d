"""Small pools with a known structure."""

from collections.abc import Callable

import pytest
import torch
from small import pool_fields, seeded
from torch import Tensor
from torch.nn.functional import normalize

from vecaf_lib.selection import Pool


@pytest.fixture
def make_pool() -> Callable[..., Pool]:
    """``groups`` bunches of embeddings in ``d`` dimensions, with losses that have no ties."""

    def build(n: int = 60, d: int = 8, groups: int = 6, seed: int = 0, spread: float = 0.4) -> Pool:
        draw = seeded(seed)
        centres = torch.randn(groups, d, generator=draw)
        e = centres[torch.arange(n) % groups] + spread * torch.randn(n, d, generator=draw)
        losses = 0.05 + 2 * torch.rand(n, generator=draw)
        return Pool(n, embeddings=e, losses=losses, **pool_fields(n, d, draw))

    return build


@pytest.fixture
def make_centroids() -> Callable[..., tuple[Tensor, Tensor]]:
    """Unit embeddings (n x d) and centroids that are not of unit length (k x d), in float64."""

    def build(n: int = 17, d: int = 5, k: int = 4, seed: int = 0) -> tuple[Tensor, Tensor]:
        draw = seeded(seed)
        e = normalize(torch.randn(n, d, generator=draw, dtype=torch.float64), dim=1)
        return e, 1.5 * torch.randn(k, d, generator=draw, dtype=torch.float64)

    return build
