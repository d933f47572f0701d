"""Cosines between blocks of unit rows, in float32, bfloat16 or int8.

In int8 both sides are rounded to 255 steps and multiplied in whole numbers: exactly the same for
any number of threads and any chunk, three to five times as fast as float32 here, and off by a few
ten-thousandths. Where that could change an answer, ``error`` bounds it, by Cauchy and Schwarz.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int8, Int32, Int64
from torch import Tensor
from torch.nn.functional import pad

Product = Literal["float32", "bfloat16", "int8"]
BLOCK = 1024  # centroids compared at a time: the block of scores stays in the processor's cache
TILE = 32  # CUDA's int8 product wants more than 16 rows, and multiples of 8 in each direction


@dataclass(frozen=True)
class Coded:
    """Unit rows as the product takes them.

    Attributes:
        values: m x d.
        scale: a value's worth, m x 1 or a single one; None where the values are the rows.
        residual: largest length of what rounding took from a row.
    """

    values: Tensor
    scale: Tensor | None
    residual: float

    def __getitem__(self, rows: slice) -> "Coded":
        scale = self.scale
        if scale is not None and scale.numel() > 1:
            scale = scale[rows]
        return Coded(self.values[rows], scale, self.residual)

    def __len__(self) -> int:
        return len(self.values)


def code(x: Float[Tensor, "m d"], product: Product, *, one_scale: bool = False) -> Coded:
    """Prepare unit rows.

    Args:
        x: unit rows.
        product: how they will be multiplied.
        one_scale: the same int8 scale for all rows, so that scores compare without it.
    """
    if product == "float32":
        return Coded(x, None, 0.0)
    if product == "bfloat16":
        half = x.bfloat16()
        return Coded(half, None, float((x - half).norm(dim=1).max()) if len(x) else 0.0)
    high = x.abs().amax() if one_scale else x.abs().amax(1, keepdim=True)
    scale = (high / 127).clamp_min(1e-12)
    rounded = (x / scale).round()
    residual = float((x - rounded * scale).norm(dim=1).max()) if len(x) else 0.0
    return Coded(rounded.to(torch.int8), scale, residual)


def scores(a: Coded, b: Coded) -> Tensor:
    """a b', unscaled: int32 for int8 values, else float."""
    if a.values.dtype != torch.int8:
        return a.values @ b.values.T
    if a.values.is_cuda:
        return whole_tiles(a.values, b.values)
    return torch._int_mm(a.values, b.values.T.contiguous())


def whole_tiles(a: Int8[Tensor, "m d"], b: Int8[Tensor, "k d"]) -> Int32[Tensor, "m k"]:
    """a b' where the product takes only whole tiles, as CUDA's: zeros fill m, k and d up."""
    (m, d), k = a.shape, len(b)
    a = pad(a, (0, -d % TILE, 0, -m % TILE))
    b = pad(b, (0, -d % TILE, 0, -k % TILE))
    return torch._int_mm(a, b.T)[:m, :k]


def cosines(a: Coded, b: Coded) -> Float[Tensor, "m k"]:
    """a b' in float32, scales applied."""
    found = scores(a, b).float()
    if a.scale is not None and b.scale is not None:
        found *= a.scale
        found *= b.scale.view(1, -1)
    return found


def error(a: Coded, b: Coded) -> float:
    """Largest possible distance of ``cosines`` from the true ones; 0 for float32."""
    if a.scale is None and a.residual == 0:
        return 0.0
    rounding = 2**-8 if a.values.dtype == torch.bfloat16 else 0.0  # of the score itself
    return a.residual * (1 + b.residual) + b.residual + rounding


def nearest(x: Coded, theta: Coded) -> Int64[Tensor, " m"]:
    """Index of the nearest centroid of each row, as the product sees it; ties to the lower index.

    ``theta`` has one scale, so that whole numbers compare.
    """
    best = index = None
    for start in range(0, len(theta), BLOCK):
        value, at = scores(x, theta[start : start + BLOCK]).max(1)
        if best is None or index is None:
            best, index = value, at
            continue
        better = value > best
        best = torch.where(better, value, best)
        index = torch.where(better, at + start, index)
    assert index is not None  # there is a centroid
    return index
