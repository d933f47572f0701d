"""The pool as a stream of unit rows, and cosines between blocks of them.

In int8 both sides are rounded to 255 steps and multiplied in whole numbers: the same for any number
of threads and any chunk, fast where the processor has VNNI, and off by a few ten-thousandths;
bfloat16 is off by a few thousandths. Where that could change an answer, ``error`` bounds it, by
Cauchy and Schwarz.
"""

from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn.functional import pad

from vecaf_lib.errors import BadInput

Product = Literal["float32", "bfloat16", "int8"]
BLOCK = 1024  # centroids compared at a time: the block of scores stays in the processor's cache
CHUNK = 1024  # rows of the pool converted at a time
TILE = 32  # CUDA's int8 product takes more than 16 rows, and multiples of 8 in each direction


class Rows:
    """N embeddings of d numbers, N x d floats in memory or in a file, read a chunk at a time.

    Unit rows come on ``device``, their numbers on the CPU. ``among``: those that count, None for
    all; they are numbered anew.
    """

    def __init__(
        self,
        embeddings: Any,
        chunk: int | None = None,
        device: torch.device | str = "cpu",
        among: Int64[Tensor, " m"] | None = None,
    ) -> None:
        shape = tuple(getattr(embeddings, "shape", ()))
        # a dtype such as float32 or torch.float16
        if len(shape) != 2 or "float" not in str(getattr(embeddings, "dtype", "")) or 0 in shape:
            raise BadInput(
                "embeddings: must be a numpy or torch matrix of floating-point numbers, one row a "
                f"sample; got {type(embeddings).__name__} of shape {shape}."
            )
        if torch.device(device).type == "cuda" and not torch.cuda.is_available():
            raise BadInput(f"device is {str(device)!r}, but torch sees no GPU; use 'cpu'.")
        self.embeddings, self.chunk, self.device = embeddings, chunk or CHUNK, torch.device(device)
        self.among, self.total = among, shape[0] if among is None else len(among)

    def stream(
        self, index: Int64[Tensor, " m"] | None = None
    ) -> Iterator[tuple[Int64[Tensor, " c"], Float[Tensor, "c d"]]]:
        """Numbers of samples and their unit rows in float32: those of ``index``, or all."""
        for part in (torch.arange(self.total) if index is None else index).split(self.chunk):
            at = (part if self.among is None else self.among[part]).numpy()
            rows = torch.as_tensor(self.embeddings[at]).to(self.device, torch.float32)
            lengths = rows.norm(dim=1)  # (c,)
            wrong = ~torch.isfinite(lengths) | (lengths == 0)
            if bool(wrong.any()):
                row = int(at[int(wrong.nonzero()[0])])
                raise BadInput(f"embeddings: row {row} has NaN or infinity, or is all zeros.")
            yield part, rows / lengths.unsqueeze(1)

    def start(self, budget: int, generator: torch.Generator) -> Float[Tensor, "k d"]:
        """K distinct samples of the pool as initial centroids (ActiveFT's initialisation)."""
        index = torch.randperm(self.total, generator=generator)[:budget]
        return torch.cat([x for _, x in self.stream(index)])


class Coded(NamedTuple):
    """Unit rows in the number format of a product."""

    values: Tensor  # m x d
    scale: Tensor | None  # a value's worth, m x 1 or a single one; None where values are the rows
    residual: float  # largest length of what rounding took from a row

    def part(self, rows: slice) -> "Coded":
        """These rows."""
        scale = self.scale if self.scale is None or self.scale.numel() == 1 else self.scale[rows]
        return Coded(self.values[rows], scale, self.residual)


def code(x: Float[Tensor, "m d"], product: Product, *, one_scale: bool = False) -> Coded:
    """Convert unit rows; ``one_scale`` gives all the same, so that int8 scores compare without."""
    if product == "float32":
        return Coded(x, None, 0.0)
    values, scale = x.bfloat16(), None
    if product == "int8":
        high = x.abs().amax() if one_scale else x.abs().amax(1, keepdim=True)
        scale = (high / 127).clamp_min(1e-12)
        values = (x / scale).round().to(torch.int8)
    lost = x - values * (1 if scale is None else scale)
    return Coded(values, scale, residual=float(lost.norm(dim=1).max()))


def scores(a: Coded, b: Coded) -> Tensor:
    """a b', unscaled: int32 for int8 values, else of their type."""
    if a.values.dtype != torch.int8:
        return a.values @ b.values.T
    x, y = (pad(z, (0, -z.shape[1] % TILE, 0, -len(z) % TILE)) for z in (a.values, b.values))
    return torch._int_mm(x, y.T)[: len(a.values), : len(b.values)]


def cosines(a: Coded, b: Coded) -> Float[Tensor, "m k"]:
    """a b' in float32, scales applied."""
    product = scores(a, b).float()
    if a.scale is not None and b.scale is not None:
        product.mul_(a.scale).mul_(b.scale.view(1, -1))
    return product


def error(a: Coded, b: Coded) -> float:
    """Largest possible distance of ``cosines`` from the true ones; 0 for float32."""
    rounding = 2**-8 if a.values.dtype == torch.bfloat16 else 0.0  # of the score itself
    return a.residual * (1 + b.residual) + b.residual + rounding


def nearest(x: Coded, theta: Coded) -> Int64[Tensor, " m"]:
    """Each row's nearest centroid; ties to the lower. ``theta`` has one scale: integers compare."""
    starts = range(0, len(theta.values), BLOCK)
    tops = [scores(x, theta.part(slice(start, start + BLOCK))).max(1) for start in starts]
    block = torch.stack([top.values for top in tops]).argmax(0, keepdim=True)  # the first of equals
    index = [top.indices + start for top, start in zip(tops, starts, strict=True)]
    return torch.stack(index).gather(0, block).squeeze(0)
