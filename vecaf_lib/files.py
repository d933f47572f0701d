"""Files that are whole or absent: atomic writes, canonical JSON, run files, checksums, parts.

A run file is JSON in gzip, as most of one is names of chosen images; ``zcat FILE`` prints it.
"""

import errno
import gzip
import hashlib
import io
import json
import os
import re
import shutil
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

from vecaf_lib.errors import BadInput, reason

RUN_SUFFIX = ".json.gz"
_ORDINARY = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*")
_LONGEST = 80  # characters of a name that stays as it is
_PLAIN_LIST = re.compile(r"\[\n *([^\[\]{}]*?)\n *\]")  # none of whose parts has a bracket


def file_name(text: str) -> str:
    """The text as a part of a file's name or of an id: different texts, different names.

    Ordinary ones stay as they are. Of others, such as "c++", capitals (disks may take them for
    small letters) and other scripts, what can stay does; a digest tells them apart: ``c~6f29...``.
    """
    if _ORDINARY.fullmatch(text) and len(text) <= _LONGEST:
        return text
    digest = hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:12]
    return re.sub(r"[^a-z0-9]+", "_", text.lower())[:_LONGEST].strip("_") + f"~{digest}"


@contextmanager
def disk_room(path: Path, needed: int = 0) -> Iterator[None]:
    """Write to ``path`` inside this: a full disk, or ``needed`` bytes too many, is a BadInput."""
    sentence = (
        f"No room left on the disk that holds {path}: free some and repeat the command; "
        "finished work is kept."
    )
    place = next(folder for folder in (path, *path.absolute().parents) if folder.exists())
    if needed > (free := shutil.disk_usage(place).free):
        raise BadInput(f"{sentence} It needs {needed:,} bytes and has {free:,}.")
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise BadInput(sentence) from error
        raise


def atomic_write(path: Path, data: bytes) -> None:
    """Write a file so that a crash or a full disk (BadInput) leaves the old one or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with (
        disk_room(path),
        NamedTemporaryFile(
            dir=path.parent, prefix=f".{path.name}.", suffix=".part", delete=False
        ) as file,
    ):
        try:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            Path(file.name).chmod(0o644)
            Path(file.name).replace(path)
        except OSError:
            Path(file.name).unlink(missing_ok=True)
            raise


def write_json(path: Path, content: Any) -> None:
    """Write canonical JSON: sorted keys, no NaN, a list of plain values on one line."""
    # no string of JSON holds a line break, so that those in a match part values
    text = _PLAIN_LIST.sub(
        lambda plain: "[" + re.sub(r"\n *", " ", plain[1]) + "]", _canonical(content)
    )
    atomic_write(path, f"{text}\n".encode())


def write_run(path: Path, content: Any) -> None:
    """Write a run file; equal content is equal bytes."""
    atomic_write(path, gzip.compress(f"{_canonical(content)}\n".encode(), mtime=0))


def _canonical(content: Any) -> str:
    return json.dumps(content, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False)


def read_json(path: Path) -> Any:
    """Read a JSON file; BadInput if it is missing or is none."""
    return _read(path, "JSON", json.loads)


def read_run(path: Path) -> Any:
    """Read a run file; BadInput if it is missing, cut off or not JSON in gzip."""
    return _read(path, "JSON in gzip", lambda data: json.loads(gzip.decompress(data)))


def _read(path: Path, kind: str, parse: Callable[[bytes], Any]) -> Any:
    try:
        return parse(path.read_bytes())
    except FileNotFoundError as error:
        raise BadInput(f"{path} is missing; `dvc repro` makes it.") from error
    except (ValueError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise BadInput(
            f"{path} is not readable as {kind} ({reason(error)}); delete it and `dvc repro` makes "
            "it again."
        ) from error


def sha256_file(path: Path) -> str:
    """SHA-256 of a file's bytes, in hex; computed once while path, size and times stay the same."""
    status = path.stat()
    times = status.st_mtime_ns, status.st_ctime_ns
    return _sha256(path.absolute(), status.st_ino, status.st_size, *times)


@lru_cache(maxsize=1024)
def _sha256(path: Path, *_: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_json(content: Any) -> str:
    """SHA-256 of the compact canonical JSON form of ``content``, in hex."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


class Parts:
    """Finished units of long work, each a file that is whole or absent, so that a kill loses one.

    Several processes may share a folder, each writing units of its own; units of another
    ``identity``, which is JSON-able and says what the work depends on, are removed.
    """

    def __init__(self, folder: Path, identity: Any) -> None:
        self._root = folder
        self._folder = folder / sha256_json(identity)[:16]
        for other in folder.glob("*"):
            if other != self._folder:
                shutil.rmtree(other, ignore_errors=True)

    def __contains__(self, name: str) -> bool:
        return any((self._folder / f"{name}.{kind}").is_file() for kind in ("npy", "json"))

    def save(self, name: str, value: Any) -> None:
        """Store a unit: a numpy array as .npy, anything else as .json."""
        import numpy as np  # here, as most commands that read files need none

        if isinstance(value, np.ndarray):
            buffer = io.BytesIO()
            np.save(buffer, value, allow_pickle=False)
            atomic_write(self._folder / f"{name}.npy", buffer.getvalue())
        else:
            write_json(self._folder / f"{name}.json", value)

    def load(self, name: str) -> Any:
        """The unit of that name; BadInput if there is none, or its file is damaged."""
        import numpy as np

        array = self._folder / f"{name}.npy"
        if not array.is_file():
            return read_json(self._folder / f"{name}.json")
        return _read(array, "an array", lambda data: np.load(io.BytesIO(data), allow_pickle=False))

    def clear(self) -> None:
        """Remove all units, once what they make up is written."""
        shutil.rmtree(self._root, ignore_errors=True)
