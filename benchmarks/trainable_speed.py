"""How much faster training from a frozen trunk's stored states is than training the whole model.

``python benchmarks/trainable_speed.py [--size 128] [--seconds 60] [--folder FOLDER]``: one thread.
EfficientNet-Lite0 from its package, batches of 64, mirrored at random, by the training loop itself,
in turns: all of it from images in memory; the last block, and the classifier alone, from states on
the disk. Printed: the median rate of each in images/s, its ratio to the whole model's, and how many
a second are computed and stored before that, once.
"""

import argparse
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from vecaf_lib.data.images import ImageSet
from vecaf_lib.models.extract import extract
from vecaf_lib.models.trunk import StoredStates, freeze, states_of
from vecaf_lib.models.vision import PVM, load_backbone
from vecaf_lib.seeding import generator
from vecaf_lib.training import Finetuner, Recipe

CLASSES, IMAGES, BATCH, STEPS = 100, 1024, 64, 4
WAYS = {"all": "all", "last block": "last_blocks", "head": "head"}


def prepare(way: Any, data: ImageSet, folder: Path) -> tuple[Finetuner, ImageSet, float]:
    """A finetuner, the images with the states that it trains from, seconds to store them."""
    pvm = PVM(
        load_backbone("tf_efficientnet_lite0", weights="package"),
        CLASSES,
        generator=generator(0, "initialisation"),
    )
    freeze(pvm, way)
    began = time.perf_counter()
    if way != "all":
        files = [folder / f"{way}-{kind}.npy" for kind in ("plain", "mirrored")]
        for path, mirrored in zip(files, (False, True), strict=True):
            compute = states_of(pvm, mirrored=mirrored)
            extract(pvm, data.images, path, batch_size=BATCH, identity={}, compute=compute)
        data = replace(data, states=StoredStates(files, len(data)))
    seconds = time.perf_counter() - began
    recipe = Recipe(
        steps=10**6, batch_size=BATCH, learning_rate=1e-4, flip=True, evaluate_every=10**6,
        trainable=way,
    )  # fmt: skip
    return Finetuner(pvm, recipe, loops=1, seed=0), data, seconds


def rate(finetuner: Finetuner, data: ImageSet) -> float:
    """Training images a second over a few steps."""
    finetuner.train_loss.clear()
    finetuner.ends = [STEPS]
    began = time.perf_counter()
    finetuner.finetune(data, data, loop=0)
    return STEPS * BATCH / (time.perf_counter() - began)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=128, help="px")
    parser.add_argument("--seconds", type=float, default=60.0, help="of measuring")
    parser.add_argument("--folder", type=Path, help="of the stored states; none is a temporary one")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    draw = generator(0, "images")
    images = torch.randint(256, (IMAGES, 3, asked.size, asked.size), generator=draw)
    ids = tuple(map(str, range(IMAGES)))
    labels, names = torch.arange(IMAGES) % CLASSES, tuple(map(str, range(CLASSES)))
    data = ImageSet(images.to(torch.uint8), labels, ids, names)
    with tempfile.TemporaryDirectory(dir=asked.folder) as folder:
        ways = {name: prepare(way, data, Path(folder)) for name, way in WAYS.items()}
        rates: dict[str, list[float]] = {name: [] for name in ways}
        began, turn = time.perf_counter(), 0
        while time.perf_counter() - began < asked.seconds or turn < 4:
            for name, (finetuner, own, _) in ways.items():
                measured = rate(finetuner, own)
                rates[name] += [measured] if turn else []  # the first turn warms up
            turn += 1
    rows = {
        name: {
            "images/s": statistics.median(rates[name]),
            "times all": statistics.median(
                one / whole for one, whole in zip(rates[name], rates["all"], strict=True)
            ),
            "stored images/s": 2 * IMAGES / seconds if name != "all" else float("nan"),
        }
        for name, (_, _, seconds) in ways.items()
    }
    print(
        f"EfficientNet-Lite0, {asked.size} px, {torch.get_num_threads()} thread, {turn - 1} turns"
    )
    print(pd.DataFrame(rows).T.round(1).to_string())


if __name__ == "__main__":
    main()
