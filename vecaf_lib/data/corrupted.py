"""Corrupted copies of another data set's images, made here by the library corrupt-tta.

The 19 corruptions of ImageNet-C (Hendrycks and Dietterich, ICLR 2019) in five severities, in a
reimplementation whose pixels are not those of the published ImageNet-C: name results after
"generated corruptions", never after ImageNet-C.
"""

import hashlib
import importlib.util
import threading
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any

import numpy as np
import torch
from jaxtyping import UInt8
from pydantic import Field
from torch import Tensor

from vecaf_lib.data.images import Images, ImageSet, LazyImages
from vecaf_lib.data.load import Corruption, load_lazily
from vecaf_lib.errors import BadInput


def load(
    split: str,
    *,
    image_size: int,
    data: Path,
    root_of: str | None,
    of: str = "digits",
    of_options: dict[str, Any] | None = None,
    corruption: Corruption,
    severity: Annotated[int, Field(ge=1, le=5)],
    corruption_seed: Annotated[int, Field(ge=0)] = 0,
) -> ImageSet:
    """Load one split of the data set ``of`` with each image corrupted when it is indexed.

    Labels and class names are those of ``of``; ids get ``+<corruption>-<severity>``.

    Args:
        of: the data set of the clean images, of at least 32 px, whose raw data are at ``root_of``.
        of_options: its own options.
        corruption: one of the 19 names.
        severity: 1 (weak) to 5 (strong).
        corruption_seed: with an image's id it is the seed of all that the corruption draws.
    """
    clean = load_lazily(
        of, split, image_size=image_size, data=data, root=root_of, options=of_options
    )
    images = CorruptedImages(clean.images, clean.ids, corruption, severity, corruption_seed)
    ids = tuple(f"{name}+{corruption}-{severity}" for name in clean.ids)
    return replace(clean, images=images, ids=ids)


class CorruptedImages(LazyImages):
    """Images that are corrupted when they are indexed; the same name gets the same corruption.

    The library draws from NumPy's global random state, and once from the system's. So this keeps
    a copy of its module, in which both stand for a stream of its own, seeded for each image.
    """

    def __init__(
        self, clean: Images, names: Sequence[str], corruption: Corruption, severity: int, seed: int
    ) -> None:
        super().__init__(len(clean), *clean.shape[2:])
        self._clean, self._names, self._how = clean, names, (corruption, severity, seed)
        try:
            spec: Any = importlib.util.find_spec("corrupt_tta.corruptions")
            self._module: Any = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(self._module)
        except ImportError as error:
            raise BadInput(
                f"dataset.name: generated corruptions need `pip install corrupt-tta` ({error})."
            ) from error
        self._random_noise = self._module.random_noise
        self._lock = threading.Lock()  # the copy's stream serves one image at a time

    def _make(self, rows: list[int]) -> UInt8[Tensor, "k 3 h w"]:
        corruption, severity, own_seed = self._how
        images = torch.empty(len(rows), *self.shape[1:], dtype=torch.uint8)
        for place, (row, image) in enumerate(zip(rows, self._clean[rows], strict=True)):
            words = f"{own_seed}/{corruption}/{severity}/{self._names[row]}"
            seed = int.from_bytes(hashlib.sha256(words.encode()).digest()[:4], "little")
            pixels = image.permute(1, 2, 0).contiguous().numpy()  # (h, w, 3)
            with self._lock:
                own = vars(np) | {"random": np.random.RandomState(seed)}
                self._module.np = SimpleNamespace(**own)
                self._module.random_noise = partial(self._random_noise, rng=seed)
                levels = getattr(self._module, corruption)(pixels, severity)
            levels = np.asarray(levels).clip(0, 255).round().astype(np.uint8)
            images[place] = torch.from_numpy(levels).permute(2, 0, 1)
        return images
