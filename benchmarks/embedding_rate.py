"""How fast a pool is embedded, against a bare loop over the same model.

``python benchmarks/embedding_rate.py [--sizes 32 128] [--seconds 60] [--device cpu]``. For each
image size, in turns: the bare loop (timm's forward to the penultimate layer, over normalised float
tensors that lie in memory, results thrown away), ``extract`` over uint8 images in memory, and
``extract`` over JPEG files, which are decoded meanwhile. The files are drawn and written by this
script: smooth colour fields with some noise. Printed: the median rate of each in images/s and its
ratio to the bare loop's, pair by pair; and peak memory for some files and for four times as many.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

from vecaf_lib.data.images import FileImages
from vecaf_lib.devices import use_device
from vecaf_lib.models.extract import extract
from vecaf_lib.models.vision import PVM, load_backbone

MODEL = "tf_efficientnet_lite0"


def draw(count: int, size: int) -> Tensor:
    """Smooth random images with some noise, uint8 [count, 3, size, size]."""
    seed = torch.Generator().manual_seed(0)
    smooth = interpolate(torch.rand(count, 3, 6, 6, generator=seed), size=size, mode="bicubic")
    noise = 0.05 * torch.randn(count, 3, size, size, generator=seed)
    return (255 * (smooth + noise)).clamp(0, 255).to(torch.uint8)


def write(images: Tensor, folder: Path) -> list[Path]:
    """One JPEG an image."""
    folder.mkdir()
    paths = [folder / f"{number:06d}.jpg" for number in range(len(images))]
    for path, image in zip(paths, images, strict=True):
        Image.fromarray(np.ascontiguousarray(image.permute(1, 2, 0))).save(path, quality=90)
    return paths


@torch.inference_mode()
def bare(pvm: PVM, batches: list[Tensor]) -> None:
    """Forward passes and nothing else."""
    backbone, device = pvm.backbone, pvm.mean.device
    for pixels in batches:
        with pvm.autocast():
            features = backbone.forward_features(pixels.to(device))
            backbone.forward_head(features, pre_logits=True).float().cpu()


def compare(pvm: PVM, size: int, batch_size: int, seconds: float, folder: Path) -> dict[str, float]:
    """Rates at one image size, from repetitions in turns for about ``seconds``."""
    probe = draw(batch_size, size)
    with torch.inference_mode():
        ready = [pvm.pixels(probe.to(pvm.mean.device)).cpu()]
    bare(pvm, ready)
    start = time.perf_counter()
    bare(pvm, ready)
    batches = max(4, round(seconds / 24 / (time.perf_counter() - start)))  # of each, in 8 turns
    images = draw(batch_size, size).repeat(batches, 1, 1, 1)
    files = FileImages(write(images[: 8 * batch_size], folder), size)
    files = files.take(torch.arange(len(images)) % len(files))
    ready *= batches
    tries = iter(range(10**6))

    def run(pool: Tensor | FileImages) -> Callable[[], object]:
        return lambda: extract(
            pvm, pool, folder / f"{next(tries)}.npy", batch_size=batch_size, identity={}
        )

    ways = {"bare": lambda: bare(pvm, ready), "memory": run(images), "files": run(files)}
    rates: dict[str, list[float]] = {name: [] for name in ways}
    start, turn = time.perf_counter(), 0
    while time.perf_counter() - start < seconds or turn < 3:
        for name in list(ways)[:: 1 if turn % 2 else -1]:  # forth and back: drift cancels
            began = time.perf_counter()
            ways[name]()
            if turn:  # the first warms up
                rates[name].append(len(images) / (time.perf_counter() - began))
        turn += 1
    row = {"px": size, "images": len(images), "turns": turn - 1}
    row |= {f"{name}, images/s": statistics.median(rates[name]) for name in ways}
    for name in ("memory", "files"):
        pairs = [one / other for one, other in zip(rates[name], rates["bare"], strict=True)]
        row |= {f"{name} / bare": statistics.median(pairs), f"{name}, worst": min(pairs)}
    return row


def peak(pvm: PVM, files: FileImages, path: Path) -> float:
    """MiB that the process reaches while it embeds ``files`` (Linux)."""
    Path("/proc/self/clear_refs").write_text("5")  # start the high-water mark anew
    extract(pvm, files, path, batch_size=100, identity={})
    line = next(x for x in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in x)
    return int(line.split()[1]) / 1024


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[32, 128])
    parser.add_argument(
        "--seconds", type=float, default=60.0, help="of measuring, all sizes together"
    )
    parser.add_argument("--batch-size", type=int, default=250)
    parser.add_argument("--precision", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    asked = parser.parse_args()
    device = use_device(asked.device)
    backbone = load_backbone(MODEL, weights="package")
    seed = torch.Generator().manual_seed(0)
    pvm = PVM(backbone, 2, generator=seed, precision=asked.precision).eval().to(device)
    print(f"{MODEL}, {asked.precision}, {device}, {torch.get_num_threads()} threads", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        rows = [
            compare(
                pvm,
                size,
                asked.batch_size,
                asked.seconds / len(asked.sizes),
                Path(folder) / f"{size}",
            )
            for size in asked.sizes
        ]
        print(pd.DataFrame(rows).round(2).T.to_string(header=False), flush=True)
        if Path("/proc/self/clear_refs").exists():
            size = asked.sizes[0]
            paths = sorted((Path(folder) / f"{size}").glob("*.jpg"))
            small = FileImages([paths[at % len(paths)] for at in range(400)], size)
            large = small.take(torch.arange(1600) % 400)
            for number, files in enumerate((small, small, large)):  # the first warms up
                reached = peak(pvm, files, Path(folder) / f"peak-{number}.npy")
                if number:
                    print(f"peak memory, {len(files)} files: {reached:.0f} MiB")


if __name__ == "__main__":
    main()
