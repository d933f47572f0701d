"""``vecaf profile new``: a short profile for a folder of images, made the active one."""

import json
import math
from pathlib import Path
from statistics import median
from typing import Any

import yaml
from PIL import Image

from vecaf_lib.captions import is_file
from vecaf_lib.data.folder import load
from vecaf_lib.data.images import FORMATS, FileImages, ImageSet
from vecaf_lib.errors import BadInput
from vecaf_lib.files import atomic_write
from vecaf_lib.pipeline.needs import report
from vecaf_lib.pipeline.settings import change, checked, read_yaml, switch

PROFILES = Path("profiles")
LIKE = PROFILES / "caltech101-look.yaml"  # whose sections it has, but for what is changed here
SMALL = 96  # px of the shorter side, below which tags of a classifier say little
LOOKED_AT = 50  # images, for that
HEAD = """\
# Profile {name}: {count:,} images of {classes:,} classes in the pool of {folder}.
#   make repro          (make profile PROFILE={name} first, if another one is active)
# Written by `vecaf profile new`, to be edited: docs/PROFILES.md. A key that is absent has its
# default. Steps and learning rate are guesses; `make search` tries others on validation.
"""
DESCENT = {"iterations": 300, "learning_rate": 1e-3, "tau": 0.07, "engine": "fast"}


def write(name: str, *, images: Path, captions: Path | None = None, force: bool = False) -> None:
    """Write ``profiles/<name>.yaml`` for a folder of images, switch to it and check it.

    Its ratios give at least one image a class, as far as three kept sets leave room. Captions are
    the tags of a classifier or, of images smaller than ``SMALL``, measured attributes.

    Args:
        images: as ``vecaf_lib.data.folder.load`` takes it.
        captions: a CSV or JSONL file (id, caption) to be used in their place.
        force: overwrite such a profile, and an edited params.yaml.

    Raises:
        BadInput: the folder, the captions or the name will not do, or the profile is there.
    """
    path = PROFILES / f"{name}.yaml"
    if not LIKE.is_file():
        raise BadInput(f"{LIKE} is not here; go to the project's folder and repeat this.")
    if path.exists() and not force:
        raise BadInput(f"{path} is there; take another name, or --force to overwrite it.")
    if captions and not (is_file(captions.name) and captions.is_file()):
        raise BadInput(f"--captions: {captions} is no .csv or .jsonl file.")
    pool = load("train", image_size=SMALL, root=images)
    own = profile_of(pool, read_yaml(LIKE))
    own |= {"profile": name, "dataset": own["dataset"] | {"root": str(images.resolve())}}
    own["captions"] = {"source": str(captions.resolve())} if captions else own["captions"]
    checked(own, str(path))
    text = HEAD.format(
        name=name,
        count=len(pool),
        classes=len(pool.class_names),
        folder=json.dumps(images.resolve().name, ensure_ascii=False),
    )
    form: Any = {"sort_keys": False, "allow_unicode": True, "width": 99}
    sections = [yaml.safe_dump({key: part}, **form) for key, part in own.items()]
    atomic_write(path, "\n".join([text, *sections]).encode())
    print(f"Written: {path}")
    switch(name, profiles=PROFILES, params=Path("params.yaml"), force=force)
    report(None)
    print("Next: make repro")


def profile_of(pool: ImageSet, like: dict[str, Any]) -> dict[str, Any]:
    """The sections of a pool's profile, but for its name and where the images lie."""
    size, classes = len(pool), len(pool.class_names)
    most = 100 * (size // 3) // size  # percent: three kept sets are no more than the pool
    least = min(most, max(2, math.ceil(100 * classes / size)))
    batch = 2 ** int(math.log2(min(64, max(8, round(least / 100 * size)), size)))
    small = smaller_side(pool) < SMALL
    methods = {name: like["methods"][name] for name in ("random", "probe", "activeft", "vecaf")}
    methods |= {name: {"select": name} for name in ("maxherding", "class_herding")}
    changes = {
        "stands_for": None,
        "dataset": {"name": "folder", "image_size": 64 if small else 128},
        "captions": {"source": "attributes" if small else "tags"},
        "training.steps": 120,
        "training.batch_size": batch,
        "training.learning_rate": 0.1 * batch / 64,
        "training.evaluate_every": 10,
        "methods": methods,
        "methods.activeft.options": DESCENT,
        "methods.vecaf.options": DESCENT | {"lambda_": 0.05, "ensemble": 5},
        "tables.table1.methods": [*methods],
        "tables.table1.ratios": sorted({least, min(most, math.ceil(2.5 * least))}),
        "figures.methods": ["random", "maxherding", "activeft", "vecaf"],
        "figures.ratio": least,
        "figures.loss_window": 10,
        "figures.target_accuracy": [60, 80],
    }
    return change(like, changes)


def smaller_side(pool: ImageSet) -> float:
    """Median of the shorter side, px, of evenly spaced images of the pool."""
    assert isinstance(pool.images, FileImages)
    sides = []
    for path in pool.images.paths[:: max(1, len(pool) // LOOKED_AT)]:
        with Image.open(path, formats=FORMATS) as image:
            sides.append(min(image.size))
    return median(sides)
