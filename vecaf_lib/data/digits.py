"""scikit-learn's handwritten digits: 1,797 real images of 8x8 px that come inside its wheel.

The split is committed in ``data/digits``, so that no version of scikit-learn can change it.
"""

from pathlib import Path

import numpy as np
import torch

from vecaf_lib.data.folder import read_index, write_index
from vecaf_lib.data.images import ImageSet, resized
from vecaf_lib.errors import BadInput

CLASS_NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def write_split(index_dir: Path, *, seed: int = 2401) -> None:
    """Write index files of 1,000 training, 297 validation and 500 test images, by class alike."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    labels = load_digits().target
    rest, test = train_test_split(range(1797), test_size=500, stratify=labels, random_state=seed)
    train, validation = train_test_split(
        rest, test_size=297, stratify=labels[rest], random_state=seed
    )
    for split, rows in {"train": train, "validation": validation, "test": test}.items():
        path = index_dir / f"{split}.csv"
        write_index(path, index=sorted(rows), label=labels[sorted(rows)].tolist())


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
