"""scikit-learn's handwritten digits: 1,797 real images of 8x8 px that come inside its wheel."""

from functools import cache
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from jaxtyping import UInt8
from sklearn.datasets import load_digits
from sklearn.utils import Bunch
from torch import Tensor
from torch.nn.functional import interpolate

from vecaf_lib.datasets.images import ImageSet
from vecaf_lib.errors import BadInput

SPLITS = ("train", "validation", "test")
CLASS_NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
INK_LEVELS = 16  # the source counts inked pixels in 4x4 blocks: 0..16
SOURCE_SIZE = 8  # px


def load(split: str, *, image_size: int, index_dir: Path) -> ImageSet:
    """Load one split, as RGB images of ``image_size`` px with white ink on black.

    Args:
        split: ``train``, ``validation`` or ``test``.
        image_size: height and width in pixels, at least 8.
        index_dir: folder with ``train.csv``, ``validation.csv`` and ``test.csv``, each with the
            columns ``index`` (row of ``sklearn.datasets.load_digits``) and ``label``.

    Returns:
        The images in the order of the index file, with ids such as ``digits-0042``.

    Raises:
        BadInput: the split or size is wrong, or an index file is missing, damaged, overlaps
            another one or disagrees with the data.
    """
    if split not in SPLITS:
        raise BadInput(f"There is no split called {split!r}; known are: {', '.join(SPLITS)}.")
    if image_size < SOURCE_SIZE:
        raise BadInput(f"image_size is {image_size} px; digits need at least {SOURCE_SIZE} px.")
    source = _source()
    indices = _checked_splits(index_dir, source.target)[split]
    return ImageSet(
        images=_enlarged(source.images[indices], image_size),
        labels=torch.from_numpy(source.target[indices].astype(np.int64)),
        ids=tuple(f"digits-{index:04d}" for index in indices),
        class_names=CLASS_NAMES,
    )


@cache
def _source() -> Bunch:
    return load_digits()


def _enlarged(ink: np.ndarray, image_size: int) -> UInt8[Tensor, "n 3 h w"]:
    grey = torch.from_numpy(ink).float()[:, None] * (255 / INK_LEVELS)  # (n, 1, 8, 8)
    size = (image_size, image_size)
    grey = interpolate(grey, size=size, mode="bicubic", antialias=True, align_corners=False)
    # bicubic overshoots at edges: clamp before the cast, which would wrap
    return grey.clamp(0, 255).round().to(torch.uint8).repeat(1, 3, 1, 1)  # (n, 3, h, w)


def _checked_splits(index_dir: Path, labels: np.ndarray) -> dict[str, np.ndarray]:
    splits = {split: _read_index(index_dir / f"{split}.csv", labels) for split in SPLITS}
    for first, second in combinations(SPLITS, 2):
        if len(shared := np.intersect1d(splits[first], splits[second])):
            raise BadInput(
                f"{index_dir / first}.csv and {second}.csv share {len(shared)} images (the first "
                f"is {shared[0]}); splits must not overlap."
            )
    return splits


def _read_index(path: Path, labels: np.ndarray) -> np.ndarray:
    try:
        table = pd.read_csv(path, dtype="int64")
    except FileNotFoundError as error:
        raise BadInput(
            f"{path} is missing; `python -m vecaf_lib.datasets.make_digits_split {path.parent}` "
            "makes it."
        ) from error
    except ValueError as error:
        raise BadInput(
            f"{path} is not a table of whole numbers with the header index,label ({error})."
        ) from error
    if list(table.columns) != ["index", "label"] or not isinstance(table.index, pd.RangeIndex):
        raise BadInput(f"{path} must have exactly the two columns index,label.")
    if table.empty:
        raise BadInput(f"{path} lists no image; a split needs at least one.")
    indices = table["index"].to_numpy()
    if (outside := (indices < 0) | (indices >= len(labels))).any():
        raise BadInput(
            f"{path} lists image {indices[outside][0]}, outside 0..{len(labels) - 1}, the images "
            "that scikit-learn has."
        )
    if (twice := table["index"].duplicated()).any():
        raise BadInput(f"{path} lists image {indices[twice][0]} twice; each may stand there once.")
    if (wrong := table["label"].to_numpy() != labels[indices]).any():
        row = table[wrong].iloc[0]
        raise BadInput(
            f"{path} gives image {row['index']} the label {row['label']}, but scikit-learn's data "
            f"say {labels[row['index']]}."
        )
    return indices
