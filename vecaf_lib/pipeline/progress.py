"""Progress bars that reach the terminal and never a notebook's outputs.

A notebook that the pipeline executes has no terminal: what it prints is kept in the notebook. So
the executing process opens a named pipe (``relay``), and bars in the kernel write to it (``bar``).
"""

import codecs
import io
import os
import re
import shutil
import sys
import tempfile
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

from tqdm import tqdm

PIPE = "VECAF_PROGRESS"  # path of the pipe; empty means: no bars at all
STAGE = "VECAF_STAGE"  # what the bar's description begins with
SECONDS_BETWEEN_LINES = 15  # where stderr is a log file, not a terminal


def silence() -> None:
    """Show no bars in this process (a worker, whose parent has the bar)."""
    os.environ[PIPE] = ""


def bar(items: Iterable[Any] | int, description: str, *, leave: bool = True) -> "tqdm[Any]":
    """Return a tqdm over ``items``, or one of ``items`` steps to be advanced by ``update``.

    Args:
        items: what is iterated, or the number of steps.
        description: the run; inside an executed notebook the stage's name is put before it.
        leave: keep the finished bar on the screen.
    """
    path = os.environ.get(PIPE)
    stage = os.environ.get(STAGE)
    options: dict[str, Any] = {
        "desc": f"{stage} · {description}" if stage else description,
        "file": _open_pipe(path) or sys.stderr,
        "leave": leave,
        "disable": path == "",
    }
    return tqdm(total=items, **options) if isinstance(items, int) else tqdm(items, **options)


@contextmanager
def relay(stage: str, stream: TextIO) -> Iterator[dict[str, str]]:
    """Copy the bars of other processes to ``stream``; yield the environment they need."""
    live = stream.isatty()
    with tempfile.TemporaryDirectory(prefix="vecaf-") as folder:
        path = Path(folder) / "progress"
        os.mkfifo(path)
        reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        writer = os.open(path, os.O_WRONLY)  # held, so that the end of a bar is no end of file
        os.set_blocking(reader, True)
        copier = threading.Thread(target=_copy, args=(reader, stream, live), daemon=True)
        copier.start()
        environment = {PIPE: str(path), STAGE: stage}
        if live:
            environment["TQDM_NCOLS"] = str(shutil.get_terminal_size().columns - 1)
        else:
            environment["TQDM_MININTERVAL"] = str(SECONDS_BETWEEN_LINES)
            environment["TQDM_MAXINTERVAL"] = str(SECONDS_BETWEEN_LINES)
        try:
            yield environment
        finally:
            os.close(writer)
            copier.join(timeout=2)


def _copy(reader: int, stream: TextIO, live: bool) -> None:
    decode = codecs.getincrementaldecoder("utf-8")(errors="replace").decode
    with os.fdopen(reader, "rb", buffering=0) as source:
        while chunk := source.read(65536):
            text = decode(chunk)
            with suppress(OSError, ValueError):  # a closed stderr must not block the kernel
                stream.write(text if live else _plain_lines(text))
                stream.flush()


def _plain_lines(text: str) -> str:
    """Turn overwritten lines (carriage returns, cursor moves) into lines of a log."""
    lines = re.split(r"[\r\n]+", re.sub(r"\x1b\[\w+", "", text))
    return "".join(f"{line.rstrip()}\n" for line in lines if line.strip())


class _Pipe(io.TextIOBase):
    """Text to a pipe; text that finds it full, or without a reader, is dropped."""

    encoding = "utf-8"  # tqdm draws plain characters without it

    def __init__(self, raw: io.FileIO) -> None:
        self._raw = raw

    def write(self, text: str) -> int:
        with suppress(OSError):
            self._raw.write(text.encode())
        return len(text)

    def close(self) -> None:
        with suppress(OSError):
            self._raw.close()
        super().close()


def _open_pipe(path: str | None) -> _Pipe | None:
    if not path:
        return None
    try:
        handle = os.open(path, os.O_WRONLY | os.O_NONBLOCK)  # fails at once without a reader
    except OSError:
        return None
    return _Pipe(io.FileIO(handle, "wb"))
