"""A .npy file that several processes fill with rows, and that a kill does not cost.

While it grows, these lie beside it, on one file system that all the processes share:

| file                   | holds                                                              |
|------------------------|--------------------------------------------------------------------|
| .<name>.part           | the rows so far, in their final places                             |
| .<name>.<rank>.journal | a digest of what is computed, then the batches whose rows are safe |
| <stem>.json            | the digest of the finished file, which then is not made again      |
"""

import errno
import glob
import io
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

import numpy as np
from jaxtyping import Float32

from vecaf_lib.errors import BadInput
from vecaf_lib.files import read_json, write_json

SECONDS_BETWEEN_SYNCS = 2.0  # what a kill costs a process at most, beside the batch in progress


class RowsFile:
    """[rows, width] float32 in batches of ``batch_size`` rows.

    Args:
        path: of the finished file.
        digest: of all that decides the rows; rows of another digest are thrown away.
    """

    def __init__(self, path: Path, rows: int, width: int, batch_size: int, digest: str) -> None:
        self.path, self.width, self.batch_size, self.digest = path, width, batch_size, digest
        self.total = rows
        self.batches = -(-rows // batch_size)
        self.part = path.with_name(f".{path.name}.part")
        self.seal = path.with_suffix(".json")
        header = io.BytesIO()
        shape = {"descr": "<f4", "fortran_order": False, "shape": (rows, width)}
        np.lib.format.write_array_header_1_0(header, shape)
        self._header = header.getvalue()
        self._bytes = len(self._header) + 4 * rows * width

    def rows(self, batch: int) -> slice:
        """The rows of a batch; the last batch may be short."""
        start = batch * self.batch_size
        return slice(start, min(start + self.batch_size, self.total))

    def finished(self) -> bool:
        """Whether the file is there and whole, with this very digest."""
        if not (self.path.is_file() and self.seal.is_file()):
            return False
        try:
            sealed = read_json(self.seal)
        except BadInput:
            return False
        return (
            isinstance(sealed, dict)
            and sealed.get("digest") == self.digest
            and self.path.stat().st_size == self._bytes
        )

    def prepare(self) -> None:
        """Make room for the rows, or take up what an interrupted run of this digest has left.

        Raises:
            BadInput: the disk has less room than the missing rows need.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        for journal in self._journals():
            if not _lines(journal):  # killed before its first line was whole
                journal.unlink()
        ours = all(_lines(journal)[0] == self.digest for journal in self._journals())
        whole = self.part.is_file() and self.part.stat().st_size == self._bytes
        if not (ours and whole):
            for path in (*self._journals(), self.part):
                path.unlink(missing_ok=True)
        missing = self.total - sum(len(range(self.total)[self.rows(b)]) for b in self.done())
        needed, free = 4 * missing * self.width, shutil.disk_usage(self.path.parent).free
        if needed > free:
            raise BadInput(
                f"{self.path} needs {needed / 1e9:.3g} GB more, but its disk has {free / 1e9:.3g} "
                "GB free; free some and repeat the command, what is finished is kept."
            )
        if not self.part.exists():
            with self.part.open("wb") as file:
                file.write(self._header)
                file.truncate(self._bytes)  # takes no room yet

    def done(self) -> set[int]:
        """Batches whose rows are safely in the part file."""
        return {int(line) for journal in self._journals() for line in _lines(journal)[1:]}

    @contextmanager
    def writer(self, rank: int) -> Iterator["Writer"]:
        """Open the part file for one process."""
        journal = self.path.with_name(f".{self.path.name}.{rank}.journal")
        known = "".join(f"{line}\n" for line in _lines(journal))
        with self.part.open("r+b") as part, journal.open("ab") as log, self._room():
            log.truncate(len(known))  # a kill may have cut the last line
            writer = Writer(self, part, log, len(self._header))
            writer.note([] if known else [self.digest])
            try:
                yield writer
            finally:
                writer.sync()

    def finish(self) -> None:
        """Give the file its name, once the journals tell that every batch is in it."""
        lacking = sorted(set(range(self.batches)) - self.done())
        if lacking:
            raise RuntimeError(
                f"{self.part}: {len(lacking)} batches, first {lacking[0]}, are missing"
            )
        self.seal.unlink(missing_ok=True)  # an old seal must not vouch for the new file
        self.part.replace(self.path)
        write_json(self.seal, {"digest": self.digest, "rows": self.total, "width": self.width})
        for journal in self._journals():
            journal.unlink()

    def _journals(self) -> list[Path]:
        return sorted(self.path.parent.glob(f".{glob.escape(self.path.name)}.*.journal"))

    @contextmanager
    def _room(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise BadInput(
                f"No room left on the disk that holds {self.path}: free some and repeat the "
                "command; what is finished is kept."
            ) from error


class Writer:
    """Puts the batches of one process in their places."""

    def __init__(self, file: RowsFile, part: BinaryIO, log: BinaryIO, offset: int) -> None:
        self._file, self._part, self._log, self._offset = file, part, log, offset
        self._waiting: list[str] = []
        self._synced = time.monotonic()

    def write(self, batch: int, rows: Float32[np.ndarray, "b d"]) -> None:
        """Write the rows of a batch; the journal tells of them once they are on the disk."""
        self._part.seek(self._offset + 4 * self._file.width * self._file.rows(batch).start)
        self._part.write(np.ascontiguousarray(rows, dtype="<f4").tobytes())
        self._waiting.append(str(batch))
        if time.monotonic() - self._synced > SECONDS_BETWEEN_SYNCS:
            self.sync()

    def sync(self) -> None:
        """Rows to the disk, then their batches to the journal."""
        self._part.flush()
        os.fsync(self._part.fileno())
        self.note(self._waiting)
        self._waiting = []
        self._synced = time.monotonic()

    def note(self, lines: list[str]) -> None:
        """Append whole lines to the journal."""
        self._log.write("".join(f"{line}\n" for line in lines).encode())
        self._log.flush()


def _lines(journal: Path) -> list[str]:
    """The whole lines of a journal; a kill may have cut the last one."""
    with suppress(FileNotFoundError):
        return journal.read_text(encoding="utf-8").split("\n")[:-1]
    return []
