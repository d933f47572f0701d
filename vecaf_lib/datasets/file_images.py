"""Images in files, decoded in threads when they are asked for."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

import torch
from jaxtyping import UInt8
from torch import Tensor

from vecaf_lib.datasets._decode import decode, read_rgb
from vecaf_lib.datasets.lazy import Index, LazyImages
from vecaf_lib.errors import BadInput

S = TypeVar("S")
T = TypeVar("T")
MOST_THREADS = 32
LONGEST_CHUNK = 64  # images
NAMED = 20  # damaged files that are listed; the rest is counted


class FileImages(LazyImages):
    """Images of one size, decoded from files; see ``_decode.decode``.

    Args:
        paths: one file an image.
        image_size: height and width, in pixels.
        crop: share of the shorter side that is kept, in (0, 1].
        resize: False cuts the centre out of each image as it is.

    Raises:
        BadInput: on asking for images, some file of the set cannot be decoded: all are listed.
    """

    def __init__(
        self,
        paths: Sequence[Path | str],
        image_size: int,
        *,
        crop: float = 1.0,
        resize: bool = True,
    ) -> None:
        if image_size < 1:
            raise BadInput(f"image_size is {image_size} px; at least 1 px is needed.")
        if not 0 < crop <= 1:
            raise BadInput(f"crop is {crop:g}; it is a share of the shorter side, in (0, 1].")
        self.paths = tuple(os.fspath(path) for path in paths)
        self._size, self._crop, self._resize = image_size, crop, resize

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(n, 3, h, w)."""
        return (len(self.paths), 3, self._size, self._size)

    @property
    def preparation(self) -> dict[str, float]:
        """What decides the pixels beside the files: size, crop, and whether they are resized."""
        return {
            "size": float(self._size),
            "crop": float(self._crop),
            "resize": float(self._resize),
        }

    def take(self, indices: Index) -> "FileImages":
        """The images at ``indices``, in that order; no file is opened."""
        paths = [self.paths[position] for position in self._positions(indices)]
        return FileImages(paths, self._size, crop=self._crop, resize=self._resize)

    def _make(self, positions: list[int]) -> UInt8[Tensor, "k 3 h w"]:
        images = torch.empty(len(positions), 3, self._size, self._size, dtype=torch.uint8)

        def fill(row: int) -> None:
            path = self.paths[positions[row]]
            images[row] = decode(path, self._size, crop=self._crop, resize=self._resize)

        try:
            in_threads(fill, range(len(positions)))
        except BadInput as error:
            raise BadInput(self._all_faults()) from error
        return images

    def _all_faults(self) -> str:
        reasons = in_threads(self._fault, self.paths)
        faults = [
            f"{path} ({reason})"
            for path, reason in zip(self.paths, reasons, strict=True)
            if reason is not None
        ]
        more = f", and {len(faults) - NAMED:,} more" if len(faults) > NAMED else ""
        return (
            f"{len(faults):,} of {len(self):,} image files cannot be used: "
            f"{', '.join(faults[:NAMED])}{more}; replace or remove them."
        )

    def _fault(self, path: str) -> str | None:
        try:
            if self._resize:
                read_rgb(path)  # resizing finds no further fault
            else:
                decode(path, self._size, resize=False)
        except BadInput as error:
            return str(error)
        return None


def in_threads(work: Callable[[S], T], items: Sequence[S]) -> list[T]:
    """``[work(item) for item in items]`` on all processors; Pillow decodes outside the lock."""
    # a few chunks a thread: handing over single small images would cost more than decoding them
    size = max(1, min(LONGEST_CHUNK, len(items) // (4 * _thread_count())))
    chunks = [items[start : start + size] for start in range(0, len(items), size)]
    done = _threads(os.getpid()).map(lambda chunk: [work(item) for item in chunk], chunks)
    return [result for chunk in done for result in chunk]


@lru_cache(maxsize=1)
def _threads(process: int) -> ThreadPoolExecutor:
    # keyed by the process, because a fork copies the executor but not its threads
    return ThreadPoolExecutor(_thread_count(), thread_name_prefix="decode")


def _thread_count() -> int:
    try:
        processors = len(os.sched_getaffinity(0))
    except AttributeError:  # not on every system
        processors = os.cpu_count() or 1
    return min(processors, MOST_THREADS)
