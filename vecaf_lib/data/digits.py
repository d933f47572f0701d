"""scikit-learn's handwritten digits: 1,797 real images of 8x8 px that come inside its wheel.

The split is committed in ``data/digits``, as ``data/make_splits.py`` made it, so that no version of
scikit-learn can change it.
"""

from pathlib import Path

import numpy as np
import torch

from vecaf_lib.data.folder import read_index
from vecaf_lib.data.images import ImageSet, resized
from vecaf_lib.errors import BadInput

CLASS_NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def load(split: str, *, image_size: int, index_dir: Path) -> ImageSet:
    """Load one split, as RGB images with white ink on black and ids such as ``digits-0042``."""
    from sklearn.datasets import load_digits  # here, as it takes a second

    source = load_digits()
    index = read_index(index_dir)
    if (wrong := index["label"] != source.target[index["index"]]).any():
        raise BadInput(f"{index_dir}: {dict(index[wrong].iloc[0])} is not in scikit-learn.")
    rows = index["index"][index["split"] == split].to_numpy()
    # the source counts the inked pixels of 4x4 blocks: 0..16
    ink = torch.from_numpy(source.images[rows]).float()[:, None]  # (n, 1, 8, 8)
    return ImageSet(
        images=resized(ink * (255 / 16), image_size).repeat(1, 3, 1, 1),  # (n, 3, h, w)
        labels=torch.from_numpy(source.target[rows].astype(np.int64)),
        ids=tuple(f"digits-{row:04d}" for row in rows),
        class_names=CLASS_NAMES,
    )
