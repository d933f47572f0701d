"""Caltech-101 (Fei-Fei et al., 2004): 9,144 photographs of 101 kinds of objects and a background.

It has no official split. Ours is in ``data/caltech101``: 70/10/20 % of each class for training,
validation and test, as ``data/make_splits.py`` made it.
"""

from pathlib import Path

import torch

from vecaf_lib.data.folder import Crop, read_index
from vecaf_lib.data.images import FileImages, ImageSet
from vecaf_lib.data.place import files_below
from vecaf_lib.errors import BadInput

FOLDER = "101_ObjectCategories"


def load(
    split: str,
    *,
    image_size: int,
    index_dir: Path,
    root: Path,
    background: bool = False,
    crop: Crop = 1.0,
) -> ImageSet:
    """Load one split, with ids such as ``ant/image_0001.jpg``.

    Args:
        root: ``101_ObjectCategories``, or a folder that holds it.
        background: include the class of images that show none of the objects.
        crop: share of the shorter side that is kept.
    """
    places = [root, root / FOLDER, *sorted(root.glob(f"*/{FOLDER}"))]
    folder = next((place for place in places if place.name == FOLDER and place.is_dir()), None)
    if folder is None:
        raise BadInput(f"{root} neither is nor holds a folder {FOLDER}, as Caltech-101 has it.")
    index = read_index(index_dir)
    index = index[(index["class"] != "BACKGROUND_Google") | background]
    if missing := sorted({*index["file"]} - {*files_below(folder)}):
        raise BadInput(
            f"{folder} lacks {len(missing):,} of the {len(index):,} images of the split, such as "
            f"{', '.join(missing[:3])}; unpack the archive again."
        )
    classes = sorted({*index["class"]})
    index = index[index["split"] == split]
    return ImageSet(
        images=FileImages([f"{folder}/{file}" for file in index["file"]], image_size, crop=crop),
        labels=torch.tensor([classes.index(name) for name in index["class"]], dtype=torch.int64),
        ids=tuple(index["file"]),
        class_names=tuple(name.replace("_", " ") for name in classes),
    )
