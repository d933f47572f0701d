"""Corrupted copies of another data set's images, made here by the library corrupt-tta.

The 19 corruptions of ImageNet-C (Hendrycks and Dietterich, ICLR 2019) in five severities, in a
reimplementation whose pixels are not those of the published ImageNet-C: name results after
"generated corruptions", never after ImageNet-C.
"""

import hashlib
import importlib.util
import threading
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

import numpy as np
import torch
from jaxtyping import UInt8
from pydantic import Field
from torch import Tensor

from vecaf_lib.datasets._load import load_lazily
from vecaf_lib.datasets.imagenet_c import Corruption
from vecaf_lib.datasets.images import ImageSet
from vecaf_lib.datasets.lazy import Index, LazyImages
from vecaf_lib.errors import BadInput

SMALLEST = 32  # px; blurring kernels and the zoom need them


def load(
    split: str,
    *,
    image_size: int,
    data: Path,
    given_root: str | None,
    of: str = "digits",
    of_options: dict[str, Any] | None = None,
    corruption: Corruption,
    severity: Annotated[int, Field(ge=1, le=5)],
    corruption_seed: Annotated[int, Field(ge=0)] = 0,
) -> ImageSet:
    """Load one split of the data set ``of`` with each image corrupted when it is asked for.

    Args:
        split: ``train``, ``validation`` or ``test``.
        image_size: height and width in pixels, at least 32.
        data: the project's data folder.
        given_root: the raw data of ``of``; None: where they are looked for.
        of: the data set of the clean images.
        of_options: its own options.
        corruption: one of the 19 names.
        severity: 1 (weak) to 5 (strong).
        corruption_seed: with an image's id it is the seed of all that the corruption draws.

    Returns:
        Labels and class names are those of ``of``; ids get ``+<corruption>-<severity>``.

    Raises:
        BadInput: the images are too small, corrupt-tta is not installed, or ``of`` refuses.
    """
    if image_size < SMALLEST:
        raise BadInput(
            f"image_size is {image_size} px; generated corruptions need at least {SMALLEST} px."
        )
    clean = load_lazily(
        of, split, image_size=image_size, data=data, root=given_root, options=of_options or {}
    )
    ids = tuple(f"{name}+{corruption}-{severity}" for name in clean.ids)
    draw = _Corruption(corruption, severity, corruption_seed)
    images = CorruptedImages(clean.images, clean.ids, draw)
    return ImageSet(images=images, labels=clean.labels, ids=ids, class_names=clean.class_names)


class CorruptedImages(LazyImages):
    """Images [n, 3, h, w] that are corrupted when they are asked for.

    Args:
        clean: the images.
        ids: their names, on which the random numbers depend.
        corrupt: from an image [h, w, 3] and a name to the corrupted image.
    """

    def __init__(
        self,
        clean: UInt8[Tensor, "n 3 h w"] | LazyImages,
        ids: Sequence[str],
        corrupt: "_Corruption",
    ) -> None:
        self._clean, self._ids, self._corrupt = clean, tuple(ids), corrupt

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(n, 3, h, w)."""
        n, _, height, width = self._clean.shape
        return (n, 3, height, width)

    def take(self, indices: Index) -> "CorruptedImages":
        """The images at ``indices``, in that order; none is corrupted yet."""
        positions = self._positions(indices)
        clean = self._clean
        chosen = clean[positions] if isinstance(clean, Tensor) else clean.take(positions)
        return CorruptedImages(chosen, [self._ids[at] for at in positions], self._corrupt)

    def _make(self, positions: list[int]) -> UInt8[Tensor, "k 3 h w"]:
        clean = self._clean[positions]  # (k, 3, h, w)
        images = torch.empty_like(clean)
        for row, position in enumerate(positions):
            pixels = clean[row].permute(1, 2, 0).contiguous().numpy()  # (h, w, 3)
            corrupted = self._corrupt(pixels, self._ids[position])
            images[row] = torch.from_numpy(corrupted).permute(2, 0, 1)
        return images


class _Corruption:
    """One corruption at one severity; the same image gets the same one every time.

    The library draws from NumPy's global random state, and once from the system's. So this keeps
    a copy of its module, in which both stand for a stream of its own, seeded for each image.
    """

    def __init__(self, name: str, severity: int, seed: int) -> None:
        self._name, self._severity, self._seed = name, severity, seed
        self._module: Any = _private_copy("corrupt_tta.corruptions")
        self._random_noise = self._module.random_noise
        self._lock = threading.Lock()  # the copy's stream serves one image at a time

    def __call__(self, pixels: UInt8[np.ndarray, "h w 3"], name: str) -> UInt8[np.ndarray, "h w 3"]:
        words = f"{self._seed}/{self._name}/{self._severity}/{name}"
        seed = int.from_bytes(hashlib.sha256(words.encode()).digest()[:4], "little")
        with self._lock:
            self._module.np = _NumPy(np.random.RandomState(seed))
            self._module.random_noise = partial(self._random_noise, rng=seed)
            levels = getattr(self._module, self._name)(pixels, self._severity)
        return np.asarray(levels).clip(0, 255).round().astype(np.uint8)


class _NumPy:
    """NumPy with another ``random``."""

    def __init__(self, random: np.random.RandomState) -> None:
        self.random = random

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)


def _private_copy(name: str) -> ModuleType:
    try:
        spec: Any = importlib.util.find_spec(name)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    except ImportError as error:
        raise BadInput(
            "dataset.name: generated corruptions need the package corrupt-tta "
            f"({error}); `pip install corrupt-tta` installs it."
        ) from error
    return module
