"""Download and verify a data set: ``python -m vecaf_lib.datasets.fetch NAME [--data data]``.

Addresses, sizes and checksums are those of ``data/NAME.dvc`` and ``data/NAME_*.dvc``. A download
that broke off goes on where it stopped; archives that a loader cannot read as they are, are
unpacked beside the archive, which then may be deleted.
"""

import argparse
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from vecaf_lib.datasets._archive import unpack, verify
from vecaf_lib.datasets._download import download
from vecaf_lib.datasets._load import KNOWN
from vecaf_lib.errors import BadInput

NOTHING_TO_FETCH = {
    "digits": "digits come inside scikit-learn's package; there is nothing to fetch.",
    "folder": "folder reads images of your own; give their path in dataset.root.",
    "corrupted": "corrupted images are made from another data set; fetch that one.",
}


@dataclass(frozen=True)
class Published:
    """One file as its publisher describes it.

    Attributes:
        url: its address.
        path: where it goes on this machine.
        md5: in hex.
        size: in bytes; None: not known.
        folders: what is unpacked from it, into the folder where it lies; empty: nothing.
        inner: the archive within it that holds those folders; None: it holds them itself.
    """

    url: str
    path: Path
    md5: str
    size: int | None = None
    folders: tuple[str, ...] = ()
    inner: str | None = None


def fetch(name: str, data: Path) -> None:
    """Fetch all files of a data set that are not there yet, and say what was done.

    Args:
        name: a data set, or one part of it, such as ``imagenet_c_noise``.
        data: the project's data folder.

    Raises:
        BadInput: the name is unknown, a licence must be accepted by hand, the network or the
            server fails, the file is not the published one, or the disk is full.
    """
    if name == "imagenet":
        raise BadInput(
            "ImageNet is not downloaded, because its licence must be accepted by each user: "
            "register at image-net.org, download ILSVRC 2012, and put the folders train/ and val/, "
            f"with a folder of images a synset, into {data / 'raw' / name}, or give their place "
            "in dataset.root or in the environment variable VECAF_IMAGENET."
        )
    if name in NOTHING_TO_FETCH:
        print(NOTHING_TO_FETCH[name])
        return
    descriptions = sorted({*data.glob(f"{name}.dvc"), *data.glob(f"{name}_*.dvc")})
    if not descriptions:
        known = sorted({*KNOWN, *(path.stem for path in data.glob("*.dvc"))})
        raise BadInput(
            f"There is no {data / name}.dvc, so nothing is known of a data set {name!r}; known "
            f"are: {', '.join(known)}."
        )
    for description in descriptions:
        _fetch_one(read_description(description))


def _fetch_one(file: Published) -> None:
    folder = file.path.parent
    if file.folders and all((folder / name).is_dir() for name in file.folders):
        print(f"Already there: {', '.join(str(folder / name) for name in file.folders)}.")
        return
    if file.path.is_file():
        verify(file.path, md5=file.md5, size=file.size)
        print(f"Already there, and verified: {file.path}.")
    else:
        download(file.url, file.path, md5=file.md5, size=file.size)
        print(f"Downloaded and verified: {file.path}.")
    if file.folders:
        unpack(file.path, folder, file.folders, inner=file.inner)
        print(f"Unpacked into {folder}: {', '.join(file.folders)}.")


def read_description(path: Path) -> Published:
    """Read a file that ``dvc import-url`` could have written.

    Raises:
        BadInput: something is missing.
    """
    try:
        content: Mapping[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
        out = content["outs"][0]
        more = content.get("meta", {}).get("unpack", {})
        found = Published(
            url=content["deps"][0]["path"],
            path=path.parent / out["path"],
            md5=str(out["md5"]),
            size=out.get("size"),
            folders=tuple(more.get("folders", ())),
            inner=more.get("inner"),
        )
    except (KeyError, IndexError, TypeError, AttributeError, ValueError, yaml.YAMLError) as error:
        raise BadInput(
            f"{path} does not describe a download ({error!r}); it needs deps with a path (the "
            "address) and outs with a path and an md5."
        ) from error
    return found


def main() -> None:
    """Fetch what the command line names; one sentence instead of a traceback."""
    parser = argparse.ArgumentParser(description="Download and verify a data set.")
    parser.add_argument("name", help="such as cifar10, caltech101, imagenet_c, imagenet_c_noise")
    parser.add_argument("--data", type=Path, default=Path("data"), help="the data folder")
    arguments = parser.parse_args()
    try:
        fetch(arguments.name, arguments.data)
    except BadInput as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit("Stopped; what was downloaded is kept, and the same command goes on from there.")


if __name__ == "__main__":
    main()
