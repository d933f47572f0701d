"""Where a data set's raw files lie on this machine, and what identifies them on any."""

import hashlib
import os
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

from vecaf_lib.errors import BadInput
from vecaf_lib.files import sha256_file

FETCHED = ("cifar10", "caltech101", "imagenet_c")
NOT_THE_DATA = (".part", ".bad", ".tar", ".zip", ".gz", ".tgz")  # beside the unpacked folders


def raw_data(name: str, root: str | None, data: Path) -> Path:
    """The file or folder that holds a data set's images.

    The first of these that is given: ``root``; the environment variable ``VECAF_<NAME>``; the
    folder ``raw/<name>`` of ``data``, where ``vecaf_lib.datasets.fetch`` puts what it downloads.

    Args:
        name: of the data set.
        root: ``dataset.root`` of the profile, which may begin with ``~``.
        data: the project's data folder.

    Raises:
        BadInput: there is nothing at that place; says how to get the data.
    """
    variable = variable_of(name)
    from_variable = os.environ.get(variable)
    if root:
        place, where = Path(root).expanduser(), "dataset.root"
    elif from_variable:
        place, where = Path(from_variable).expanduser(), f"the environment variable {variable}"
    else:
        place, where = data / "raw" / name, ""
    if place.exists():
        return place
    if where:
        raise BadInput(
            f"{where}: {place} does not exist; give the path of a local copy of {name}, or leave "
            f"it out and {_how_to_get(name, data)}."
        )
    raise BadInput(
        f"dataset.root: {name} is not at {place}; {_how_to_get(name, data)}, or give the path of "
        f"a local copy in dataset.root or in the environment variable {variable}."
    )


def variable_of(name: str) -> str:
    """The environment variable that may hold the path of a data set."""
    return f"VECAF_{name.upper()}"


def _how_to_get(name: str, data: Path) -> str:
    if name == "imagenet":
        return (
            "accept the licence at image-net.org, download the images there and put the folders "
            f"train/ and val/ into {data / 'raw' / name}"
        )
    if name in FETCHED:
        return f"run `make fetch DATASET={name}` where there is a network"
    return f"put the images into {data / 'raw' / name}"


def fingerprint(name: str, root: Path | None, index_dir: Path) -> dict[str, Any]:
    """What identifies a data set, wherever and whenever it was put on a machine.

    Files of a folder count by their relative path and size, which is cheap for a million images;
    hidden files, unfinished downloads and the archives that were unpacked there do not count.

    Args:
        name: of the data set.
        root: its raw data as ``raw_data`` finds them; None: it has none.
        index_dir: folder with its index files; need not exist.

    Returns:
        ``{"name", "raw": {"kind", "sha256", "files", "bytes"} | None, "index": {file: sha256}}``.
    """
    archive = getattr(import_module(f"vecaf_lib.datasets.{name}"), "ARCHIVE", None)
    if root is not None and archive and (root / archive).is_file():
        root = root / archive
    index = {path.name: sha256_file(path) for path in sorted(index_dir.glob("*.csv"))}
    return {"name": name, "raw": None if root is None else _identity(root), "index": index}


def _identity(root: Path) -> dict[str, Any]:
    if root.is_file():
        size = root.stat().st_size
        return {"kind": "file", "sha256": sha256_file(root), "files": 1, "bytes": size}
    files = sorted(_files(root, "", set()))
    lines = "".join(f"{path}, {size}\n" for path, size in files)
    return {
        "kind": "folder",
        "sha256": hashlib.sha256(lines.encode(errors="surrogateescape")).hexdigest(),
        "files": len(files),
        "bytes": sum(size for _, size in files),
    }


def _files(folder: Path, prefix: str, above: set[str]) -> Iterator[tuple[str, int]]:
    """Relative path and size of each file; links are followed, but not in a circle."""
    real = os.path.realpath(folder)
    if real in above:
        return
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                yield from _files(Path(entry.path), f"{prefix}{entry.name}/", above | {real})
            elif entry.is_file() and not (prefix == "" and entry.name.endswith(NOT_THE_DATA)):
                yield f"{prefix}{entry.name}", entry.stat().st_size
