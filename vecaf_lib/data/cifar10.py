"""CIFAR-10: 60,000 photographs of 32x32 px in ten classes (Krizhevsky, 2009).

Read from the official archive as it is, from its unpacked folder, or from image folders. The
official files are Python pickles, which can run any code: each is compared with its published
checksum before, and then read by an unpickler that has arrays and nothing else.
"""

import io
import pickle
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from vecaf_lib.data.fetch import verify
from vecaf_lib.data.folder import hold_out, list_images, refuse_difference
from vecaf_lib.data.images import ImageSet, ResizedImages
from vecaf_lib.data.place import ARCHIVES
from vecaf_lib.errors import BadInput
from vecaf_lib.options import Count

ARCHIVE = ARCHIVES["cifar10"]
UNPACKED = "cifar-10-batches-py"
MD5 = {  # of the archive as the official page gives it, of the rest as torchvision does
    ARCHIVE: "c58f30108f718f92721af3b95e74349a",
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
RECONSTRUCT = np.zeros(0).__reduce__()[0]
NEEDED_FOR_ARRAYS = {
    ("numpy.core.multiarray", "_reconstruct"): RECONSTRUCT,  # NumPy 1, as the official files
    ("numpy._core.multiarray", "_reconstruct"): RECONSTRUCT,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
}


def load(
    split: str,
    *,
    image_size: int,
    root: Path,
    validation_per_class: Count = 500,
    pool_per_class: Count | None = None,
    holdout_seed: int = 2401,
) -> ImageSet:
    """Load one split, with ids such as ``train-00042`` or ``train/airplane/0042.jpg``.

    ``test`` is the official one; ``train`` and ``validation`` share the official training images.

    Args:
        root: the official archive, a folder that holds it, the unpacked ``cifar-10-batches-py``
            or its parent, or a folder with ``train/<class>/`` and ``test/<class>/``.
        validation_per_class: images a class that are held out for validation.
        pool_per_class: training images a class at most; null keeps all that are not held out.
        holdout_seed: chooses both; see ``folder.hold_out``.
    """
    part = "test" if split == "test" else "train"
    if contents := _official(root, "test" if part == "test" else "data"):
        batches = [_batch(content, name) for name, content in contents.items()]
        pixels = torch.cat([rows for rows, _ in batches]).reshape(-1, 3, SIDE, SIDE)
        images = ImageSet(
            images=pixels if image_size == SIDE else ResizedImages(pixels, image_size),
            labels=torch.cat([labels for _, labels in batches]),
            ids=tuple(f"{part}-{index:05d}" for index in range(len(pixels))),
            class_names=CLASS_NAMES,
        )
    elif (root / "train").is_dir() and (root / "test").is_dir():
        images = list_images(root, part, image_size)
        refuse_difference(root / part, images.class_names, Path("CIFAR-10"), CLASS_NAMES)
    else:
        raise BadInput(
            f"dataset.root: {root} holds neither {ARCHIVE} nor {UNPACKED}/ nor the image folders "
            "train/ and test/; give the folder or file that has the CIFAR-10 images."
        )
    return hold_out(images, split, validation_per_class, holdout_seed, pool_per_class)


def _official(root: Path, kind: str) -> dict[str, bytes]:
    names = [name for name in MD5 if name.startswith(kind)]
    for path in (root, root / ARCHIVE):
        if path.is_file():
            verify(path, MD5[ARCHIVE])
            with tarfile.open(path) as tar:
                files = {name: tar.extractfile(f"{UNPACKED}/{name}") for name in names}
                return {name: file.read() for name, file in files.items() if file}
    for folder in (root, root / UNPACKED):
        if (folder / "test_batch").is_file():
            for name in names:
                verify(folder / name, MD5[name])
            return {name: (folder / name).read_bytes() for name in names}
    return {}


class _Arrays(pickle.Unpickler):
    """Reads numbers, text, lists, dicts and NumPy arrays; refuses every other thing."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in NEEDED_FOR_ARRAYS:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return NEEDED_FOR_ARRAYS[module, name]


def _batch(content: bytes, name: str) -> tuple[UInt8[Tensor, "n 3072"], Int64[Tensor, " n"]]:
    try:
        batch = _Arrays(io.BytesIO(content), encoding="bytes").load()
        pixels, labels = batch[b"data"], np.asarray(batch[b"labels"], dtype=np.int64)
        if pixels.dtype != np.uint8 or pixels.shape != (len(labels), 3 * SIDE * SIDE):
            raise ValueError(f"its data are {pixels.dtype} of shape {pixels.shape}")
    except Exception as error:  # a pickle can fail in any way
        raise BadInput(f"{name} is not a batch of CIFAR-10 ({error}).") from error
    return torch.from_numpy(pixels.copy()), torch.from_numpy(labels)
