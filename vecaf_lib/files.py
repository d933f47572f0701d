"""Files that are either whole or absent: atomic writes, canonical JSON and checksums."""

import errno
import hashlib
import json
import os
import re
import tempfile
from pathlib import Path
from typing import Any

from vecaf_lib.errors import BadInput

_PLAIN_LIST = re.compile(r"\[\n *([^\[\]{}]*?)\n *\]")  # none of whose parts has a bracket


def atomic_write(path: Path, data: bytes) -> None:
    """Write ``data`` to ``path`` so that a crash leaves the old file or the new one, never a part.

    Raises:
        BadInput: the disk is full; the unfinished copy is removed, all else is kept.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except OSError as error:
        Path(name).unlink(missing_ok=True)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise BadInput(
                f"No room left on the disk that holds {path}: free at least {len(data)} bytes "
                "and repeat the command; finished work is kept."
            ) from error
        raise


def write_json(path: Path, content: Any) -> None:
    """Write canonical JSON (sorted keys, no NaN), so that equal content is equal bytes.

    A list of plain values takes one line.
    """
    text = json.dumps(content, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False)
    # No string of JSON holds a line break, so that those found here part values.
    text = _PLAIN_LIST.sub(lambda found: "[" + re.sub(r"\n *", " ", found[1]) + "]", text)
    atomic_write(path, (text + "\n").encode())


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        BadInput: the file is missing or is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise BadInput(f"{path} is missing; `dvc repro` makes it.") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise BadInput(
            f"{path} is not readable JSON ({error}); delete it and `dvc repro` makes it again."
        ) from error


def sha256_file(path: Path) -> str:
    """SHA-256 of a file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_json(content: Any) -> str:
    """SHA-256 of the compact canonical JSON form of ``content``, in hex."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
