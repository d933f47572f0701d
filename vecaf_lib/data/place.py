"""Where the images of a data set lie, and what identifies them on any machine; needs no torch."""

import hashlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from vecaf_lib.errors import BadInput
from vecaf_lib.files import sha256_file

KNOWN = ("digits", "cifar10", "caltech101", "imagenet", "imagenet_c", "folder", "corrupted")
IN_FILES = ("cifar10", "caltech101", "imagenet", "imagenet_c", "folder")  # with raw data
ARCHIVES = {"cifar10": "cifar-10-python.tar.gz"}  # read as they are
BESIDE_THE_DATA = (".part", ".tar", ".zip", ".gz", ".tgz")  # downloads next to unpacked folders


def raw_data(name: str, root: str | None, data: Path) -> Path:
    """The file or folder that holds a data set's images.

    The first of these that is given: ``root``, which may begin with ``~``; the environment variable
    ``VECAF_<NAME>``; the folder ``raw/<name>`` of ``data``, where ``fetch`` puts what it downloads.
    """
    variable = f"VECAF_{name.upper()}"
    place = Path(root or os.environ.get(variable) or data / "raw" / name).expanduser()
    if place.exists():
        return place
    way = {
        "imagenet": "accept the licence at image-net.org and put its train/ and val/ there",
        "folder": "put the images there",
    }.get(name, f"run `make fetch DATASET={name}` where there is a network")
    raise BadInput(
        f"dataset.root: {name} is not at {place}; {way}, or give the path of a local copy in "
        f"dataset.root or in the environment variable {variable}."
    )


def identify(name: str, *, data: Path, root: str | None, options: Mapping[str, Any]) -> Any:
    """What identifies a data set's images, wherever and whenever they were put on a machine.

    Files of a folder count by their relative path and size, which is cheap for a million images;
    hidden files, unfinished downloads and the archives that were unpacked there do not count. A set
    made from another (``options["of"]``) is identified by that one's images.

    Returns:
        ``{"name", "raw": {"kind", "sha256", "files", "bytes"} | None, "index": {file: sha256}}``.
    """
    name = options.get("of", name)
    index = {path.name: sha256_file(path) for path in sorted((data / name).glob("*.csv"))}
    if name not in IN_FILES:
        return {"name": name, "raw": None, "index": index}
    place = raw_data(name, root, data)
    if name in ARCHIVES and (place / ARCHIVES[name]).is_file():
        place = place / ARCHIVES[name]
    if place.is_file():
        kind, sizes, digest = "file", {"": place.stat().st_size}, sha256_file(place)
    else:
        files = [f for f in files_below(place) if "/" in f or not f.endswith(BESIDE_THE_DATA)]
        sizes = {file: os.stat(f"{place}/{file}").st_size for file in sorted(files)}  # noqa: PTH116
        lines = "".join(f"{path}, {size}\n" for path, size in sizes.items())
        kind, digest = "folder", hashlib.sha256(lines.encode(errors="surrogateescape")).hexdigest()
    raw = {"kind": kind, "sha256": digest, "files": len(sizes), "bytes": sum(sizes.values())}
    return {"name": name, "raw": raw, "index": index}


def files_below(folder: Path | str, prefix: str = "", *above: str) -> Iterator[str]:
    """Relative path of each file that is not hidden; links are followed, but not in a circle."""
    real = os.path.realpath(folder)
    for entry in os.scandir(folder) if real not in above else ():
        if entry.is_dir() and not entry.name.startswith("."):
            yield from files_below(entry.path, f"{prefix}{entry.name}/", *above, real)
        elif entry.is_file() and not entry.name.startswith("."):
            yield prefix + entry.name
