"""The runs of one method: which are wanted, which are finished; the others, side by side."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from vecaf_lib.errors import BadInput
from vecaf_lib.pipeline.job import Job
from vecaf_lib.pipeline.launch import launch
from vecaf_lib.pipeline.store import RunSpec, RunStore
from vecaf_lib.pipeline.workers import run_all
from vecaf_lib.selection._pool import budget_of


def make_runs(job: Job, wanted: Sequence[RunSpec]) -> int:
    """Make those of the wanted runs that are not finished; each is stored as soon as it ends.

    Returns:
        How many had to be made.

    Raises:
        BadInput: a budget or batch size does not fit the pool (before any run starts), or a run
            fails; finished runs are kept.
    """
    size = len(job.images("train"))
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
    if job.compute["processes"] > 1:
        shared = {"job": job.plain(), "wanted": [asdict(spec) for spec in todo]}
        shared["provenance"] = provenance
        if todo:
            from vecaf_lib.pipeline.run import make_all  # imports timm, which is slow

            launch(make_all, shared, processes=job.compute["processes"])
        return len(todo)
    task = functools.partial(perform, job, provenance)
    kept = f", {len(wanted) - len(todo)} kept" if len(todo) < len(wanted) else ""
    name = wanted[0].method if wanted else "none"
    run_all(
        task,
        todo,
        workers=job.compute["workers"],
        threads=job.compute["threads"],
        description=f"{name}{kept}",
        preload=["vecaf_lib.pipeline.run"],
    )
    return len(todo)


def perform(job: Job, provenance: Mapping[str, Any], spec: RunSpec) -> None:
    """Make one run and store it; called in a worker, which alone needs timm and accelerate."""
    from vecaf_lib.pipeline.run import make_run

    RunStore(job.runs).save(spec, make_run(job, spec), provenance)
