"""``vecaf profile new``: a short profile for a folder of images, made the active one."""

import json
import math
from pathlib import Path

import yaml
from PIL import Image

from vecaf_lib.captions import is_file
from vecaf_lib.data.folder import load
from vecaf_lib.data.images import FORMATS, FileImages, ImageSet
from vecaf_lib.errors import BadInput
from vecaf_lib.files import atomic_write
from vecaf_lib.pipeline.needs import report
from vecaf_lib.pipeline.settings import checked, switch

SMALL = 96  # px of the shorter side, below which tags of a classifier say little
LOOKED_AT = 50  # images, for that
PROFILE = """\
# Profile {name}: {count:,} images of {classes:,} classes in the pool of {folder}.
#   make repro          (make profile PROFILE={name} first, if another one is active)
# Written by `vecaf profile new`, to be edited: docs/PROFILES.md. A key that is absent has its
# default. Steps and learning rate are guesses; `vecaf search` tries others on validation.
profile: {name}

dataset:
  name: folder
  image_size: {size}  # px
  root: {root}

captions:
  source: {captions}

vision: {{name: tf_efficientnet_lite0}}
text: {{name: minilm}}

training:  # the last block and the classifier; the output of the frozen rest is stored
  steps: 120
  batch_size: {batch}
  learning_rate: {rate:g}
  weight_decay: 1.0e-4
  momentum: 0.9
  label_smoothing: 0.1
  clip_norm: 2.0
  trainable: last_blocks
  blocks: 1
  head_start: probe
  flip: true
  evaluate_every: 10

seeds: [0, 1, 2]

methods:
  random: {{select: random}}
  probe: {{select: random, probe: true}}  # frozen features of random's sets; no finetuning
  maxherding: {{select: maxherding}}
  class_herding: {{select: class_herding}}  # knows every label, as VeCAF does
  activeft:
    select: activeft
    options: {{tau: 0.07, engine: fast, iterations: 300, learning_rate: 1.0e-3, reassign_every: 2}}
  vecaf:
    select: ods
    options:
      tau: 0.07
      lambda_: 0.05
      engine: fast
      iterations: 300
      learning_rate: 1.0e-3
      reassign_every: 5
      ensemble: 5
    cea: {{eta: 0.2, form: scaled, bridge: ridge, pool_scope: selected}}

tables:
  table1:
    methods: [random, probe, maxherding, activeft, class_herding, vecaf]
    sets: [fresh, kept]
    ratios: {ratios}  # percent of the pool in each of three loops{budgets}
    reference: activeft

figures:
  methods: [random, maxherding, activeft, vecaf]
  ratio: {ratio}
  sets: [fresh, kept]
  loss_window: 10
  target_accuracy: [60, 80]
"""


def write(
    name: str,
    *,
    images: Path,
    captions: Path | None = None,
    force: bool = False,
    profiles: Path = Path("profiles"),
    params: Path = Path("params.yaml"),
) -> None:
    """Write ``profiles/<name>.yaml`` for a folder of images, switch to it and check it.

    Its ratios give at least one image a class, as far as three kept sets leave room. Captions are
    the tags of a classifier or, of images smaller than ``SMALL``, measured attributes.

    Args:
        images: as ``vecaf_lib.data.folder.load`` takes it.
        captions: a CSV or JSONL file (id, caption) to be used in their place.
        force: overwrite such a profile, and an edited ``params``.

    Raises:
        BadInput: the folder, the captions or the name will not do, or the profile is there.
    """
    path = profiles / f"{name}.yaml"
    if not profiles.is_dir():
        raise BadInput(f"{profiles}/ is not here; go to the project's folder and repeat this.")
    if path.exists() and not force:
        raise BadInput(f"{path} is there; take another name, or --force to overwrite it.")
    if captions and not (is_file(captions.name) and captions.is_file()):
        raise BadInput(f"--captions: {captions} is no .csv or .jsonl file.")
    pool = load("train", image_size=SMALL, root=images)
    text = profile_of(pool, name, images.resolve(), captions and captions.resolve())
    checked(yaml.safe_load(text), str(path))
    atomic_write(path, text.encode())
    print(f"Written: {path}")
    switch(name, profiles=profiles, params=params, force=force)
    report(None)
    print("Next: make repro")


def profile_of(pool: ImageSet, name: str, root: Path, captions: Path | None) -> str:
    """The profile of a pool, as YAML."""
    size, classes = len(pool), len(pool.class_names)
    most = 100 * (size // 3) // size  # percent: three kept sets are no more than the pool
    least = min(most, max(2, math.ceil(100 * classes / size)))
    ratios = sorted({least, min(most, math.ceil(2.5 * least))})
    budgets = [round(ratio / 100 * size) for ratio in ratios]
    batch = 2 ** int(math.log2(min(64, max(8, budgets[0]), size)))
    small = smaller_side(pool) < SMALL
    return PROFILE.format(
        name=name,
        count=size,
        classes=classes,
        folder=json.dumps(root.name, ensure_ascii=False),
        size=64 if small else 128,
        root=json.dumps(str(root), ensure_ascii=False),
        captions=json.dumps(str(captions), ensure_ascii=False)
        if captions
        else "attributes  # measured from the pixels"
        if small
        else "tags  # ImageNet classes that a classifier sees, with measured attributes",
        batch=batch,
        rate=0.1 * batch / 64,
        ratios=ratios,
        budgets=f": {' and '.join(map(str, budgets))} images",
        ratio=ratios[0],
    )


def smaller_side(pool: ImageSet) -> float:
    """Median of the shorter side, px, of evenly spaced images of the pool."""
    assert isinstance(pool.images, FileImages)
    paths = pool.images.paths
    sides = []
    for path in paths[:: max(1, len(paths) // LOOKED_AT)]:
        with Image.open(path, formats=FORMATS) as image:
            sides.append(min(image.size))
    return sorted(sides)[len(sides) // 2]
