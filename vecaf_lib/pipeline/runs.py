"""The runs of a profile: which are wanted, which are finished; the others, side by side."""

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


def make_runs(jobs: Mapping[str, Job], wanted: Sequence[RunSpec]) -> int:
    """Make those of the wanted runs that are not finished; each is stored as soon as it ends.

    Args:
        jobs: method -> what its runs depend on; of one profile.
        wanted: runs of these methods, made in this order.

    Returns:
        How many had to be made.

    Raises:
        BadInput: a budget, batch size or target class does not fit the pool (before any run
            starts), or a run fails; finished runs are kept.
    """
    if not wanted:
        return 0
    first = next(iter(jobs.values()))
    _check(first, wanted)
    provenance = {name: job.provenance() for name, job in jobs.items()}
    store = RunStore(first.runs)
    for method in jobs:
        store.sweep(method)
    todo = [s for s in wanted if not store.finished(s, provenance[s.method]["digest"])]
    compute = first.compute
    if compute["processes"] > 1:
        shared = {
            "jobs": {name: job.plain() for name, job in jobs.items()},
            "wanted": [asdict(spec) for spec in todo],
            "provenance": provenance,
        }
        if todo:
            from vecaf_lib.pipeline.run import make_all  # imports timm, which is slow

            launch(make_all, shared, processes=compute["processes"])
        return len(todo)
    run_all(
        functools.partial(perform, dict(jobs), provenance),
        todo,
        workers=compute["workers"],
        threads=compute["threads"],
        description=f"runs, {len(wanted) - len(todo)} kept" if len(todo) < len(wanted) else "runs",
        preload=["vecaf_lib.pipeline.run"],
    )
    return len(todo)


def perform(jobs: Mapping[str, Job], provenance: Mapping[str, Any], spec: RunSpec) -> None:
    """Make one run and store it; called in a worker, which alone needs timm and accelerate."""
    from vecaf_lib.pipeline.run import make_run

    job = jobs[spec.method]
    RunStore(job.runs).save(spec, make_run(job, spec), provenance[spec.method])


def _check(job: Job, wanted: Sequence[RunSpec]) -> None:
    """Refuse at once what would fail only after other runs."""
    pool = job.images("train")
    if job.training["batch_size"] > len(pool):
        raise BadInput(
            f"training.batch_size is {job.training['batch_size']}, but the pool has {len(pool)} "
            "images; use at most that."
        )
    for spec in wanted:
        budget_of(spec.ratio, len(pool))
        if spec.target and spec.target not in pool.class_names:
            known = ", ".join(pool.class_names[:10])
            raise BadInput(
                f"methods.{spec.method}.grid: targets has {spec.target!r}, which is no class of "
                f"{job.dataset['name']}; its classes are {known}"
                f"{', ...' if len(pool.class_names) > 10 else ''}."
            )
