"""ImageNet-1K as its users keep it: ``train/<synset>/*.JPEG`` and ``val/<synset>/*.JPEG``.

The official validation images are the test split here; a validation split is held out of the
training images, because nothing may be chosen on the test split. Any subset of the 1,000 synsets
is accepted; classes are numbered over the folders that are there, in the order of the synsets,
which for all 1,000 is the usual numbering.
"""

import csv
from pathlib import Path
from typing import Annotated

from pydantic import Field

from vecaf_lib.datasets._class_folders import class_names, is_image, list_images
from vecaf_lib.datasets._holdout import held_out
from vecaf_lib.datasets.file_images import FileImages
from vecaf_lib.datasets.images import ImageSet
from vecaf_lib.errors import BadInput

Count = Annotated[int, Field(ge=1)]
Crop = Annotated[float, Field(gt=0, le=1)]


def load(
    split: str,
    *,
    image_size: int,
    index_dir: Path,
    root: Path,
    validation_per_class: Count = 10,
    holdout_seed: int = 2401,
    crop: Crop = 0.875,
) -> ImageSet:
    """Load one split; the images stay in their files until they are asked for.

    Args:
        split: ``train``, ``validation`` (held out of ``train/``) or ``test`` (all of ``val/``).
        image_size: height and width in pixels.
        index_dir: folder with ``classes.csv``, the names of the synsets.
        root: folder with ``train`` and ``val``.
        validation_per_class: images of each class that are held out.
        holdout_seed: another number holds out other images; which, depends on their names alone.
        crop: share of the shorter side that is kept; 0.875 is 256 px cut to 224.

    Returns:
        Images with ids such as ``train/n01440764/n01440764_10026.JPEG``.

    Raises:
        BadInput: the folder is not laid out as above, has an unknown synset, or a class is too
            small.
    """
    folder = _checked(root)
    names = synset_names(index_dir, folder["train"])
    part = "val" if split == "test" else "train"
    listing = list_images(folder[part])
    ids = tuple(f"{part}/{file}" for file in listing.files)
    data = ImageSet(
        images=FileImages([f"{root}/{name}" for name in ids], image_size, crop=crop),
        labels=listing.labels,
        ids=ids,
        class_names=names,
    )
    if split == "test":
        return data
    mask = held_out(ids, listing.labels, validation_per_class, holdout_seed)
    return data.subset((mask if split == "validation" else ~mask).nonzero()[:, 0])


def synset_names(index_dir: Path, folder: Path) -> tuple[str, ...]:
    """Names of the synsets that have a folder in ``folder``, in the order of the folders.

    Raises:
        BadInput: ``classes.csv`` is missing or spoilt, or a folder is no ImageNet-1K synset.
    """
    path = index_dir / "classes.csv"
    try:
        with path.open(encoding="utf-8", newline="") as file:
            names = {row["synset"]: row["name"] for row in csv.DictReader(file)}
    except FileNotFoundError as error:
        raise BadInput(f"{path} is missing; it comes with the project's repository.") from error
    except (KeyError, UnicodeDecodeError) as error:
        raise BadInput(f"{path} is not a table with the columns synset,name.") from error
    synsets = class_names(folder)
    if unknown := [synset for synset in synsets if synset not in names]:
        raise BadInput(
            f"{folder} has {len(unknown):,} folders that are no synsets of ImageNet-1K (the first "
            f"is {unknown[0]}); only folders such as n01440764 belong there."
        )
    return tuple(names[synset] for synset in synsets)


def _checked(root: Path) -> dict[str, Path]:
    folder = {part: root / part for part in ("train", "val")}
    if missing := [part for part, path in folder.items() if not path.is_dir()]:
        raise BadInput(
            f"{root} has no folder {' and no folder '.join(missing)}; ImageNet needs both, each "
            "with one folder a synset."
        )
    if any(is_image(path.name) for path in folder["val"].iterdir()):
        raise BadInput(
            f"{folder['val']} holds images without synset folders, as the official archive does; "
            "sort them first, for instance with the public script valprep.sh run in that folder."
        )
    train, val = (set(class_names(path)) for path in folder.values())
    if odd := sorted(train ^ val):
        raise BadInput(
            f"{root}: train and val have different synsets ({len(odd):,} are in one alone, the "
            f"first is {odd[0]}); both need the same folders."
        )
    return folder
