"""Independent runs side by side, in processes that never outlive the one that started them."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

from vecaf_lib.errors import BadInput
from vecaf_lib.pipeline import progress

Item = TypeVar("Item")
Result = TypeVar("Result")


def run_all(
    task: Callable[[Item], Result],
    items: Sequence[Item],
    *,
    workers: int,
    threads: int,
    description: str,
    preload: list[str] | None = None,
) -> list[Result]:
    """Return ``[task(item) for item in items]``, computed by ``workers`` processes.

    Args:
        task: a function at the top of a module, or a ``functools.partial`` of one; what it has to
            keep it writes itself.
        items: picklable; the progress bar shows ``item.name``, else ``str(item)``.
        workers: processes; with 1 everything runs in this one.
        threads: torch threads of each process. Sums depend on it in their last bits, so it is
            the same for any number of workers.
        description: what the bar says.
        preload: modules that the workers need and that are slow to import.

    Raises:
        BadInput: a worker was killed, or ``workers`` or ``threads`` is below 1.
        Exception: the first that ``task`` raised; running items end, waiting ones are dropped.
    """
    if workers < 1 or threads < 1:
        raise BadInput(f"workers and threads must be at least 1, not {workers} and {threads}.")
    with progress.bar(len(items), description) as bar:
        if workers == 1:
            return _run_here(task, items, threads, bar)
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(preload or [])  # imported once, for all workers
        processes = max(1, min(workers, len(items)))
        with ProcessPoolExecutor(processes, context, _prepare_worker, (threads,)) as pool:
            try:
                futures = {pool.submit(task, item): item for item in items}
                for future in as_completed(futures):
                    future.result()
                    _advance(bar, futures[future])
            except BrokenProcessPool as error:
                raise BadInput(
                    f"A worker process of {description} was killed, most often for want of "
                    "memory; use fewer workers and repeat, finished runs are kept."
                ) from error
            finally:
                pool.shutdown(wait=True, cancel_futures=True)
            return [future.result() for future in futures]


def _run_here(
    task: Callable[[Item], Result], items: Sequence[Item], threads: int, bar: Any
) -> list[Result]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        results = []
        for item in items:
            results.append(task(item))
            _advance(bar, item)
        return results
    finally:
        torch.set_num_threads(before)


def _advance(bar: Any, item: object) -> None:
    bar.set_postfix_str(str(getattr(item, "name", item)), refresh=False)
    bar.update()


def _prepare_worker(threads: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends a worker without a traceback
    threading.Thread(target=_end_with_parent, daemon=True).start()
    progress.silence()
    import torch

    torch.set_num_threads(threads)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()  # returns as soon as the parent is gone, however it ended
        os._exit(1)
