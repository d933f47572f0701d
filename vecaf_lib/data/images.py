"""Labelled images: in memory, or made when they are indexed, so that memory stays bounded."""

import math
import os
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from copy import copy
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import PIL
import torch
from jaxtyping import Bool, Int64, Shaped, UInt8
from joblib import cpu_count
from PIL import Image, ImageOps
from torch import Tensor
from torch.nn.functional import interpolate

from vecaf_lib.errors import BadInput
from vecaf_lib.files import sha256_json

T = TypeVar("T")
Index = int | slice | Sequence[int] | Int64[Tensor, " k"] | Bool[Tensor, " n"]
# Formats of pixels only: Pillow would hand PostScript to an interpreter.
FORMATS = ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "JPEG2000", "AVIF")
AT_ONCE = 256  # images, while a whole set is decoded
THREADS = min(cpu_count(), 32)
EXECUTOR = ThreadPoolExecutor(THREADS, thread_name_prefix="decode")


class LazyImages(ABC):
    """RGB images of one size, 0..255, indexed as a tensor [n, 3, h, w] would be.

    Or a frozen trunk's states of them, of any shape [n, ...], see ``vecaf_lib.models.trunk``.
    """

    _rows: Int64[Tensor, " n"] | None = None  # those of all images that are left; None: all
    shape: tuple[int, ...]

    def __init__(self, count: int, height: int, width: int) -> None:
        self.shape = (count, 3, height, width)

    @abstractmethod
    def _make(self, rows: list[int]) -> Shaped[Tensor, "k *_"]: ...

    def take(self, indices: Index) -> "LazyImages":
        """The images at ``indices``, in that order, without making any."""
        taken, rows = copy(self), self._positions(indices)
        taken._rows = torch.tensor(rows, dtype=torch.int64)
        taken.shape = (len(rows), *self.shape[1:])
        return taken

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, at: Index) -> Shaped[Tensor, "*_"]:
        positions = self._positions(at)
        return self._make([positions])[0] if isinstance(positions, int) else self._make(positions)

    def _positions(self, at: Index) -> Any:
        # a tensor's own rules: negative numbers, slices, masks, IndexError outside the range
        return (torch.arange(len(self)) if self._rows is None else self._rows)[at].tolist()


Images = UInt8[Tensor, "n 3 h w"] | LazyImages  # RGB, 0..255


@dataclass(frozen=True)
class ImageSet:
    """Labelled images of one size; as many labels as images, ids of their own."""

    images: Images
    labels: Int64[Tensor, "n"]  # class number of each image
    ids: tuple[str, ...]  # one name an image, all different, stable between versions of the split
    class_names: tuple[str, ...]
    states: LazyImages | None = None  # what a frozen trunk makes of them, where it is stored

    def __post_init__(self) -> None:
        counts = (len(self.images), len(self.labels), len(self.ids), len({*self.ids}))
        if len({*counts}) > 1:
            raise BadInput(
                "An image set of {} images has {} labels and {} ids, {} different.".format(*counts)
            )
        if ((self.labels < 0) | (self.labels >= len(self.class_names))).any():
            raise BadInput(f"An image set has a label outside 0..{len(self.class_names) - 1}.")

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def inputs(self) -> Images:
        """What a PVM is given: the stored states, else the images."""
        return self.images if self.states is None else self.states

    def subset(self, indices: Sequence[int] | Int64[Tensor, "k"]) -> "ImageSet":
        """The images at ``indices``, in that order, without repeats; lazy ones stay lazy."""
        chosen = indices.tolist() if isinstance(indices, Tensor) else list(indices)
        images = self.images
        return ImageSet(
            images=images[chosen] if isinstance(images, Tensor) else images.take(chosen),
            labels=self.labels[chosen],
            ids=tuple(self.ids[index] for index in chosen),
            class_names=self.class_names,
            states=self.states and self.states.take(chosen),
        )


def resized(images: Shaped[Tensor, "n c _ _"], size: int) -> UInt8[Tensor, "n c h w"]:
    """Resize images, 0..255, to squares of ``size`` px: bicubic with antialiasing."""
    large = interpolate(
        images.float(), size=(size, size), mode="bicubic", antialias=True, align_corners=False
    )
    # bicubic overshoots at edges: clamp before the cast, which would wrap
    return large.clamp(0, 255).round().to(torch.uint8)


class ResizedImages(LazyImages):
    """Small images held at their own size and resized to ``image_size`` px a batch."""

    def __init__(self, images: UInt8[Tensor, "n 3 _ _"], image_size: int) -> None:
        super().__init__(len(images), image_size, image_size)
        self._images, self._size = images, image_size

    def _make(self, rows: list[int]) -> UInt8[Tensor, "k 3 h w"]:
        return resized(self._images[rows], self._size)


class FileImages(LazyImages):
    """Images of one size, decoded from files; if one fails, all files that do are listed."""

    def __init__(
        self, paths: Sequence[Path | str], size: int, *, crop: float = 1.0, resize: bool = True
    ) -> None:
        super().__init__(len(paths), size, size)
        self._paths, self._size = [os.fspath(path) for path in paths], size
        self._how: dict[str, Any] = {"crop": crop, "resize": resize}

    @property
    def paths(self) -> list[str]:
        """The file of each image."""
        return [self._paths[row] for row in self._positions(slice(None))]

    def identity(self) -> list[Any]:
        """What decides the pixels, JSON-able: size and times of each file, and how it is read."""
        states = [(path, os.stat(path)) for path in self.paths]  # noqa: PTH116
        files = [[path, s.st_size, s.st_mtime_ns, s.st_ctime_ns] for path, s in states]
        return [files, self._size, self._how, PIL.__version__]

    def copied(self, folder: Path) -> UInt8[Tensor, "n 3 h w"]:
        """The pixels from a copy in ``folder``, which is made if it is not there."""
        name = sha256_json(self.identity())[:32]
        path, part = folder / f"{name}.npy", folder / f".{name}.{os.getpid()}.part"
        if not path.is_file():
            folder.mkdir(parents=True, exist_ok=True)
            try:
                with part.open("wb") as file:
                    header = {"descr": "|u1", "fortran_order": False, "shape": self.shape}
                    np.lib.format.write_array_header_1_0(file, header)
                    starts = range(0, len(self), AT_ONCE)
                    for pixels in ahead(self[start : start + AT_ONCE] for start in starts):
                        file.write(pixels.numpy().tobytes())
                part.replace(path)  # whole or not at all; two processes write the same bytes
            finally:
                part.unlink(missing_ok=True)
        # copy on write: nothing in memory ever changes the file
        return torch.from_numpy(np.load(path, mmap_mode="c", allow_pickle=False))

    def _make(self, rows: list[int]) -> UInt8[Tensor, "k 3 h w"]:
        images = [image for image in in_threads(self._decode, rows) if isinstance(image, Tensor)]
        if len(images) < len(rows):
            every = in_threads(self._decode, self._positions(slice(None)))
            faults = [fault for fault in every if isinstance(fault, str)]
            raise BadInput(
                f"{len(faults):,} of {len(self):,} image files cannot be used: "
                f"{', '.join(faults[:20])}; replace or remove them."
            )
        return torch.stack(images) if rows else torch.empty(0, *self.shape[1:], dtype=torch.uint8)

    def _decode(self, row: int) -> UInt8[Tensor, "3 h w"] | str:
        try:
            return decode(self._paths[row], self._size, **self._how)
        except BadInput as error:
            return f"{self._paths[row]} ({error})"


def decode(
    path: Path | str, image_size: int, *, crop: float = 1.0, resize: bool = True
) -> UInt8[Tensor, "3 h w"]:
    """Decode one file to the centre square of ``image_size`` px: upright, 8-bit RGB, on white.

    The shorter side becomes floor(image_size / crop) px by bicubic interpolation and the centre is
    cut out: the evaluation transform of timm, to within 2 levels of Pillow's rounding. With
    ``resize`` False the centre is cut out of the image as it is.

    Raises:
        BadInput: the file is missing, damaged, of unknown range or too small; the reason alone.
    """
    try:
        with Image.open(path, formats=FORMATS) as file:
            file.load()
            with suppress(Exception):  # damaged EXIF does no harm to the pixels
                ImageOps.exif_transpose(file, in_place=True)
            image = _to_rgb(file)
    except Exception as error:  # a damaged file can fail in any way
        raise BadInput(str(error).rstrip(".") or type(error).__name__) from error
    if not resize and min(image.size) < image_size:
        raise BadInput(f"has {image.width}x{image.height} px, fewer than {image_size} px")
    short = min(image.size)
    shorter = math.floor(image_size / crop) if resize else short
    # the size of the whole image after resizing, and the square to be cut out of it
    width, height = (int(shorter * side / short) for side in image.size)
    left, top = round((width - image_size) / 2), round((height - image_size) / 2)
    if shorter == short:
        image = image.crop((left, top, left + image_size, top + image_size))
    else:  # only the square is computed: a long strip would else become a huge image
        across, down = image.width / width, image.height / height
        right, bottom = (left + image_size) * across, (top + image_size) * down
        image = image.resize(
            (image_size, image_size),
            Image.Resampling.BICUBIC,
            box=(left * across, top * down, min(right, image.width), min(bottom, image.height)),
        )
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)  # (h, w, 3) to (3, h, w)


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith(("I", "F")):  # 16 bits a pixel; convert() would clip at 255
        values = np.asarray(image)
        if image.mode == "F" or values.min() < 0 or values.max() > 65535:
            raise BadInput("has floating-point pixels or more than 16 bits; save it with 8 bits")
        return Image.fromarray(np.round(values / 257).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image.convert("RGBA"))
    return image.convert("RGB")


def in_memory(images: LazyImages, folder: Path) -> UInt8[Tensor, "n 3 h w"]:
    """Make all images once; of files in a copy that processes share, if the disk has room."""
    if isinstance(images, FileImages):
        with suppress(OSError):
            return images.copied(folder)
    whole = torch.empty(images.shape, dtype=torch.uint8)
    for start in range(0, len(images), AT_ONCE):
        whole[start : start + AT_ONCE] = images[start : start + AT_ONCE]
    return whole


def ahead(items: Iterable[T], depth: int = 2) -> Iterator[T]:
    """The same items in the same order, the next ``depth`` of them fetched in one other thread.

    Whatever ``items`` draws from a generator is therefore drawn up to ``depth`` items early. An
    exception comes out at its item's turn; when the caller stops early, the thread ends too.
    """
    source = iter(items)
    end: Any = object()
    with ThreadPoolExecutor(1, thread_name_prefix="ahead") as thread:
        waiting = deque(thread.submit(next, source, end) for _ in range(depth + 1))
        while (item := waiting.popleft().result()) is not end:
            yield item
            waiting.append(thread.submit(next, source, end))


def in_threads(work: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
    """``[work(item) for item in items]`` on all processors; Pillow decodes outside the lock."""
    # a few chunks a thread: handing over single small images would cost more than decoding them
    size = max(1, min(64, len(items) // (4 * THREADS)))
    chunks = [items[start : start + size] for start in range(0, len(items), size)]
    return [*chain.from_iterable(EXECUTOR.map(lambda chunk: [*map(work, chunk)], chunks))]
