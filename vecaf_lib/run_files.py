"""Run files: JSON in gzip, as most of one is names of chosen images. ``zcat FILE`` prints one."""

import gzip
import json
import zlib
from pathlib import Path
from typing import Any

from vecaf_lib.errors import BadInput
from vecaf_lib.files import atomic_write

SUFFIX = ".json.gz"


def write_run(path: Path, content: Any) -> None:
    """Write a run file whole or not at all; equal content is equal bytes.

    Raises:
        BadInput: the disk is full.
    """
    text = json.dumps(content, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False)
    atomic_write(path, gzip.compress(f"{text}\n".encode(), mtime=0))


def read_run(path: Path) -> Any:
    """Read a run file.

    Raises:
        BadInput: it is missing, cut off, or is not JSON in gzip.
    """
    try:
        return json.loads(gzip.decompress(path.read_bytes()))
    except FileNotFoundError as error:
        raise BadInput(f"{path} is missing; `dvc repro` makes it.") from error
    except (gzip.BadGzipFile, EOFError, zlib.error, ValueError) as error:  # ValueError: no JSON
        raise BadInput(
            f"{path} is not readable as JSON in gzip ({error}); delete it and `dvc repro` makes "
            "it again."
        ) from error
