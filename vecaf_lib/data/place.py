"""Where the images of a data set lie, and what identifies them on any machine; needs no torch."""

import os
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

from vecaf_lib.errors import BadInput
from vecaf_lib.files import read_json, sha256_file, sha256_json, write_json

KNOWN = ("digits", "cifar10", "caltech101", "imagenet", "imagenet_c", "folder", "corrupted")
IN_FILES = ("cifar10", "caltech101", "imagenet", "imagenet_c", "folder")  # with raw data
ARCHIVES = {"cifar10": "cifar-10-python.tar.gz"}  # read as they are
BESIDE_THE_DATA = (".part", ".tar", ".zip", ".gz", ".tgz")  # downloads next to unpacked folders
SYSTEM = (  # what systems leave in folders, besides hidden names; in small letters
    *("thumbs.db", "ehthumbs.db", "desktop.ini", "$recycle.bin", "system volume information"),
    *("__macosx", "@eadir", "#recycle", "lost+found"),
)
nfc = partial(unicodedata.normalize, "NFC")  # macOS may take a letter with an accent apart


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

    Files of a folder count by their relative path and content, which is read again only where a
    size or time has changed since; hidden and system files, unfinished downloads and the archives
    that were unpacked there do not count. A set made from another (``options["of"]``) is identified
    by that one's images.

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
        raw = {"kind": "file", "sha256": sha256_file(place), "files": 1}
        raw |= {"bytes": place.stat().st_size}
    else:
        files = [f for f in files_below(place) if "/" in f or not f.endswith(BESIDE_THE_DATA)]
        cache = data / "generated" / "digests" / f"{sha256_json(str(place.absolute()))[:16]}.json"
        raw = {"kind": "folder", **_contents(place, files, cache)}
    return {"name": name, "raw": raw, "index": index}


def _contents(place: Path, files: Iterable[str], cache: Path) -> dict[str, Any]:
    """One SHA-256 of all files; ``cache`` keeps each folder's, by its files' sizes and times."""
    before = read_json(cache) if cache.is_file() else {}
    digests, sizes = dict[str, str](), list[int]()
    by_folder = sorted((file.rpartition("/")[0], file) for file in files)
    with ThreadPoolExecutor() as threads:
        for _, group in groupby(by_folder, lambda pair: pair[0]):
            own = [file for _, file in group]
            found = [os.stat(f"{place}/{file}") for file in own]  # noqa: PTH116
            sizes += [each.st_size for each in found]
            times = [(each.st_size, each.st_mtime_ns, each.st_ctime_ns) for each in found]
            if (state := sha256_json([own, times])) not in before:
                contents = threads.map(sha256_file, map(place.joinpath, own))
                before[state] = sha256_json(sorted(zip(map(nfc, own), contents, strict=True)))
            digests[state] = before[state]
    write_json(cache, digests)
    return {
        "sha256": sha256_json(sorted(digests.values())),
        "files": len(sizes),
        "bytes": sum(sizes),
    }


def visible(folder: Path | str) -> Iterator[os.DirEntry[str]]:
    """What lies in a folder, without hidden and system files; BadInput for a link to nowhere."""
    if not Path(folder).is_dir():
        raise BadInput(f"{folder} is no folder; it should hold a folder for each class of images.")
    for entry in os.scandir(folder):
        if entry.name.startswith(".") or entry.name.lower() in SYSTEM:
            continue
        if entry.is_symlink() and not os.path.exists(entry.path):  # noqa: PTH110
            raise BadInput(f"{entry.path} is a link to nowhere; mend or remove it.")
        yield entry


def files_below(folder: Path | str, prefix: str = "", *above: str) -> Iterator[str]:
    """Relative path of each ``visible`` file; links are followed, but not in a circle."""
    real = os.path.realpath(folder)
    for entry in visible(folder) if real not in above else ():
        if entry.is_dir():
            yield from files_below(entry.path, f"{prefix}{entry.name}/", *above, real)
        elif entry.is_file():
            yield prefix + entry.name
