"""One run, from the settings of its method to its result; the heavy part, for worker processes."""

import functools
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vecaf_lib.cea import Augmentation
from vecaf_lib.distribution import rank_and_size, use_device
from vecaf_lib.encoders.vision import PVM, load_backbone
from vecaf_lib.errors import BadInput
from vecaf_lib.evaluation import measure
from vecaf_lib.loop import active_finetuning
from vecaf_lib.objective import Objective
from vecaf_lib.official import OfficialAugmentation
from vecaf_lib.pipeline import progress
from vecaf_lib.pipeline.job import Job
from vecaf_lib.pipeline.store import RunSpec, RunStore
from vecaf_lib.seeding import generator
from vecaf_lib.selection import load as load_method
from vecaf_lib.selection._pool import budget_of
from vecaf_lib.stylise.stylist import stylised
from vecaf_lib.training import Recipe


def make_run(job: Job, spec: RunSpec) -> dict[str, Any]:
    """Finetune once and return what the run file is to hold."""
    use_device(job.compute["device"])
    train, style = job.images("train"), job.method.get("stylise")
    pvm = PVM(
        load_backbone(**job.vision, image_size=job.dataset["image_size"]),
        len(train.class_names),
        generator=generator(spec.seed, "initialisation"),
        precision=job.compute["precision"],
        evaluation_precision=job.compute["evaluation_precision"],
    )
    if style:
        prompt = job.domains[job.method["domain"]]["prompt"]
        train = stylised(train, prompt=prompt, pvm=pvm, seed=spec.seed, **style)
    module = load_method(job.method["select"])
    companion = getattr(module, "COMPANION", None)
    objective = Objective(train.class_names.index(spec.target) if spec.target else None)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = active_finetuning(
            pvm,
            train,
            job.images("validation"),
            job.images("test"),
            select=functools.partial(module.select, **job.method["options"]),
            needs=module.NEEDS,
            cea=augmentation(job, seed=spec.seed, size=len(train)),
            budget=budget_of(spec.ratio, len(train)),
            loops=spec.loops,
            multi_run=spec.multi_run,
            recipe=Recipe(**job.training),
            seed=spec.seed,
            first_losses=job.method["first_losses"],
            first_embeddings=embeddings(job.image, size=len(train)),
            accumulate=job.method["accumulate"],
            objective=objective,
            predictor=companion and companion(pvm, generator(spec.seed, "companion")),
            cold_start=getattr(module, "COLD_START", False),
        )
    if job.method["domains"] and not spec.target:
        result["domains"] = {name: in_domain(job, pvm, name) for name in job.method["domains"]}
    all_labels = "losses" in module.NEEDS or job.method.get("class_names", False)
    result["labels_seen"] = "all" if all_labels else "chosen only"
    ours = {str(told.message) for told in caught if "vecaf_lib" in told.filename}
    result["warnings"] = sorted(ours)
    return result


def in_domain(job: Job, pvm: PVM, domain: str) -> dict[str, float]:
    """Last-step accuracy in percent by severity of the corruption, and their ``mean``."""
    severities = job.domains[domain]["severities"]
    told = {
        str(severity): measure(pvm, job.domain_images(domain, severity))["accuracy"]
        for severity in severities
    }
    return told | {"mean": sum(told.values()) / len(told)}


def make_all(
    jobs: Mapping[str, Mapping[str, Any]],
    wanted: Sequence[Mapping[str, Any]],
    provenance: Mapping[str, Mapping[str, Any]],
) -> None:
    """Make the wanted runs one after another, each shared by all processes of a launch.

    Args:
        jobs: method -> from ``Job.plain``.
        wanted: the runs, as dictionaries.
        provenance: method -> of its job.
    """
    for spec in progress.bar([RunSpec(**run) for run in wanted], "runs"):
        job = Job.from_plain(jobs[spec.method])
        torch.set_num_threads(job.compute["threads"])
        result = make_run(job, spec)
        if rank_and_size()[0] == 0:
            RunStore(job.runs).save(spec, result, provenance[spec.method])


def augmentation(job: Job, *, seed: int, size: int) -> Augmentation | OfficialAugmentation | None:
    """CEA as the method's settings have it, or None."""
    cea = job.method["cea"]
    if cea is None:
        return None
    text = embeddings(job.text, size=size)
    options = {key: value for key, value in cea.items() if key != "mode"}
    if cea["mode"] == "official":
        return OfficialAugmentation(text, seed=seed, bridge=cea["bridge"], ridge=cea["ridge"])
    return Augmentation(text, seed=seed, **options)


def embeddings(path: Path, *, size: int) -> torch.Tensor:
    """The pool's embeddings from a .npy file, [size, d], read from the disk as they are used.

    Raises:
        BadInput: the file is missing, damaged or of another pool.
    """
    try:
        rows = np.load(path, mmap_mode="c", allow_pickle=False)  # never written back
    except (OSError, ValueError, EOFError) as error:
        raise BadInput(
            f"{path} is missing or damaged ({error}); delete it and `dvc repro` makes it again."
        ) from error
    if rows.ndim != 2 or len(rows) != size:
        raise BadInput(
            f"{path} has the shape {rows.shape}, but the pool needs {size} rows of embeddings; "
            "delete it and `dvc repro` makes it again."
        )
    return torch.from_numpy(rows)
