"""Is all at hand that a profile needs? ``python -m vecaf_lib.pipeline.check [PROFILE]``

Looks at files, weights, disk, memory and GPU without loading a model; without PROFILE at
params.yaml. A line each; exit status 1 if anything is missing.
"""

import argparse
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch

from vecaf_lib import captions, settings
from vecaf_lib.datasets import ImageSet, load_lazily
from vecaf_lib.datasets.file_images import FileImages
from vecaf_lib.encoders import text
from vecaf_lib.encoders.vision import own_config, width_of
from vecaf_lib.encoders.weights import weights_available
from vecaf_lib.errors import BadInput
from vecaf_lib.pipeline import cli
from vecaf_lib.pipeline.profile import profile_path
from vecaf_lib.selection._pool import budget_of

GIB = 2**30
RUN_FILES = 64 * 1024  # bytes that a run file and its part of the report take, roughly


@dataclass(frozen=True)
class Finding:
    """One thing that a profile needs: is it there, and what was found or is to be done."""

    what: str
    there: bool
    told: str


def check(profile: settings.Settings, *, data: Path, results: Path) -> Iterator[Finding]:
    """Look at everything the profile needs.

    Args:
        profile: read and valid.
        data: the project's data folder.
        results: a folder on the disk that receives embeddings and reports.
    """
    pool: ImageSet | None = None
    for split in ("train", "validation", "test"):
        found, told = _images(profile, split, data)
        pool = found if split == "train" else pool
        yield Finding(f"images, {split}", found is not None, told)
    yield _finding("captions", lambda: _captions(profile, pool))
    yield _finding("vision model", lambda: _vision(profile))
    yield _finding("text encoder", lambda: _text(profile))
    if pool is not None:
        yield _finding("budgets", lambda: _budgets(profile, len(pool)))
        if _finding("vision model", lambda: own_config(profile.vision.name).interpolation).there:
            yield _finding("disk", lambda: _disk(profile, pool, results))
    yield _finding("memory", lambda: _memory(profile))
    yield _finding("processor", lambda: _device(profile))


def _finding(what: str, look: Callable[[], str]) -> Finding:
    try:
        return Finding(what, True, look())
    except BadInput as error:
        return Finding(what, False, str(error))


def _images(profile: settings.Settings, split: str, data: Path) -> tuple[ImageSet | None, str]:
    section = profile.dataset.model_dump(exclude={"memory_gib"})
    try:
        found = load_lazily(split=split, data=data, **section)
    except BadInput as error:
        return None, str(error)
    return found, f"{len(found):,} of {len(found.class_names)} classes"


def _captions(profile: settings.Settings, pool: ImageSet | None) -> str:
    source = profile.captions.source
    if captions.is_file(source):
        if pool is None:
            return f"{source}, not compared with the images, which are missing"
        return f"{len(captions.read_captions(Path(source), pool.ids)):,} in {source}"
    _refuse(captions.available(source, profile.captions.options))
    return f"by {source}"


def _vision(profile: settings.Settings) -> str:
    vision, size = profile.vision, profile.dataset.image_size
    own = own_config(vision.name)  # refuses an unknown name
    _refuse(weights_available(vision.name, vision.weights))
    told = f"{vision.name}, weights: {vision.weights}"
    if own.image_size != size:
        told += f" (was pretrained at {own.image_size} px; the profile shows it {size} px)"
    return told


def _text(profile: settings.Settings) -> str:
    encoder = profile.text
    _refuse(text.available(encoder.name, encoder.weights, encoder.model, encoder.revision))
    return f"{encoder.name}, weights: {encoder.weights}"


def _budgets(profile: settings.Settings, size: int) -> str:
    if profile.training.batch_size > size:
        raise BadInput(
            f"training.batch_size is {profile.training.batch_size}, but the pool has {size} "
            "images; use at most that."
        )
    methods = [profile.methods[name] for name in profile.run_methods]
    ratios = sorted({ratio for m in methods for block in m.grid for ratio in block.ratios})
    return ", ".join(f"{ratio:g} % is {budget_of(ratio, size):,}" for ratio in ratios)


def _disk(profile: settings.Settings, pool: ImageSet, results: Path) -> str:
    widths = width_of(profile.vision.name) + text.width_of(profile.text.name, profile.text.width)
    runs = len(profile.run_methods) * len(profile.seeds) * RUN_FILES
    needed = 2 * len(pool) * widths * 4 + runs  # twice: DVC keeps a copy in its cache
    pixels = torch.Size(pool.images.shape).numel()
    if isinstance(pool.images, FileImages) and pixels <= profile.dataset.memory_gib * GIB:
        needed += pixels  # decoded once, into data/generated/decoded
    free = shutil.disk_usage(results).free
    if needed > free:
        raise BadInput(
            f"embeddings and runs need about {needed / GIB:.1f} GiB below {results.resolve()}, "
            f"where {free / GIB:.1f} GiB are free; make room, or move the project."
        )
    return f"about {needed / GIB:.2f} GiB needed, {free / GIB:.1f} GiB free"


def _memory(profile: settings.Settings) -> str:
    needed, free = profile.compute.memory_gib, psutil.virtual_memory().available / GIB
    if needed is None:
        return f"{free:.1f} GiB free (the profile states no need: compute.memory_gib)"
    if needed > free:
        raise BadInput(f"the profile needs {needed:g} GiB, but only {free:.1f} GiB are free.")
    return f"{needed:g} GiB needed, {free:.1f} GiB free"


def _device(profile: settings.Settings) -> str:
    compute, gpus = profile.compute, torch.cuda.device_count()
    if compute.device == "cpu" or (compute.device == "auto" and not gpus):
        return f"CPU, {psutil.cpu_count(logical=True)} cores"
    if gpus < compute.processes:
        raise BadInput(
            f"the profile wants {compute.processes} GPU(s) (compute.device, compute.processes), "
            f"but torch {torch.__version__} sees {gpus}; install torch's CUDA build, or set "
            "compute.device to cpu and expect it to take very long."
        )
    name = torch.cuda.get_device_name(0)
    total = torch.cuda.get_device_properties(0).total_memory / GIB
    if compute.gpu_memory_gib and total < compute.gpu_memory_gib:
        raise BadInput(
            f"{name} has {total:.0f} GiB, but the profile needs {compute.gpu_memory_gib:g} GiB; "
            "lower training.batch_size."
        )
    return f"{gpus} x {name}, {total:.0f} GiB"


def _refuse(problem: str | None) -> None:
    if problem:
        raise BadInput(problem)


def main(arguments: Sequence[str]) -> None:
    """The command line; see the module's text."""
    parser = argparse.ArgumentParser(prog="python -m vecaf_lib.pipeline.check")
    parser.add_argument("name", metavar="PROFILE", nargs="?", help="default: params.yaml")
    options = parser.parse_args(arguments)
    path = profile_path(options.name, Path("profiles")) if options.name else Path("params.yaml")
    profile = settings.read(path)
    findings = list(check(profile, data=Path("data"), results=Path()))
    for finding in findings:
        sign = "ok     " if finding.there else "MISSING"
        print(f"{sign} {finding.what:<20} {finding.told}")
    missing = sum(not finding.there for finding in findings)
    if missing:
        raise BadInput(f"Profile {profile.profile} lacks {missing} of {len(findings)} things.")
    print(f"Profile {profile.profile} has all it needs.")


if __name__ == "__main__":
    cli.run(main)
