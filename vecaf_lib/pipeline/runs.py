"""All runs of a profile: the unfinished ones are made, side by side, each stored at once."""

import json
import os
import signal
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from joblib import Parallel, delayed, parallel_config

from vecaf_lib.data.images import ImageSet
from vecaf_lib.devices import rank_and_size
from vecaf_lib.errors import BadInput
from vecaf_lib.options import one_of
from vecaf_lib.pipeline import progress
from vecaf_lib.pipeline.launch import end_with, launch
from vecaf_lib.pipeline.run import Job, make_run
from vecaf_lib.results.runs import Run, RunStore
from vecaf_lib.selection.pool import budget_of

ANSWER = 10  # seconds that a Dask scheduler has to answer


def make_runs(jobs: Mapping[str, Job], runs: Sequence[Run], folder: Path) -> int:
    """Make those runs whose file is not whole or came from other code or inputs; how many it made.

    BadInput if a run does not fit the pool (then none starts), or fails, or is killed.
    """
    for run in runs:  # refuse at once what would fail only after other runs
        job = jobs[run.method]
        refuse_misfit(run, job.images("train"), job.settings["training"]["batch_size"])
    provenance = {name: job.provenance() for name, job in jobs.items()}
    for part in folder.glob("*/.*.part"):  # unfinished copies that a kill left
        part.unlink(missing_ok=True)
    store = RunStore(folder)
    todo = [run for run in runs if not store.finished(run, provenance[run.method]["digest"])]
    if not todo:
        return 0
    compute = jobs[todo[0].method].settings["compute"]
    if compute["processes"] > 1:
        work = {
            "jobs": {name: vars(job) for name, job in jobs.items()},
            "runs": [*map(asdict, todo)],
            "provenance": provenance,
            "folder": folder,
        }
        plain = json.loads(json.dumps(work, default=str))
        launch(make_all, plain, processes=compute["processes"])
        return len(todo)
    if compute["dask"]:
        parts = [(jobs[run.method], run, provenance[run.method]) for run in todo]
        _follow(_on_dask(compute["dask"], parts, folder), len(todo))
        return len(todo)
    tasks = (delayed(make_and_store)(jobs[r.method], r, provenance[r.method], folder) for r in todo)
    with parallel_config(
        "loky",
        n_jobs=min(compute["workers"], len(todo)),
        max_nbytes=None,
        inner_max_num_threads=compute["threads"],
        initializer=_settle_in,
        initargs=(os.getpid(),),
    ):
        try:
            _follow(Parallel(return_as="generator_unordered", batch_size=1)(tasks), len(todo))
        except BrokenProcessPool as error:
            raise BadInput(
                "A run was killed, most often for want of memory; lower compute.workers and "
                "repeat, finished runs are kept."
            ) from error
    return len(todo)


def refuse_misfit(run: Run, pool: ImageSet, batch: int) -> None:
    """Refuse a run that cannot be made from the pool: its batches, its sets, its target."""
    if batch > (size := len(pool)):
        raise BadInput(f"training.batch_size is {batch}, more than the pool's {size} images.")
    budget = budget_of(run.ratio, size)
    if run.sets == "kept" and run.loops * budget > size:
        many = f"{run.loops} kept sets of {budget} images"
        raise BadInput(f"ratio: {many} are more than the pool's {size}; lower {run.ratio:g} %.")
    if run.target:
        one_of(run.target, pool.class_names, "class of the pool, but stands in targets")


def make_and_store(job: Job, run: Run, provenance: Mapping[str, Any], folder: Path | str) -> Run:
    """Make one run and store it; what goes wrong names the run."""
    torch.set_num_threads(job.settings["compute"]["threads"])
    try:
        result = make_run(job, run)
        if rank_and_size()[0] == 0:
            RunStore(Path(folder)).save(run, result, provenance)
    except BadInput as error:
        raise BadInput(f"{run.method} {run.name}: {error}") from error
    except Exception as error:
        error.add_note(f"This happened in the run {run.method} {run.name}.")
        raise
    return run


def make_all(
    jobs: Mapping[str, Any], runs: Sequence[Any], provenance: Mapping[str, Any], folder: str
) -> None:
    """Make runs one after another, each shared by all processes of a launch."""
    todo = [(Job(**jobs[run["method"]]), Run(**run), provenance[run["method"]]) for run in runs]
    _follow((make_and_store(*parts, folder) for parts in todo), len(todo))


def _on_dask(
    address: str, parts: Sequence[tuple[Job, Run, Mapping[str, Any]]], folder: Path
) -> Iterator[Run]:
    """Make runs on the workers of a Dask scheduler; one whose worker dies starts on another.

    Dask's own futures: joblib's Dask backend (1.6) waits for ever for a run that kills each worker.
    """
    try:
        from distributed import CancelledError, Client, KilledWorker, as_completed
    except ImportError as error:
        raise BadInput("compute.dask needs Dask; `pip install 'vecaf[dask]'`.") from error
    try:
        client = Client(address, timeout=ANSWER, set_as_default=False)
    except OSError as error:
        raise BadInput(
            f"compute.dask: no scheduler answers at {address}; start one with `dask scheduler`, "
            "or leave the setting out."
        ) from error
    with client:
        workers = client.scheduler_info(n_workers=-1)["workers"].values()
        if not workers or any(worker["nthreads"] > 1 for worker in workers):
            raise BadInput(
                f"compute.dask: {len(workers)} workers are at {address}; it should be one or more, "
                f"each of one thread: `dask worker {address} --nthreads 1`."
            )
        tasks = [(make_and_store, *part, folder.absolute()) for part in parts]
        futures = [client.submit(_there, Path.cwd(), *task, pure=False) for task in tasks]
        try:
            for future in as_completed(futures, loop=client.loop):
                yield future.result()
        except (KilledWorker, CancelledError) as error:
            raise BadInput(
                "Dask lost its scheduler or too many workers, most often for want of memory; start "
                "them anew and repeat, finished runs are kept."
            ) from error


def _there(place: Path, function: Callable[..., Run], *arguments: Any) -> Run:
    """In a Dask worker: the call, without bars, in the folder of the process that asks for it."""
    progress.silence()
    try:
        os.chdir(place)
    except OSError as error:
        raise BadInput(f"compute.dask: a worker does not see {place}; share it.") from error
    return function(*arguments)


def _follow(runs: Iterable[Run], total: int) -> None:
    with progress.bar(total, "runs") as bar:
        for run in runs:
            bar.set_postfix_str(f"{run.method} {run.name}", refresh=False)
            bar.update()


def _settle_in(parent: int) -> None:
    """In a worker: no bars, a quiet end by Ctrl-C, and an end when its parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    progress.silence()
    end_with(parent)
