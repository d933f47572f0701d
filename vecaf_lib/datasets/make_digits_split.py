"""Write the index files of the digits: ``python -m vecaf_lib.datasets.make_digits_split FOLDER``.

A split stratified by class with a fixed seed, done once; the files are committed, so that no
version of scikit-learn can change who is in which split.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from vecaf_lib.files import atomic_write

SIZES = {"train": 1000, "validation": 297, "test": 500}
SEED = 2401


def make_split(folder: Path, *, seed: int = SEED) -> None:
    """Write ``train.csv``, ``validation.csv`` and ``test.csv`` to ``folder``."""
    labels = load_digits().target
    rest, test = train_test_split(
        np.arange(len(labels)), test_size=SIZES["test"], stratify=labels, random_state=seed
    )
    train, validation = train_test_split(
        rest, test_size=SIZES["validation"], stratify=labels[rest], random_state=seed
    )
    for split, indices in {"train": train, "validation": validation, "test": test}.items():
        rows = np.sort(indices)
        table = pd.DataFrame({"index": rows, "label": labels[rows]})
        text = table.to_csv(index=False, lineterminator="\n")
        atomic_write(folder / f"{split}.csv", text.encode())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Write the index files of the digits.")
    parser.add_argument("folder", type=Path, help="where the three files go, e.g. data/digits")
    make_split(parser.parse_args().folder)
