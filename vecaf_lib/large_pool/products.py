"""The pool as a stream of unit rows, and cosines between blocks of them.

In int8 both sides are rounded to 255 steps and multiplied in whole numbers: the same for any number
of threads and any chunk, fast where the processor has VNNI, and off by a few ten-thousandths;
bfloat16 is off by a few thousandths. ``fastest`` measures which one suits the processor.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from copy import copy
from functools import cache
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn.functional import normalize, pad

from vecaf_lib.errors import BadInput

Product = Literal["float32", "bfloat16", "int8"]
BLOCK = 1024  # centroids compared at a time: the block of scores stays in the processor's cache
CHUNK = 1024  # rows of the pool converted at a time; on a GPU 16 times as many
TILE = 32  # centroids come in multiples; CUDA's int8 product asks for multiples of 8, and 17 rows
ONEDNN = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
Part = slice | Int64[Tensor, " m"]


@contextmanager
def alone() -> Iterator[int]:
    """Let every thread of ours compute alone; the number of threads that torch was allowed."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield threads
    finally:
        torch.set_num_threads(threads)


def in_order(work: Callable[[Any], Any], items: Iterable[Any], threads: int) -> Iterator[Any]:
    """``map`` on threads that each compute alone and never wait for each other, a few items ahead.

    Threads inside a product spin at its end until the last has come, which on a busy machine costs
    many times what one thread takes; these lose no more than the cores that others hold.
    """
    if threads == 1:
        yield from map(work, items)
        return
    with ThreadPoolExecutor(threads) as pool:
        ahead: deque[Future[Any]] = deque()
        for item in items:
            ahead.append(pool.submit(work, item))
            if len(ahead) > 2 * threads:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()


class Rows:
    """N x d floats in memory or a file, read a chunk at a time, as rows of unit length or not."""

    among: Int64[Tensor, " m"] | None = None  # those that count, None for all

    def __init__(
        self,
        embeddings: Any,
        chunk: int | None = None,
        device: torch.device | str = "cpu",
        threads: int = 1,
        unit: bool = True,
    ) -> None:
        shape = tuple(getattr(embeddings, "shape", ()))
        # a dtype such as float32 or torch.float16
        if len(shape) != 2 or "float" not in str(getattr(embeddings, "dtype", "")) or 0 in shape:
            raise BadInput(
                "embeddings: must be a numpy or torch matrix of floating-point numbers, one row a "
                f"sample; got {type(embeddings).__name__} of shape {shape}."
            )
        self.device = torch.device(device)
        gpu = self.device.type == "cuda"
        if gpu and not torch.cuda.is_available():
            raise BadInput(f"device is {str(device)!r}, but torch sees no GPU; use 'cpu'.")
        self.embeddings, self.chunk = embeddings, chunk or (16 * CHUNK if gpu else CHUNK)
        self.total, self.threads, self.unit = shape[0], 1 if gpu else threads, unit

    def only(self, among: Int64[Tensor, " m"]) -> "Rows":
        """Those of these numbers, numbered anew."""
        rows = copy(self)
        rows.among, rows.total = among, len(among)
        return rows

    def __getitem__(self, part: Part) -> Float[Tensor, "c d"]:
        """The rows of a slice, or of numbers on the CPU, in float32."""
        at = part if self.among is None else self.among[part]
        if isinstance(self.embeddings, Tensor):
            rows = self.embeddings[at]
        else:
            rows = self.embeddings[at.numpy() if isinstance(at, Tensor) else at]
            rows = rows if rows.flags.writeable else rows.copy()  # of a file that is read only
        rows = torch.as_tensor(rows).detach().to(self.device, torch.float32)
        if not self.unit:
            return rows
        lengths = rows.norm(dim=1)  # (c,)
        wrong = ~torch.isfinite(lengths) | (lengths == 0)
        if bool(wrong.any()):
            number = int(wrong.nonzero()[0])
            row = at.start + number if isinstance(at, slice) else int(at[number])
            raise BadInput(f"embeddings: row {row} has NaN or infinity, or is all zeros.")
        return rows / lengths.unsqueeze(1)

    def map(
        self,
        work: Callable[[Any, Float[Tensor, "c d"]], Any],
        index: Int64[Tensor, " m"] | None = None,
    ) -> Iterator[Any]:
        """``work`` of each chunk, given its numbers and its rows: those of ``index``, or all."""
        parts: Iterable[Part]
        if index is not None:
            parts = index.split(self.chunk)
        else:
            starts = range(0, self.total, self.chunk)
            parts = [slice(start, min(start + self.chunk, self.total)) for start in starts]
        return in_order(lambda part: work(part, self[part]), parts, self.threads)


class Coded(NamedTuple):
    """Unit rows in the number format of a product."""

    values: Tensor  # m x d
    scale: Tensor | None  # a value's worth, m x 1 or a single one; None where values are the rows

    def part(self, rows: slice) -> "Coded":
        """These rows."""
        scale = self.scale if self.scale is None or self.scale.numel() == 1 else self.scale[rows]
        return Coded(self.values[rows], scale)


def code(x: Float[Tensor, "m d"], product: Product, *, one_scale: bool = False) -> Coded:
    """Convert unit rows.

    ``one_scale`` gives all the same, so that int8 scores compare without, and repeats the first
    row until ``TILE`` divides their number, as ``nearest`` asks.
    """
    if one_scale:
        x = torch.cat([x, x[:1].expand(-len(x) % TILE, -1)])
    if product == "float32":
        return Coded(x, None)
    values, scale = x.bfloat16(), None
    if product == "int8":
        high = x.abs().amax() if one_scale else x.abs().amax(1, keepdim=True)
        scale = (high / 127).clamp_min(1e-12)
        values = (x / scale).round_().to(torch.int8)
    return Coded(values, scale)


def inner(a: Float[Tensor, "m d"], b: Float[Tensor, "k d"]) -> Float[Tensor, "m k"]:
    """a b', by oneDNN where torch has it: MKL takes twice the time on processors of AMD."""
    if a.dtype == torch.float32 and a.device.type == "cpu" and ONEDNN:
        return torch.ops.mkldnn._linear_pointwise(a, b, None, "none", [], "")
    return a @ b.T


def scores(a: Coded, b: Coded) -> Tensor:
    """a b', unscaled: int32 for int8 values, else of their type."""
    if a.values.dtype == torch.float32:
        return inner(a.values, b.values)
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


def nearest(x: Coded, theta: Coded) -> Int64[Tensor, " m"]:
    """Each row's nearest centroid; ``theta`` has one scale: integers compare.

    Found in steps that a processor takes many numbers at a time in: the best of each of ``TILE``
    lanes of centroids, the best lane, the best in that lane.
    """
    best = found = torch.empty(0)
    for start in range(0, len(theta.values), BLOCK):
        lanes = scores(x, theta.part(slice(start, start + BLOCK))).view(len(x.values), -1, TILE)
        top, lane = lanes.amax(1).max(1)  # (m,)
        places = lane.view(-1, 1, 1).expand(-1, lanes.shape[1], 1)
        index = lanes.gather(2, places).squeeze(2).argmax(1) * TILE + lane + start
        found = torch.where(top > best, index, found) if start else index
        best = torch.maximum(top, best) if start else top
    return found


@cache
def fastest(d: int, device: torch.device) -> Product:
    """float32 or int8, whichever takes rows of d numbers to their nearest centroids in less time.

    Measured once, in a few milliseconds. Not bfloat16: its scores are rounded so much that the
    choice covers a pool less well, and where it is fast, int8 is.
    """
    m, k = (128, 512) if device.type == "cpu" else (16_384, 4096)
    numbers = torch.arange(m * d, dtype=torch.float32, device=device)
    x = normalize(numbers.square().sin().view(m, d), dim=1)
    times: dict[Product, float] = {}
    for product in ("float32", "int8"):
        theta = code(x.repeat(4, 1)[:k], product, one_scale=True)
        for _ in range(4):  # the first warms up
            begun = time.perf_counter()
            nearest(code(x, product), theta).cpu()
            times[product] = min(time.perf_counter() - begun, times.get(product, torch.inf))
    return min(times, key=times.__getitem__)
