"""ImageNet-1K as its users keep it: ``train/<synset>/*.JPEG`` and ``val/<synset>/*.JPEG``.

The official archive has validation images without folders; the public script valprep.sh sorts them.
They are the test split here; a validation split is held out of the training images, because nothing
may be chosen on the test split. Any subset of the 1,000 synsets is accepted, in their order.

ImageNet-C (Hendrycks and Dietterich, ICLR 2019) as published: ``<corruption>/<severity>/<synset>/
*.JPEG``, its validation images cut to 224 px, used at that size without resizing, which would
soften the corruptions.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from vecaf_lib.data.folder import Crop, class_folders, hold_out, list_images, refuse_difference
from vecaf_lib.data.images import ImageSet
from vecaf_lib.data.load import Corruption, Severity
from vecaf_lib.errors import BadInput
from vecaf_lib.options import Count

PUBLISHED_SIZE = 224  # px, of ImageNet-C's images


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
    """Load one split, with ids such as ``train/n01440764/n01440764_10026.JPEG``.

    Args:
        index_dir: folder with ``classes.csv``, the names of the synsets.
        validation_per_class: images of each class that are held out of ``train/``.
        holdout_seed: another number holds out other images; which, depends on their names alone.
        crop: share of the shorter side that is kept; 0.875 is 256 px cut to 224.
    """
    synsets = [*class_folders(root / "train")]
    refuse_difference(root / "train", synsets, root / "val", [*class_folders(root / "val")])
    images = list_images(root, "val" if split == "test" else "train", image_size, crop)
    images = replace(images, class_names=synset_names(index_dir, synsets))
    return hold_out(images, split, validation_per_class, holdout_seed)


def synset_names(index_dir: Path, synsets: Sequence[str]) -> tuple[str, ...]:
    """Names of synsets such as n01440764, from ``classes.csv``."""
    names = pd.read_csv(index_dir / "classes.csv", index_col="synset")["name"].to_dict()
    if unknown := [synset for synset in synsets if synset not in names]:
        raise BadInput(f"{len(unknown):,} class folders are no synsets, such as {unknown[0]}.")
    return tuple(names[synset] for synset in synsets)


def load_corrupted(
    split: str,
    *,
    image_size: int,
    index_dir: Path,
    root: Path,
    corruption: Corruption = "snow",
    severity: Severity = 3,
    resize: bool = False,
) -> ImageSet:
    """Load one corruption at one severity; ``test`` is the only split.

    Args:
        index_dir: ``data/imagenet_c``, beside ``data/imagenet`` with the names of the synsets.
        corruption: one of the 19.
        severity: 1 (weakest) to 5.
        resize: resize to ``image_size``; False cuts the centre out of the image as it is.
    """
    if split != "test":
        raise BadInput(f"ImageNet-C has only the split test, not {split!r}; train on ImageNet.")
    if image_size != PUBLISHED_SIZE and not resize:
        raise BadInput(
            f"image_size is {image_size} px, but ImageNet-C's images have {PUBLISHED_SIZE} px; "
            f"choose {PUBLISHED_SIZE}, or the option resize: true."
        )
    if not (root / corruption / str(severity)).is_dir():
        layout = "<corruption>/<severity>/<synset>/*.JPEG"
        raise BadInput(f"{root} has no {corruption}/{severity}; ImageNet-C is {layout}.")
    images = list_images(root, f"{corruption}/{severity}", image_size, resize=resize)
    names = synset_names(index_dir.parent / "imagenet", images.class_names)
    return replace(images, class_names=names)
