"""CIFAR-10: 60,000 photographs of 32x32 px in ten classes (Krizhevsky, 2009).

Read from the official archive as it is, from its unpacked folder, or from image folders. The
official files are Python pickles, which can run any code: each is compared with its published
checksum first, and then read by an unpickler that knows arrays and nothing else.
"""

import io
import pickle
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from pydantic import Field
from torch import Tensor

from vecaf_lib.datasets._archive import read_members, verify
from vecaf_lib.datasets._class_folders import list_images
from vecaf_lib.datasets._holdout import hash_ranks, held_out
from vecaf_lib.datasets.file_images import FileImages
from vecaf_lib.datasets.images import ImageSet
from vecaf_lib.datasets.lazy import LazyImages, ResizedImages
from vecaf_lib.errors import BadInput

ARCHIVE = "cifar-10-python.tar.gz"
ARCHIVE_MD5 = "c58f30108f718f92721af3b95e74349a"  # as the official page gives it
ARCHIVE_SIZE: int | None = 170_498_071  # bytes
UNPACKED = "cifar-10-batches-py"
BATCH_MD5 = {  # as torchvision's datasets/cifar.py gives them
    "data_batch_1": "c99cafc152244af753f735de768cd75f",
    "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
    "data_batch_4": "634d18415352ddfa80567beed471001a",
    "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    "test_batch": "40351d587109b95175f43aff81a1287e",
}
CLASS_NAMES = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)
SIDE = 32  # px
PIXELS = 3 * SIDE * SIDE  # of a row: all red ones, then green, then blue
Part = tuple[LazyImages, Int64[Tensor, " n"], tuple[str, ...]]  # images, labels, ids


def load(
    split: str,
    *,
    image_size: int,
    root: Path,
    validation_per_class: Annotated[int, Field(ge=1)] = 500,
    pool_per_class: Annotated[int, Field(ge=1)] | None = None,
    holdout_seed: int = 2401,
) -> ImageSet:
    """Load one split; images of another size than 32 px are resized a batch at a time.

    Args:
        split: ``test`` is the official one; ``train`` and ``validation`` share the official
            training images.
        image_size: height and width in pixels.
        root: the official archive, a folder that holds it, the unpacked ``cifar-10-batches-py``
            or its parent, or a folder with ``train/<class>/`` and ``test/<class>/``.
        validation_per_class: images a class that are held out for validation.
        pool_per_class: training images a class at most, for machines that cannot pass over all of
            them; null keeps all that are not held out.
        holdout_seed: chooses both; see ``_holdout.held_out``.

    Returns:
        The images in official order with ids such as ``train-00042``, or of image folders in
        that of their names with ids such as ``train/airplane/0042.jpg``.

    Raises:
        BadInput: ``root`` is none of these, or a file is not the published one.
    """
    part = "test" if split == "test" else "train"
    place = _official_place(root)
    images, labels, ids = (
        _official(place, part, image_size) if place else _folders(root, part, image_size)
    )
    if split != "test":
        held = held_out(ids, labels, validation_per_class, holdout_seed)
        kept = ~held
        if pool_per_class is not None:
            ranks = hash_ranks(ids, labels, holdout_seed)
            kept &= ranks < validation_per_class + pool_per_class
        chosen = (held if split == "validation" else kept).nonzero()[:, 0]
        images = images.take(chosen)
        labels, ids = labels[chosen], tuple(ids[index] for index in chosen.tolist())
    whole = images[:] if isinstance(images, ResizedImages) and image_size == SIDE else images
    return ImageSet(images=whole, labels=labels, ids=ids, class_names=CLASS_NAMES)


def _folders(root: Path, part: str, image_size: int) -> Part:
    if not (root / "train").is_dir() or not (root / "test").is_dir():
        raise BadInput(
            f"dataset.root: {root} holds neither {ARCHIVE} nor {UNPACKED}/ nor the image folders "
            "train/ and test/; give the folder or file that has the CIFAR-10 images."
        )
    listing = list_images(root / part)
    if listing.classes != CLASS_NAMES:
        odd = sorted({*listing.classes} ^ {*CLASS_NAMES})
        raise BadInput(
            f"{root / part} must have one folder for each of {', '.join(CLASS_NAMES)}, and no "
            f"other; {odd[0]!r} is {'missing' if odd[0] in CLASS_NAMES else 'none of them'}."
        )
    ids = tuple(f"{part}/{file}" for file in listing.files)
    return FileImages([root / name for name in ids], image_size), listing.labels, ids


def _official(place: Path, part: str, image_size: int) -> Part:
    names = [name for name in BATCH_MD5 if name.startswith("test") == (part == "test")]
    rows, labels = [], []
    for name, content in _contents(place, names).items():
        batch_rows, batch_labels = _batch(content, f"{name} of {place}")
        rows.append(batch_rows)
        labels.append(batch_labels)
    pixels = torch.cat(rows).reshape(-1, 3, SIDE, SIDE)  # (n, 3072) -> (n, 3, 32, 32)
    ids = tuple(f"{part}-{index:05d}" for index in range(len(pixels)))
    return ResizedImages(pixels, image_size), torch.cat(labels), ids


def _official_place(root: Path) -> Path | None:
    """The archive, or the folder of batches; None where there is neither."""
    for archive in (root, root / ARCHIVE):
        if archive.is_file():
            return archive
    for folder in (root, root / UNPACKED):
        if (folder / "test_batch").is_file():
            return folder
    return None


def _contents(place: Path, names: list[str]) -> dict[str, bytes]:
    """The batches of these names, each compared with its published checksum."""
    if place.is_file():
        verify(place, md5=ARCHIVE_MD5, size=ARCHIVE_SIZE)
        members = read_members(place, [f"{UNPACKED}/{name}" for name in names])
        return {name: members[f"{UNPACKED}/{name}"] for name in names}
    for name in names:
        if not (place / name).is_file():
            raise BadInput(f"{place / name} is missing; unpack {ARCHIVE} again.")
        verify(place / name, md5=BATCH_MD5[name])
    return {name: (place / name).read_bytes() for name in names}


_RECONSTRUCT = np.zeros(0).__reduce__()[0]
_NEEDED_FOR_ARRAYS = {
    ("numpy.core.multiarray", "_reconstruct"): _RECONSTRUCT,  # NumPy 1, as the official files
    ("numpy._core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
}


class _Arrays(pickle.Unpickler):
    """Reads numbers, text, lists, dicts and NumPy arrays; refuses every other thing."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _NEEDED_FOR_ARRAYS:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return _NEEDED_FOR_ARRAYS[module, name]


def _batch(content: bytes, where: str) -> tuple[UInt8[Tensor, "n 3072"], Int64[Tensor, " n"]]:
    try:
        batch = _Arrays(io.BytesIO(content), encoding="bytes").load()
        pixels, labels = batch[b"data"], np.asarray(batch[b"labels"])
    except Exception as error:  # a pickle can fail in any way
        raise BadInput(f"{where} is not a batch of CIFAR-10 ({error}).") from error
    right = (
        isinstance(pixels, np.ndarray)
        and pixels.dtype == np.uint8
        and pixels.shape == (len(labels), PIXELS)
        and np.issubdtype(labels.dtype, np.integer)
        and ((labels >= 0) & (labels < len(CLASS_NAMES))).all()
    )
    if not right:
        raise BadInput(
            f"{where} is not a batch of CIFAR-10: data must be rows of {PIXELS} bytes, and labels "
            f"as many numbers in 0..{len(CLASS_NAMES) - 1}."
        )
    return torch.from_numpy(pixels.copy()), torch.from_numpy(labels.astype(np.int64))
