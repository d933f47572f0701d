"""Data sets by name."""

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel

from vecaf_lib.data.images import ImageSet, LazyImages, in_memory
from vecaf_lib.data.place import IN_FILES, KNOWN, raw_data
from vecaf_lib.errors import BadInput, did_you_mean
from vecaf_lib.options import checked, schema_of

SPLITS = ("train", "validation", "test")
Corruption = Literal[
    "gaussian_noise", "shot_noise", "impulse_noise",
    "defocus_blur", "glass_blur", "motion_blur", "zoom_blur",
    "snow", "frost", "fog", "brightness",
    "contrast", "elastic_transform", "pixelate", "jpeg_compression",
    "speckle_noise", "gaussian_blur", "spatter", "saturate",  # the four extra ones
]  # fmt: skip
Severity = Literal[1, 2, 3, 4, 5]
EVERYTHING = {"pool_per_class": None, "background": True}  # options that then leave out no image


def load(
    name: str,
    split: str,
    *,
    image_size: int,
    data: Path,
    root: str | None = None,
    memory_gib: float = 1.0,
    blind: bool = False,
    options: Mapping[str, Any] | None = None,
) -> ImageSet:
    """Load one split (``train``, ``validation`` or ``test``) of the data set called ``name``.

    Args:
        name: one of ``KNOWN``; the module of the same name in this package does the work.
        image_size: height and width in pixels.
        data: the project's data folder, with index files in ``<name>``.
        root: see ``raw_data``.
        memory_gib: images that need no more than this, in GiB, are decoded once: into memory or,
            where they are files, into ``data/generated/decoded``, which all processes share.
        blind: the validation split stands in for the test split, which nothing reads.
        options: the data set's own; see ``option_schema``.
    """
    source = _source(name)
    if split not in SPLITS:
        raise BadInput(f"There is no split called {split!r}; {did_you_mean(split, SPLITS)}.")
    split = "validation" if blind and split == "test" else split
    given = {
        "image_size": image_size,
        "index_dir": data / name,
        "data": data,
        "root_of": root,
        "root": raw_data(name, root, data) if name in IN_FILES else None,
    }
    loaded = source(
        split,
        **{key: given[key] for key in given if key in inspect.signature(source).parameters},
        **checked(option_schema(name), options or {}, "dataset.options"),
    )
    images = loaded.images
    if isinstance(images, LazyImages) and math.prod(images.shape) <= memory_gib * 2**30:
        images = in_memory(images, data / "generated" / "decoded")
    return replace(loaded, images=images)


load_lazily = partial(load, memory_gib=0.0)  # images in files stay there until they are indexed


def all_ids(*, data: Path, **section: Any) -> list[str]:
    """Ids of all images of a data set as ``load`` takes it, even of those that its options omit."""
    options = {name: EVERYTHING.get(name, value) for name, value in section["options"].items()}
    own = section | {"options": options, "blind": False, "memory_gib": 0.0}
    return [id_ for split in SPLITS for id_ in load(split=split, data=data, **own).ids]


def option_schema(name: str) -> type[BaseModel]:
    """Pydantic model of a data set's options: the further keyword arguments of its ``load``."""
    given = {"split", "image_size", "index_dir", "root", "data", "root_of"}
    return schema_of(_source(name), given, f"{name} options")


def _source(name: str) -> Callable[..., ImageSet]:
    if name not in KNOWN:
        raise BadInput(f"There is no data set called {name!r}; {did_you_mean(name, KNOWN)}.")
    module, function = ("imagenet", "load_corrupted") if name == "imagenet_c" else (name, "load")
    source: Callable[..., ImageSet] = getattr(import_module(f"vecaf_lib.data.{module}"), function)
    return source
