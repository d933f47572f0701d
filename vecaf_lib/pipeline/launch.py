"""One task in this process, or shared by several that torchrun starts, one a GPU where there are.

``launch`` is what the notebooks call. ``accelerate launch -m vecaf_lib.pipeline.launch TASK.json``
does the same by hand, over several machines if need be; ``TASK.json`` is what ``launch`` writes.
"""

import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import psutil

from vecaf_lib.errors import BadInput
from vecaf_lib.files import read_json, write_json
from vecaf_lib.pipeline import cli, progress

PACKAGE = "vecaf_lib."  # only its own functions are called


def launch(task: Callable[..., None], arguments: Mapping[str, Any], *, processes: int = 1) -> None:
    """Do a task and come back when it is done.

    Args:
        task: a function at the top of a module of this package; each process calls it.
        arguments: its keyword arguments, JSON-able.
        processes: how many share it; with 1 it is done in this process.

    Raises:
        BadInput: the task refuses its arguments, or a process of several died.
    """
    if processes == 1:
        task(**arguments)
        return
    with tempfile.TemporaryDirectory(prefix="vecaf-") as folder:
        path = Path(folder) / "task.json"
        name = f"{task.__module__}:{task.__name__}"
        write_json(path, {"task": name, "arguments": arguments})
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        command += [f"--nproc_per_node={processes}", "-m", "vecaf_lib.pipeline.launch", str(path)]
        threads = os.environ.get("OMP_NUM_THREADS", "1")
        environment = os.environ | {"VECAF_PARENT": str(os.getpid()), "OMP_NUM_THREADS": threads}
        done = subprocess.run(
            command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        if done.returncode:
            refused = _refusal(path)
            if refused.exists():
                raise BadInput(str(read_json(refused)))
            last = "\n".join(done.stderr.splitlines()[-20:])
            raise BadInput(
                f"One of {processes} processes of {task.__name__} died, most often for want of "
                f"memory; finished work is kept. Its last words:\n{last}"
            )


def _function(path: Path, content: Any) -> Callable[..., None]:
    module, _, name = str(content.get("task") if isinstance(content, dict) else "").partition(":")
    if not (module.startswith(PACKAGE) and name):
        raise BadInput(f"{path} describes no task; `task` must read vecaf_lib.<module>:<function>.")
    try:
        function: Callable[..., None] = getattr(import_module(module), name)
    except (ModuleNotFoundError, AttributeError) as error:
        raise BadInput(f"{path}: there is no task {module}:{name}; check the name.") from error
    return function


def _refusal(path: Path) -> Path:
    return path.with_name("refusal.json")


def main(arguments: Sequence[str]) -> None:
    """One of the processes: do the task that a file describes."""
    if len(arguments) != 1:
        raise BadInput("Usage: accelerate launch -m vecaf_lib.pipeline.launch TASK.json")
    path = Path(arguments[0])
    content = read_json(path)
    task = _function(path, content)
    if parent := os.environ.get("VECAF_PARENT"):
        threading.Thread(target=_end_with, args=(int(parent),), daemon=True).start()
    if os.environ.get("RANK", "0") != "0":
        progress.silence()
    try:
        task(**content["arguments"])
    except BadInput as error:
        write_json(_refusal(path), str(error))
        raise


def _end_with(process: int) -> None:
    """End this process when the one that launched it is gone, however that ended."""
    try:
        while psutil.Process(process).status() != psutil.STATUS_ZOMBIE:
            time.sleep(1)
    except psutil.NoSuchProcess:
        pass
    os._exit(1)


if __name__ == "__main__":
    cli.run(main)
