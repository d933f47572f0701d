"""Write the index files of Caltech-101.

``python -m vecaf_lib.datasets.make_caltech101_split IMAGES FOLDER``, where IMAGES is the folder
101_ObjectCategories. Done once from the names of all 9,144 files; the files are committed.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import torch

from vecaf_lib.datasets._class_folders import list_images
from vecaf_lib.datasets._holdout import deal
from vecaf_lib.files import atomic_write

PERCENT = {"test": 20.0, "validation": 10.0}  # of each class, rounded; the rest is train
SEED = 2401


def make_split(files: Sequence[str], folder: Path, *, seed: int = SEED) -> None:
    """Write ``train.csv``, ``validation.csv`` and ``test.csv`` to ``folder``.

    Args:
        files: all images, such as ``ant/image_0001.jpg``.
        folder: where the three files go.
        seed: another number deals the images otherwise.
    """
    files = sorted(files)
    classes = [file.split("/")[0] for file in files]
    numbers = {name: number for number, name in enumerate(sorted(set(classes)))}
    labels = torch.tensor([numbers[name] for name in classes])
    for split, at in deal(files, labels, PERCENT, seed).items():
        table = pd.DataFrame({"file": [files[i] for i in at], "class": [classes[i] for i in at]})
        text = table.to_csv(index=False, lineterminator="\n")
        atomic_write(folder / f"{split}.csv", text.encode())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Write the index files of Caltech-101.")
    parser.add_argument("images", type=Path, help="the folder 101_ObjectCategories")
    parser.add_argument("folder", type=Path, help="where the files go, e.g. data/caltech101")
    arguments = parser.parse_args()
    make_split(list_images(arguments.images).files, arguments.folder)
