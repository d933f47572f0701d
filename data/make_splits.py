"""Make the committed index files again: python data/make_splits.py [101_ObjectCategories]."""

import sys
from pathlib import Path

import pandas as pd
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from vecaf_lib.data.folder import deal, list_images


def digits(folder: Path, *, seed: int = 2401) -> None:
    """1,000 training, 297 validation and 500 test images, by class alike."""
    labels = load_digits().target
    rest, test = train_test_split(range(1797), test_size=500, stratify=labels, random_state=seed)
    train, validation = train_test_split(
        rest, test_size=297, stratify=labels[rest], random_state=seed
    )
    for split, rows in {"train": train, "validation": validation, "test": test}.items():
        write(folder / f"{split}.csv", index=sorted(rows), label=labels[sorted(rows)])


def caltech101(folder: Path, images: Path, *, seed: int = 2401) -> None:
    """70/10/20 % of each class below ``images``; their names and the seed alone decide."""
    parts = deal(list_images(images, "", image_size=1), {"test": 20.0, "validation": 10.0}, seed)
    for split, part in parts.items():
        columns = {"file": part.ids, "class": [name.split("/")[0] for name in part.ids]}
        write(folder / f"{split}.csv", **columns)


def write(path: Path, **columns: object) -> None:
    """An index file, a row an image."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(columns).to_csv(path, index=False, lineterminator="\n")


if __name__ == "__main__":
    digits(Path(__file__).parent / "digits")
    for images in sys.argv[1:]:
        caltech101(Path(__file__).parent / "caltech101", Path(images))
