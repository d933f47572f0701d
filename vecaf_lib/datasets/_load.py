"""Find a data set by its name."""

import inspect
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from pydantic import BaseModel
from torch import Tensor

from vecaf_lib.datasets._place import raw_data
from vecaf_lib.datasets.decoded import decoded
from vecaf_lib.datasets.file_images import FileImages
from vecaf_lib.datasets.images import ImageSet
from vecaf_lib.datasets.lazy import GIB, in_memory
from vecaf_lib.errors import BadInput
from vecaf_lib.options import checked, schema_of

KNOWN = ("digits", "cifar10", "caltech101", "imagenet", "imagenet_c", "folder", "corrupted")
SPLITS = ("train", "validation", "test")
NO_OPTIONS: Mapping[str, Any] = MappingProxyType({})
_GIVEN = {"split", "image_size", "index_dir", "root", "data", "given_root"}


def load(
    name: str,
    split: str,
    *,
    image_size: int,
    data: Path,
    root: str | None = None,
    memory_gib: float = 1.0,
    options: Mapping[str, Any] = NO_OPTIONS,
) -> ImageSet:
    """Load one split of the data set called ``name``.

    Args:
        name: one of ``KNOWN``; the module of the same name in this package does the work.
        split: ``train``, ``validation`` or ``test``.
        image_size: height and width of the images, in pixels.
        data: the project's data folder: index files are in ``data/<name>``, and raw data in
            ``data/raw/<name>`` unless ``root`` or the variable ``VECAF_<NAME>`` says otherwise.
        root: file or folder with the raw data.
        memory_gib: images that need no more than this, in GiB, are decoded once: into memory or,
            where they are files, into ``data/generated/decoded``, which all processes share.
        options: the data set's own; see ``option_schema``.

    Raises:
        BadInput: the name, split or an option is unknown, the raw data are not there, or the
            data set refuses the other values.
    """
    found = load_lazily(name, split, image_size=image_size, data=data, root=root, options=options)
    images = found.images
    if isinstance(images, FileImages) and torch.Size(images.shape).numel() <= memory_gib * GIB:
        images = decoded(images, data / "generated" / "decoded")
    return ImageSet(
        images=images if isinstance(images, Tensor) else in_memory(images, memory_gib),
        labels=found.labels,
        ids=found.ids,
        class_names=found.class_names,
    )


def load_lazily(
    name: str,
    split: str,
    *,
    image_size: int,
    data: Path,
    root: str | None = None,
    options: Mapping[str, Any] = NO_OPTIONS,
) -> ImageSet:
    """As ``load``, but images that lie in files stay there until they are asked for."""
    source = _source(name)
    if split not in SPLITS:
        raise BadInput(f"There is no split called {split!r}; known are: {', '.join(SPLITS)}.")
    takes = inspect.signature(source).parameters
    given: dict[str, Any] = {"image_size": image_size, "index_dir": data / name}
    given |= {"data": data, "given_root": root}
    if "root" in takes:
        given["root"] = raw_data(name, root, data)
    chosen = checked(option_schema(name), options, "dataset.options")
    images: ImageSet = source(split, **{k: v for k, v in given.items() if k in takes}, **chosen)
    return images


def option_schema(name: str) -> type[BaseModel]:
    """Pydantic model of a data set's options: the further keyword arguments of its ``load``.

    Raises:
        BadInput: no such data set.
    """
    return schema_of(_source(name), _GIVEN, f"{name} options")


def _source(name: str) -> Callable[..., ImageSet]:
    if name not in KNOWN:
        near = get_close_matches(name, KNOWN, n=1)
        meant = f"did you mean {near[0]!r}? Known" if near else "known"
        raise BadInput(f"There is no data set called {name!r}; {meant} are: {', '.join(KNOWN)}.")
    source: Callable[..., ImageSet] = import_module(f"vecaf_lib.datasets.{name}").load
    return source
