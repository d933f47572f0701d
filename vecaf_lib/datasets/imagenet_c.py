"""ImageNet-C (Hendrycks and Dietterich, ICLR 2019) as published.

The folders are ``<corruption>/<severity>/<synset>/*.JPEG``: ImageNet's validation images, already
cut to 224 px. They are used at that size without resizing, which would soften the corruptions.
"""

from pathlib import Path
from typing import Literal

from vecaf_lib.datasets._class_folders import list_images
from vecaf_lib.datasets.file_images import FileImages
from vecaf_lib.datasets.imagenet import synset_names
from vecaf_lib.datasets.images import ImageSet
from vecaf_lib.errors import BadInput

PUBLISHED_SIZE = 224  # px
Corruption = Literal[
    "gaussian_noise", "shot_noise", "impulse_noise",
    "defocus_blur", "glass_blur", "motion_blur", "zoom_blur",
    "snow", "frost", "fog", "brightness",
    "contrast", "elastic_transform", "pixelate", "jpeg_compression",
    "speckle_noise", "gaussian_blur", "spatter", "saturate",  # the four extra ones
]  # fmt: skip
Severity = Literal[1, 2, 3, 4, 5]


def load(
    split: str,
    *,
    image_size: int,
    index_dir: Path,
    root: Path,
    corruption: Corruption = "snow",
    severity: Severity = 3,
    resize: bool = False,
) -> ImageSet:
    """Load one corruption at one severity; the images stay in their files until asked for.

    Args:
        split: ``test``, the only one.
        image_size: height and width in pixels; 224 unless ``resize``.
        index_dir: ``data/imagenet_c``; the synsets' names are in ``classes.csv`` of ``imagenet``
            beside it.
        root: folder with the corruptions' folders.
        corruption: one of the 19.
        severity: 1 (weakest) to 5.
        resize: resize to ``image_size``; False cuts the centre out of the image as it is.

    Returns:
        Images with ids such as ``snow/3/n01440764/ILSVRC2012_val_00000293.JPEG``; classes
        numbered over the folders, in the order of the synsets, as ImageNet's are.

    Raises:
        BadInput: another split or size is asked for, or the folder is missing or not laid out so.
    """
    if split != "test":
        raise BadInput(f"ImageNet-C has only the split test, not {split!r}; train on ImageNet.")
    if image_size != PUBLISHED_SIZE and not resize:
        raise BadInput(
            f"image_size is {image_size} px, but ImageNet-C's images have {PUBLISHED_SIZE} px; "
            f"choose {PUBLISHED_SIZE}, or the option resize: true."
        )
    part = f"{corruption}/{severity}"
    if not (root / part).is_dir():
        raise BadInput(
            f"{root / part} is missing; ImageNet-C's archives hold folders "
            "<corruption>/<severity>/<synset>, to be unpacked into one folder."
        )
    listing = list_images(root / part)
    ids = tuple(f"{part}/{file}" for file in listing.files)
    return ImageSet(
        images=FileImages([f"{root}/{name}" for name in ids], image_size, resize=resize),
        labels=listing.labels,
        ids=ids,
        class_names=synset_names(index_dir.parent / "imagenet", root / part),
    )
