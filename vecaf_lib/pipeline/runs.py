"""From settings to run files: which runs a method needs, and how one of them is made."""

import functools
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vecaf_lib.cea import Augmentation
from vecaf_lib.datasets import ImageSet, load
from vecaf_lib.encoders.vision import PVM, load_backbone, weights_file
from vecaf_lib.errors import BadInput
from vecaf_lib.files import sha256_file, sha256_json
from vecaf_lib.loop import active_finetuning
from vecaf_lib.official import OfficialAugmentation
from vecaf_lib.pipeline.provenance import code_digests, imports_of, library_versions
from vecaf_lib.pipeline.store import RunSpec, RunStore
from vecaf_lib.pipeline.workers import run_all
from vecaf_lib.seeding import generator
from vecaf_lib.selection import load as load_method
from vecaf_lib.selection._pool import budget_of
from vecaf_lib.training import Recipe

LIBRARIES = ("torch", "timm", "numpy", "scipy", "accelerate")
ROOT = Path(__file__).parents[2]
MADE_BY = ("loop.py", "datasets/{dataset}.py", "selection/{select}.py")  # and what they import


@dataclass(frozen=True)
class Job:
    """All that a worker process needs for the runs of one method; plain values, picklable."""

    dataset: Mapping[str, Any]
    vision: Mapping[str, Any]
    training: Mapping[str, Any]
    method: Mapping[str, Any]
    index_dir: Path
    text: Path
    runs: Path
    threads: int

    def provenance(self) -> dict[str, Any]:
        """What the results depend on; ``digest`` is one hash of it all.

        The grid of the method is left out: adding a seed or a ratio leaves finished runs valid.
        """
        settings = {name: getattr(self, name) for name in ("dataset", "vision", "training")}
        settings["method"] = {k: v for k, v in self.method.items() if k != "grid"}
        settings["threads"] = self.threads
        inputs = {path.name: sha256_file(path) for path in sorted(self.index_dir.glob("*.csv"))}
        inputs["vision weights"] = sha256_file(
            weights_file(self.vision["name"], self.vision["weights"])
        )
        if self.method["cea"]:
            inputs["text embeddings"] = sha256_file(self.text)
        names = {"dataset": self.dataset["name"], "select": self.method["select"]}
        files = {Path("vecaf_lib", part.format(**names)) for part in MADE_BY}
        files |= {found for file in files for found in imports_of(file, ROOT)}
        files.add(Path(__file__).relative_to(ROOT))
        made_from = {
            "settings": settings,
            "inputs": inputs,
            "code": code_digests(files, ROOT),
            "versions": library_versions(LIBRARIES),
        }
        return made_from | {"digest": sha256_json(made_from)}


def make_runs(job: Job, wanted: Sequence[RunSpec], *, workers: int) -> int:
    """Make those of the wanted runs that are not finished; each is stored as soon as it ends.

    Returns:
        How many had to be made.

    Raises:
        BadInput: a budget or batch size does not fit the pool (before any run starts), or a run
            fails; finished runs are kept.
    """
    size = len(_images(job.dataset["name"], "train", job.dataset["image_size"], job.index_dir))
    if job.training["batch_size"] > size:
        raise BadInput(
            f"training.batch_size is {job.training['batch_size']}, but the pool has {size} images; "
            "use at most that."
        )
    for spec in wanted:
        budget_of(spec.ratio, size)
    provenance = job.provenance()
    store = RunStore(job.runs)
    for method in {spec.method for spec in wanted}:
        store.sweep(method)
    todo = [spec for spec in wanted if not store.finished(spec, provenance["digest"])]
    task = functools.partial(perform, job, provenance)
    kept = f", {len(wanted) - len(todo)} kept" if len(todo) < len(wanted) else ""
    name = wanted[0].method if wanted else "none"
    run_all(task, todo, workers=workers, threads=job.threads, description=f"{name}{kept}")
    return len(todo)


def perform(job: Job, provenance: Mapping[str, Any], spec: RunSpec) -> None:
    """Make one run and store it; called in a worker process."""
    images = functools.partial(
        _images, job.dataset["name"], image_size=job.dataset["image_size"], index_dir=job.index_dir
    )
    train = images("train")
    pvm = PVM(
        load_backbone(job.vision["name"], weights=job.vision["weights"]),
        len(train.class_names),
        generator=generator(spec.seed, "initialisation"),
    )
    module = load_method(job.method["select"])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = active_finetuning(
            pvm,
            train,
            images("validation"),
            images("test"),
            select=functools.partial(module.select, **job.method["options"]),
            needs=module.NEEDS,
            cea=augmentation(job, seed=spec.seed, size=len(train)),
            budget=budget_of(spec.ratio, len(train)),
            loops=spec.loops,
            multi_run=spec.multi_run,
            recipe=Recipe(**job.training),
            seed=spec.seed,
            first_losses=job.method["first_losses"],
            accumulate=job.method["accumulate"],
        )
    result["labels_seen"] = "all" if "losses" in module.NEEDS else "chosen only"
    ours = {str(told.message) for told in caught if "vecaf_lib" in told.filename}
    result["warnings"] = sorted(ours)
    RunStore(job.runs).save(spec, result, provenance)


def augmentation(job: Job, *, seed: int, size: int) -> Augmentation | OfficialAugmentation | None:
    """CEA as the method's settings have it, or None."""
    cea = job.method["cea"]
    if cea is None:
        return None
    try:
        text = torch.from_numpy(np.load(job.text, allow_pickle=False))
    except (OSError, ValueError, EOFError) as error:
        raise BadInput(
            f"{job.text} is missing or damaged ({error}); delete it and `dvc repro` makes it again."
        ) from error
    if text.dim() != 2 or len(text) != size:
        raise BadInput(
            f"{job.text} has the shape {tuple(text.shape)}, but the pool needs {size} rows of text "
            "embeddings; delete it and `dvc repro` makes it again."
        )
    options = {key: value for key, value in cea.items() if key != "mode"}
    if cea["mode"] == "official":
        return OfficialAugmentation(text, seed=seed, bridge=cea["bridge"], ridge=cea["ridge"])
    return Augmentation(text, seed=seed, **options)


@functools.lru_cache(maxsize=4)
def _images(name: str, split: str, image_size: int, index_dir: Path) -> ImageSet:
    return load(name, split, image_size=image_size, index_dir=index_dir)
