"""Images that are made when they are asked for, so that memory does not grow with the data set."""

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

import torch
from jaxtyping import Bool, Int64, UInt8
from torch import Tensor
from torch.nn.functional import interpolate

T = TypeVar("T")
Index = int | slice | Sequence[int] | Int64[Tensor, " k"] | Bool[Tensor, " n"]
GIB = 2**30
DECODED_AT_ONCE = 256  # images, while a whole set is taken into memory
_END = object()


class LazyImages(ABC):
    """RGB images of one size, 0..255, in place of a tensor [n, 3, h, w].

    It is indexed and split as that tensor would be; what comes out are tensors. A subclass says
    how many images there are (``__len__``), how large (``shape``), and makes them (``_make``).
    """

    @property
    @abstractmethod
    def shape(self) -> tuple[int, int, int, int]:
        """(n, 3, h, w)."""

    @abstractmethod
    def take(self, indices: Index) -> "LazyImages":
        """The images at ``indices``, in that order, without making any."""

    @abstractmethod
    def _make(self, positions: list[int]) -> UInt8[Tensor, "k 3 h w"]:
        """Make the images at these positions, each in ``range(len(self))``."""

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, at: Index) -> UInt8[Tensor, "*k 3 h w"]:
        positions = self._positions(at)
        return self._make([positions])[0] if isinstance(positions, int) else self._make(positions)

    def split(self, size: int) -> Iterator[UInt8[Tensor, "k 3 h w"]]:
        """All images in order, in batches of ``size``; the next two are made in the background."""
        starts = range(0, len(self), size)
        return ahead(self[start : start + size] for start in starts)

    def _positions(self, at: Index) -> Any:
        # a tensor's own rules: negative numbers, slices, masks, IndexError outside the range
        return torch.arange(len(self))[at].tolist()


class ResizedImages(LazyImages):
    """Small images held at their own size [n, 3, h, w] and resized to ``image_size`` px a batch.

    Bicubic with antialiasing. Images that already have the size are handed out unchanged.
    """

    def __init__(self, images: UInt8[Tensor, "n 3 _ _"], image_size: int) -> None:
        self._images = images
        self._size = image_size

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(n, 3, h, w)."""
        return (len(self._images), 3, self._size, self._size)

    def take(self, indices: Index) -> "ResizedImages":
        """The images at ``indices``, in that order, still at their own size."""
        return ResizedImages(self._images[self._positions(indices)], self._size)

    def _make(self, positions: list[int]) -> UInt8[Tensor, "k 3 h w"]:
        native = self._images[positions]  # (k, 3, own height, own width)
        size = (self._size, self._size)
        if native.shape[2:] == size:
            return native
        large = interpolate(
            native.float(), size=size, mode="bicubic", antialias=True, align_corners=False
        )
        # bicubic overshoots at edges: clamp before the cast, which would wrap
        return large.clamp(0, 255).round().to(torch.uint8)


def in_memory(
    images: LazyImages,
    limit_gib: float,
    *,
    bar: Callable[[Iterable[int]], Iterable[int]] | None = None,
) -> UInt8[Tensor, "n 3 h w"] | LazyImages:
    """Make all images once, if as a tensor they take at most ``limit_gib`` GiB.

    Args:
        images: the images.
        limit_gib: memory they may take, in GiB; 0 leaves them lazy.
        bar: wraps the list of batches that is iterated, as a progress bar does.

    Returns:
        The tensor, or ``images`` unchanged where it would be too large.
    """
    if torch.Size(images.shape).numel() > limit_gib * GIB:
        return images
    whole = torch.empty(images.shape, dtype=torch.uint8)
    starts: Iterable[int] = list(range(0, len(images), DECODED_AT_ONCE))
    for start in starts if bar is None else bar(starts):
        part = slice(start, start + DECODED_AT_ONCE)
        whole[part] = images[part]
    return whole


def ahead(items: Iterable[T], depth: int = 2) -> Iterator[T]:
    """The same items in the same order, the next ``depth`` of them fetched in one other thread.

    Whatever ``items`` draws from a generator is therefore drawn up to ``depth`` items early. An
    exception comes out at its item's turn; when the caller stops early, the thread ends too.
    """
    source = iter(items)
    thread = ThreadPoolExecutor(1, thread_name_prefix="ahead")
    waiting: deque[Future[Any]] = deque()
    try:
        while True:
            while len(waiting) <= depth:
                waiting.append(thread.submit(next, source, _END))
            if (item := waiting.popleft().result()) is _END:
                return
            yield item
    finally:
        thread.shutdown(wait=True, cancel_futures=True)
