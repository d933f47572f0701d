"""Caltech-101 (Fei-Fei et al., 2004): 9,144 photographs of 101 kinds of objects and a background.

It has no official split. Ours is in ``data/caltech101``: 70/10/20 % of each class for training,
validation and test; ``make_caltech101_split`` made it.
"""

import warnings
from pathlib import Path
from typing import Annotated

import pandas as pd
import torch
from pydantic import Field

from vecaf_lib.datasets._class_folders import is_image
from vecaf_lib.datasets._duplicates import duplicates, warn_of
from vecaf_lib.datasets.file_images import FileImages
from vecaf_lib.datasets.images import ImageSet
from vecaf_lib.errors import BadInput

SPLITS = ("train", "validation", "test")
FOLDER = "101_ObjectCategories"
BACKGROUND = "BACKGROUND_Google"
NAMED = 3  # missing files that a sentence names
Crop = Annotated[float, Field(gt=0, le=1)]


def load(
    split: str,
    *,
    image_size: int,
    index_dir: Path,
    root: Path,
    background: bool = False,
    crop: Crop = 1.0,
) -> ImageSet:
    """Load one split; the images stay in their files until they are asked for.

    Args:
        split: ``train``, ``validation`` or ``test``.
        image_size: height and width in pixels; the centre square of each image.
        index_dir: folder with ``train.csv``, ``validation.csv`` and ``test.csv``, each with the
            columns ``file`` (such as ``ant/image_0001.jpg``) and ``class``.
        root: ``101_ObjectCategories``, or a folder that holds it.
        background: include the class of images that show none of the objects.
        crop: share of the shorter side that is kept.

    Returns:
        Images in the order of the index file with ``file`` as id; 101 classes, or 102.

    Raises:
        BadInput: the split is wrong, an index file is missing, damaged or overlaps another one,
            or images that it lists are missing.
    """
    if split not in SPLITS:
        raise BadInput(f"There is no split called {split!r}; known are: {', '.join(SPLITS)}.")
    index = _read_indices(index_dir)
    if not background:
        index = index[index["class"] != BACKGROUND]
    folder = _image_folder(root)
    _check_files(folder, index)
    classes = sorted(set(index["class"]))
    table = index[index["split"] == split]
    numbers = table["class"].map({name: number for number, name in enumerate(classes)})
    return ImageSet(
        images=FileImages([f"{folder}/{file}" for file in table["file"]], image_size, crop=crop),
        labels=torch.tensor(numbers.tolist(), dtype=torch.int64),
        ids=tuple(table["file"]),
        class_names=tuple(name.replace("_", " ") for name in classes),
    )


def _read_indices(index_dir: Path) -> pd.DataFrame:
    index = pd.concat([_read_index(index_dir, split) for split in SPLITS], ignore_index=True)
    if (twice := index["file"].duplicated()).any():
        file = index[twice]["file"].iloc[0]
        where = index[index["file"] == file]["split"]
        raise BadInput(
            f"{index_dir} lists {file} twice ({' and '.join(f'{name}.csv' for name in where)}); "
            f"{twice.sum():,} such; splits must not overlap."
        )
    return index


def _read_index(index_dir: Path, split: str) -> pd.DataFrame:
    path = index_dir / f"{split}.csv"
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except FileNotFoundError as error:
        raise BadInput(
            f"{path} is missing; `python -m vecaf_lib.datasets.make_caltech101_split IMAGES "
            f"{index_dir}` makes it."
        ) from error
    except ValueError as error:
        raise BadInput(f"{path} is not a table with the header file,class ({error}).") from error
    if list(table.columns) != ["file", "class"] or not isinstance(table.index, pd.RangeIndex):
        raise BadInput(f"{path} must have exactly the two columns file,class.")
    if table.empty:
        raise BadInput(f"{path} lists no image; a split needs at least one.")
    if (wrong := table["file"].str.split("/").str[0] != table["class"]).any():
        file, name = table[wrong].iloc[0]
        raise BadInput(f"{path} gives {file} the class {name!r}; its folder is its class.")
    return table.assign(split=split)


def _image_folder(root: Path) -> Path:
    candidates = [root, root / FOLDER, *sorted(root.glob(f"*/{FOLDER}"))]
    for folder in candidates:
        if folder.name == FOLDER and folder.is_dir():
            return folder
    raise BadInput(f"{root} neither is nor holds a folder {FOLDER}, as Caltech-101 has it.")


def _check_files(folder: Path, index: pd.DataFrame) -> None:
    present = {
        f"{name}/{path.name}"
        for name in sorted(set(index["class"]))
        if (folder / name).is_dir()
        for path in (folder / name).iterdir()
        if is_image(path.name) and not path.name.startswith(".")
    }
    if missing := [file for file in sorted(index["file"]) if file not in present]:
        more = f" and {len(missing) - NAMED:,} more" if len(missing) > NAMED else ""
        raise BadInput(
            f"{folder} lacks {len(missing):,} of the {len(index):,} images of the split: "
            f"{', '.join(missing[:NAMED])}{more}; unpack the archive again."
        )
    if extra := sorted(present - set(index["file"])):
        warnings.warn(
            f"{folder}: {len(extra):,} images are in no split and are left out (the first is "
            f"{extra[0]}).",
            stacklevel=2,
        )
    # a published set is taken as it is: equal files are told, not refused
    warn_of(folder, duplicates(folder, sorted(index["file"])))
