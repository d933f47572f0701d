"""Progress bars that reach the terminal and never a notebook's outputs.

A notebook that the pipeline executes has no terminal: what it prints is kept in the notebook. So
the executing process opens a named pipe (``relay``), and bars in the kernel write to it (``bar``).
"""

import os
import re
import shutil
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tqdm import tqdm

PIPE = "VECAF_PROGRESS"  # path of the pipe; empty means: no bars at all
STAGE = "VECAF_STAGE"  # what a bar's description begins with
TERMINAL = 2  # standard error
END = b"\0"


def silence() -> None:
    """Show no bars in this process (a worker, whose parent has the bar)."""
    os.environ[PIPE] = ""


def bar(steps: int, description: str) -> "tqdm[Any]":
    """A bar of so many steps, advanced by ``update``; its description begins with the stage's."""
    path, stage = os.environ.get(PIPE), os.environ.get(STAGE)
    piped = path and Path(path).is_fifo()
    return tqdm(
        total=steps,
        desc=f"{stage} · {description}" if stage else description,
        file=os.fdopen(os.open(str(path), os.O_RDWR), "w") if piped else sys.stderr,
        disable=path == "",
    )


@contextmanager
def relay(stage: str) -> Iterator[dict[str, str]]:
    """Copy the bars of other processes to the terminal; yield the environment they need."""
    with tempfile.TemporaryDirectory(prefix="vecaf-") as folder:
        path = Path(folder, "progress")
        os.mkfifo(path)
        pipe = os.open(path, os.O_RDWR)  # never without a reader, nor at an end
        copier = threading.Thread(target=_copy, args=(pipe,), daemon=True)
        copier.start()
        if os.isatty(TERMINAL):
            pace = {"TQDM_NCOLS": str(shutil.get_terminal_size().columns - 1)}
        else:  # a log: a line every 15 seconds
            pace = dict.fromkeys(("TQDM_MININTERVAL", "TQDM_MAXINTERVAL"), "15")
        try:
            yield {PIPE: str(path), STAGE: stage} | pace
        finally:
            os.write(pipe, END)
            copier.join()
            os.close(pipe)


def _copy(pipe: int) -> None:
    chunk = b""
    while not chunk.endswith(END):
        chunk = os.read(pipe, 65536)
        text = chunk.removesuffix(END)
        if not os.isatty(TERMINAL):  # nothing can be overwritten there
            text = re.sub(rb"[\r\n]+", b"\n", text)
        with suppress(OSError):  # the terminal is gone; the runs go on
            os.write(TERMINAL, text)
