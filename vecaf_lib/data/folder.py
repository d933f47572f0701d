"""Image folders with one folder a class: listed in the same order on every machine, and split.

``load`` reads one of the user's own: ``train/<class>/``, ``test/<class>/`` and, optionally,
``validation/<class>/`` (other names of splits: ``SPLIT_NAMES``); or just ``<class>/``, of which
shares are held out. Folders may be nested in a class. Names count in Unicode's form NFC.
"""

import hashlib
import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated

import pandas as pd
import torch
from jaxtyping import Int64
from pydantic import Field
from torch import Tensor

from vecaf_lib.data.images import FileImages, ImageSet, in_threads
from vecaf_lib.data.load import SPLITS
from vecaf_lib.data.place import files_below, nfc, visible
from vecaf_lib.errors import BadInput
from vecaf_lib.files import sha256_file

SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".gif", ".bmp", ".tif", ".tiff", ".webp"),
    *(".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".j2k", ".avif"),
)
SPLIT_NAMES = {  # of folders, in small letters, as Hugging Face's datasets reads them
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev"), "validation"),
    **dict.fromkeys(("test", "testing", "eval", "evaluation"), "test"),
}
Percent = Annotated[float, Field(gt=0, lt=100)]
Crop = Annotated[float, Field(gt=0, le=1)]


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
    """Load one split of an own folder, with ids such as ``train/cat/0001.jpg``.

    Args:
        validation_percent: share of each class to hold out of the training images, where there is
            no folder ``validation``; at least one image.
        test_percent: the same for the test split, where there are no folders of splits at all.
        holdout_seed: another number holds out other images; which, depends on their names alone.
        crop: share of the shorter side that is kept.
    """
    folders, others = dict[str, str](), list[str]()
    for name in sorted(entry.name for entry in visible(root) if entry.is_dir()):
        if (part := SPLIT_NAMES.get(name.lower())) is None:
            others.append(name)
        elif folders.setdefault(part, name) != name:
            raise BadInput(f"{root} has {folders[part]} and {name}, both for {part}; keep one.")
    parts = {part: list_images(root, name, image_size, crop) for part, name in folders.items()}
    if not parts:
        percent = {"test": test_percent, "validation": validation_percent}
        parts = deal(list_images(root, "", image_size, crop), percent, holdout_seed)
    elif not {"train", "test"} <= {*parts}:
        beside = f" (beside {', '.join(others[:3])})" if others else ""
        raise BadInput(
            f"{root} has {' and '.join(folders.values())}{beside}; it needs both train and test, "
            "or none and a folder for each class."
        )
    elif others:
        warnings.warn(f"{root}: {', '.join(others)} are no splits and left out.", stacklevel=2)
    train = root / folders.get("train", "")
    for part, name in folders.items():
        refuse_difference(train, parts["train"].class_names, root / name, parts[part].class_names)
    if "validation" not in parts:
        parts |= deal(parts["train"], {"validation": validation_percent}, holdout_seed)
    refuse_duplicates(root, parts)
    return parts[split]


def by_nfc(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """Names in Unicode's form NFC -> as the disk has them, sorted; BadInput if two become one."""
    found = dict[str, str]()
    for name in names:
        if found.setdefault(nfc(name), name) != name:
            raise BadInput(f"{folder} has {name!r} twice, in two Unicode forms; rename one.")
    return dict(sorted(found.items()))


def class_folders(folder: Path) -> dict[str, str]:
    """The classes in a folder, sorted: name -> folder as the disk has it; hidden ones are none.

    Raises:
        BadInput: there are fewer than two, images lie beside them, or a link leads to nowhere.
    """
    entries = sorted(visible(folder), key=lambda entry: entry.name)
    classes = by_nfc(folder, (entry.name for entry in entries if entry.is_dir()))
    files = (entry.name for entry in entries if entry.is_file())
    loose = [name for name in files if name.lower().endswith(SUFFIXES)]
    if loose or len(classes) < 2:
        below = [folder / name for name in classes.values()]
        meant = [path for path in below if sum(entry.is_dir() for entry in visible(path)) > 1]
        beside = [path for path in folder.parent.glob("*/*") if path.suffix.lower() in SUFFIXES]
        if not classes and len({path.parent for path in beside}) > 1:
            meant = [folder.parent]
        has = ", ".join([*classes, *loose][:3]) or "none"
        raise BadInput(
            f"{folder} should hold a folder for each of at least two classes and no images, but "
            f"has {has}{f'; did you mean {meant[0]}?' if meant else '.'}"
        )
    return classes


def list_images(
    root: Path, part: str, image_size: int, crop: float = 1.0, *, resize: bool = True
) -> ImageSet:
    """The images of every class in the folder ``part`` of ``root``, nested ones too.

    Ids are relative to root with forward slashes, by class, then by name. Hidden and system files
    are passed over; others that are no images by their ending give a warning.
    """
    folder = root / part
    classes = class_folders(folder)
    ids, paths, labels, others = list[str](), list[str](), list[int](), list[str]()
    for number, (cls, name) in enumerate(classes.items()):
        below = by_nfc(folder / name, files_below(folder / name))
        images = [file for file in below if file.lower().endswith(SUFFIXES)]
        if not images:
            raise BadInput(f"{folder / name} has no image; fill or remove this class folder.")
        others += [f"{cls}/{file}" for file in below if not file.lower().endswith(SUFFIXES)]
        ids += [f"{part}/{cls}/{file}" if part else f"{cls}/{file}" for file in images]
        paths += [f"{folder}/{name}/{below[file]}" for file in images]
        labels += [number] * len(images)
    if others:
        left = f"{folder}: {len(others):,} files are no images by their ending and are left out"
        warnings.warn(f"{left}, such as {others[0]}.", stacklevel=2)
    return ImageSet(
        images=FileImages(paths, image_size, crop=crop, resize=resize),
        labels=torch.tensor(labels, dtype=torch.int64),
        ids=tuple(ids),
        class_names=tuple(classes),
    )


def refuse_difference(a: Path, classes: Sequence[str], b: Path, others: Sequence[str]) -> None:
    """Refuse two splits with different classes."""
    if odd := sorted({*classes} ^ {*others}):
        raise BadInput(f"{a} and {b} differ in {len(odd):,} classes: only one has {odd[0]}.")


def hold_out(
    images: ImageSet, split: str, per_class: int, seed: int, pool_per_class: int | None = None
) -> ImageSet:
    """Validation is the first ``per_class`` images of each class by ``hash_ranks``.

    So an image added to a class puts at most one other back. Train is the next ``pool_per_class``;
    ``images`` of the split test stay whole.
    """
    if split == "test":
        return images
    held = torch.full((len(images.class_names),), per_class)
    ranks = hash_ranks(images, seed, held, "validation_per_class")
    last = per_class + (len(images) if pool_per_class is None else pool_per_class)
    kept = ranks < per_class if split == "validation" else (ranks >= per_class) & (ranks < last)
    return images.subset(kept.nonzero()[:, 0])


def deal(images: ImageSet, percent: Mapping[str, float], seed: int) -> dict[str, ImageSet]:
    """Deal the images of each class to splits, in the order of ``hash_ranks``.

    ``percent`` is a split's share of a class, rounded, at least one image; the rest is ``train``.
    """
    sizes = images.labels.bincount()  # (classes,)
    counts = [(sizes * share / 100).round().long().clamp(min=1) for share in percent.values()]
    limits = torch.stack(counts).cumsum(0)  # (splits, classes)
    ranks = hash_ranks(images, seed, limits[-1], " or ".join(f"{name}_percent" for name in percent))
    place = (ranks >= limits[:, images.labels]).sum(0)  # (splits, n) to (n,)
    names = (*percent, "train")
    return {name: images.subset((place == at).nonzero()[:, 0]) for at, name in enumerate(names)}


def hash_ranks(
    images: ImageSet, seed: int, held: Int64[Tensor, " c"], option: str
) -> Int64[Tensor, " n"]:
    """Rank of each image within its class, from 0, in the order of SHA-256 of "seed/id".

    It depends on names alone: not on the order of the files, nor on other classes.

    Raises:
        BadInput: a class has no more images than the ``option`` holds out of it.
    """
    labels, sizes = images.labels, images.labels.bincount()
    for at in (sizes <= held[: len(sizes)])[labels].nonzero().flatten().tolist():
        raise BadInput(
            f"{option}: the class of {images.ids[at]!r} has {sizes[labels[at]]} images, and "
            f"{held[labels[at]]} are held out, which leaves nothing to train on; lower it."
        )
    texts = [f"{seed}/{name}" for name in images.ids]
    digests = [hashlib.sha256(text.encode(errors="surrogateescape")).digest() for text in texts]
    frame = pd.DataFrame({"digest": digests, "label": labels.numpy()}).sort_values("digest")
    return torch.from_numpy(frame.groupby("label").cumcount().sort_index().to_numpy(copy=True))


def refuse_duplicates(root: Path, parts: Mapping[str, ImageSet]) -> None:
    """Refuse files with the same bytes in two splits, and warn of those in one."""
    split_of, path_of = dict[str, str](), dict[str, str]()
    for part, images in parts.items():
        split_of |= dict.fromkeys(images.ids, part)
        if isinstance(images.images, FileImages):
            path_of |= zip(images.ids, images.images.paths, strict=True)
    table = pd.DataFrame({"file": sorted(split_of)})
    table["size"] = [os.stat(path_of[file]).st_size for file in table["file"]]  # noqa: PTH116
    table = table[table["size"].duplicated(keep=False)]
    digests = in_threads(lambda file: sha256_file(Path(path_of[file])), list(table["file"]))
    same = table.assign(digest=digests).groupby("digest")["file"]
    groups = [list(files) for _, files in same if len(files) > 1]
    shared = [group for group in groups if len({split_of[file] for file in group}) > 1]
    if groups:
        named = " = ".join(f"{file} ({split_of[file]})" for file in min(shared or groups))
        sentence = f"{root} has the same bytes {len(shared or groups):,} times, such as {named}"
        if shared:
            raise BadInput(f"{sentence}; keep one file of each, or a test image is trained on.")
        warnings.warn(f"{sentence}.", stacklevel=2)


def read_index(index_dir: Path) -> pd.DataFrame:
    """The index files of a data set as one table with a column ``split``."""
    tables = [pd.read_csv(index_dir / f"{split}.csv").assign(split=split) for split in SPLITS]
    return pd.concat(tables)
