"""One task in this process, or shared by several that torchrun starts."""

import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

import psutil

from vecaf_lib.errors import BadInput
from vecaf_lib.files import read_json, write_json
from vecaf_lib.pipeline import progress

REFUSAL = "refusal.json"  # beside the task's file: the sentence of a process that refused


def launch(task: Callable[..., None], arguments: Mapping[str, Any], *, processes: int = 1) -> None:
    """Call a module's function with JSON-able arguments; BadInput if it refuses, or one died."""
    if processes == 1:
        task(**arguments)
        return
    with tempfile.TemporaryDirectory(prefix="vecaf-") as folder:
        path = Path(folder, "task.json")
        names = task.__module__, task.__name__
        write_json(path, {"task": names, "arguments": arguments, "parent": os.getpid()})
        torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        done = subprocess.run(
            [*torchrun, f"--nproc_per_node={processes}", "-m", __name__, str(path)],
            env={"OMP_NUM_THREADS": "1"} | os.environ,
            capture_output=True,
            text=True,
        )
        if (refusal := path.with_name(REFUSAL)).exists():
            raise BadInput(read_json(refusal))
    if done.returncode:
        last = "\n".join(done.stderr.splitlines()[-20:])
        raise BadInput(
            f"One of {processes} processes of {task.__name__} died, most often for want of "
            f"memory; finished work is kept. Its last words:\n{last}"
        )


def join(path: Path) -> None:
    """One of several processes: do the task that ``launch`` wrote to a file."""
    content = read_json(path)
    module, name = content["task"]
    end_with(content["parent"])
    if os.environ["RANK"] != "0":
        progress.silence()
    try:
        getattr(import_module(module), name)(**content["arguments"])
    except BadInput as error:
        write_json(path.with_name(REFUSAL), str(error))
        sys.exit(str(error))


def end_with(process: int) -> None:
    """End this process, from now on, when another is gone, however that ended."""

    def watch() -> None:
        with suppress(psutil.NoSuchProcess):
            while psutil.Process(process).status() != psutil.STATUS_ZOMBIE:
                time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


if __name__ == "__main__":
    join(Path(sys.argv[1]))
