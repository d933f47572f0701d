"""Any image folder of the user's own, with one folder a class.

Layouts: ``train/<class>/``, ``test/<class>/`` and, if there is one, ``validation/<class>/`` (or
``val``); or just ``<class>/``, of which shares are held out. Folders may be nested in a class.
"""

from pathlib import Path
from typing import Annotated

import torch
from pydantic import Field

from vecaf_lib.datasets._class_folders import ClassFolders, list_images
from vecaf_lib.datasets._duplicates import refuse_shared
from vecaf_lib.datasets._holdout import deal
from vecaf_lib.datasets.file_images import FileImages
from vecaf_lib.datasets.images import ImageSet
from vecaf_lib.errors import BadInput

Percent = Annotated[float, Field(gt=0, lt=100)]
Crop = Annotated[float, Field(gt=0, le=1)]
NAMED = 3  # odd classes that a sentence names
Positions = dict[str, list[int]]  # of each split's images in the list of all


def load(
    split: str,
    *,
    image_size: int,
    root: Path,
    validation_percent: Percent = 10.0,
    test_percent: Percent = 20.0,
    holdout_seed: int = 2401,
    crop: Crop = 1.0,
) -> ImageSet:
    """Load one split; the images stay in their files until they are asked for.

    Args:
        split: ``train``, ``validation`` or ``test``.
        image_size: height and width in pixels; the centre square of each image.
        root: the folder.
        validation_percent: share of each class to hold out of the training images, where there is
            no folder ``validation``; at least one image.
        test_percent: the same for the test split, where there are no folders of splits at all.
        holdout_seed: another number holds out other images; which, depends on their names alone.
        crop: share of the shorter side that is kept.

    Returns:
        Images with their path below ``root`` as id, such as ``train/cat/0001.jpg``.

    Raises:
        BadInput: the folder is not laid out as above, a class is missing in a split or is too
            small, or the same bytes are in two splits.
    """
    percent = {"test": test_percent, "validation": validation_percent}
    listing, splits = _splits(root, percent, holdout_seed)
    refuse_shared(
        root, {name: [listing.files[position] for position in at] for name, at in splits.items()}
    )
    at = splits[split]
    ids = tuple(listing.files[position] for position in at)
    return ImageSet(
        images=FileImages([f"{root}/{name}" for name in ids], image_size, crop=crop),
        labels=listing.labels[at],
        ids=ids,
        class_names=listing.classes,
    )


def _splits(root: Path, percent: dict[str, float], seed: int) -> tuple[ClassFolders, Positions]:
    folders = {name: root / name for name in ("train", "validation", "test")}
    if (root / "val").is_dir() and not folders["validation"].is_dir():
        folders["validation"] = root / "val"
    present = {name: folder for name, folder in folders.items() if folder.is_dir()}
    if not present:
        listing = list_images(root)
        return listing, deal(listing.files, listing.labels, percent, seed)
    if "train" not in present or "test" not in present:
        raise BadInput(
            f"{root} has {' and '.join(present)}, but not both train and test; a folder with "
            "splits needs these two, validation is optional."
        )
    listing, splits = _together(root, present)
    if "validation" not in present:
        train = splits["train"]
        ids = [listing.files[position] for position in train]
        share = {"validation": percent["validation"]}
        dealt = deal(ids, listing.labels[train], share, seed)
        splits |= {name: [train[position] for position in at] for name, at in dealt.items()}
    return listing, splits


def _together(root: Path, folders: dict[str, Path]) -> tuple[ClassFolders, Positions]:
    """One list over the folders of several splits, which must have the same classes."""
    listings = {name: list_images(folder) for name, folder in folders.items()}
    classes = listings["train"].classes
    splits: Positions = {}
    files: list[str] = []
    for name, listing in listings.items():
        if odd := sorted(set(listing.classes) ^ set(classes)):
            raise BadInput(
                f"{folders['train']} and {folders[name]} have different class folders; only one "
                f"of them has {', '.join(odd[:NAMED])}{' and more' if len(odd) > NAMED else ''}."
            )
        splits[name] = list(range(len(files), len(files) + len(listing.files)))
        files += [f"{folders[name].name}/{file}" for file in listing.files]
    labels = torch.cat([listing.labels for listing in listings.values()])
    return ClassFolders(root, classes, tuple(files), labels), splits
