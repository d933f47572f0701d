"""Folders with one folder of images a class, listed in the same order on every machine."""

import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Int64
from torch import Tensor

from vecaf_lib.datasets._decode import SUFFIXES
from vecaf_lib.errors import BadInput


@dataclass(frozen=True)
class ClassFolders:
    """The image files of a folder with one folder a class.

    Attributes:
        folder: the folder that holds the class folders.
        classes: their names, sorted by code point.
        files: relative to ``folder`` with forward slashes, by class, then by name.
        labels: class number of each file, [n].
    """

    folder: Path
    classes: tuple[str, ...]
    files: tuple[str, ...]
    labels: Int64[Tensor, " n"]


def class_names(folder: Path) -> tuple[str, ...]:
    """Names of the folders in ``folder``, sorted; hidden ones are no classes.

    Raises:
        BadInput: there is no such folder, it holds no folders, or images lie beside them.
    """
    try:
        entries = [entry for entry in os.scandir(folder) if not entry.name.startswith(".")]
    except (FileNotFoundError, NotADirectoryError) as error:
        raise BadInput(f"{folder} is no folder; it should hold one folder a class.") from error
    if loose := sorted(entry.name for entry in entries if entry.is_file() and is_image(entry.name)):
        raise BadInput(
            f"{folder} has {len(loose):,} images outside any class folder (the first is "
            f"{loose[0]}); put each into the folder of its class."
        )
    classes = tuple(sorted(entry.name for entry in entries if entry.is_dir()))
    if not classes:
        raise BadInput(f"{folder} has no folders; it should hold one folder a class.")
    return classes


def list_images(folder: Path) -> ClassFolders:
    """List the images of every class, those in nested folders too.

    Hidden files are passed over; other files that are no images by their ending are counted in a
    warning.

    Raises:
        BadInput: as ``class_names``; or a class has no image, or a name is not UTF-8.
    """
    classes = class_names(folder)
    files: list[str] = []
    labels: list[int] = []
    others: list[str] = []
    empty: list[str] = []
    for number, name in enumerate(classes):
        found = sorted(_files(folder / name, f"{name}/", frozenset()))
        images = [file for file in found if is_image(file)]
        if len(images) < len(found):
            others += [file for file in found if not is_image(file)]
        if not images:
            empty.append(name)
        files += images
        labels += [number] * len(images)
    if empty:
        raise BadInput(
            f"{folder} has {len(empty):,} class folders without an image (the first is "
            f"{empty[0]}); fill or remove them. Images end in {', '.join(SUFFIXES)}."
        )
    _check_utf_8(folder, files)
    if others:
        warnings.warn(
            f"{folder}: {len(others):,} files are no images by their ending and are left out (the "
            f"first is {others[0]}).",
            stacklevel=2,
        )
    return ClassFolders(folder, classes, tuple(files), torch.tensor(labels, dtype=torch.int64))


def is_image(name: str) -> bool:
    """Whether a file is an image by its ending, in upper or lower case."""
    return name.lower().endswith(SUFFIXES)


def _files(folder: Path | str, prefix: str, above: frozenset[str]) -> Iterator[str]:
    real = os.path.realpath(folder)
    if real in above:  # a link to a folder that it lies in
        return
    for entry in os.scandir(folder):
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            yield from _files(entry.path, f"{prefix}{entry.name}/", above | {real})
        else:
            yield prefix + entry.name


def _check_utf_8(folder: Path, files: list[str]) -> None:
    for file in files:
        if not file.isascii():
            try:
                file.encode()
            except UnicodeEncodeError as error:
                raise BadInput(
                    f"{folder} has a file whose name is not UTF-8 ({file!r}); rename it, because "
                    "its name is the image's id."
                ) from error
