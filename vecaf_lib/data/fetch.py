"""Download, verify and unpack a published data set.

Addresses, sizes and checksums are those of ``data/NAME.dvc`` and ``data/NAME_*.dvc``. pooch
downloads and verifies; going on where a download broke off is ours, as archives have up to 22 GB.
shutil and the backport of tarfile unpack, as the oldest Python 3.11 has no filter for untrusted
data.
"""

import os
import shutil
import tempfile
import time
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pooch
import requests
import yaml
from backports import tarfile

from vecaf_lib.data.place import KNOWN, raw_data
from vecaf_lib.errors import BadInput, did_you_mean
from vecaf_lib.files import disk_room

CHUNK = 1 << 20  # bytes
ATTEMPTS = 4  # in a row without a single new byte
PAUSE = 2.0  # seconds before another attempt


def fetch(name: str, data: Path) -> None:
    """Fetch the files of a data set, or of a part such as ``imagenet_c_noise``, not there yet."""
    if name == "imagenet":
        raw_data(name, None, data)
    descriptions = sorted({*data.glob(f"{name}.dvc"), *data.glob(f"{name}_*.dvc")})
    if name in ("imagenet", "digits", "folder", "corrupted"):
        print(f"The data set {name} has nothing to fetch.")
        return
    if not descriptions:
        names = sorted({*KNOWN, *(path.stem for path in data.glob("*.dvc"))})
        raise BadInput(f"There is no {data / name}.dvc; {did_you_mean(name, names)}.")
    for description in descriptions:
        content = yaml.safe_load(description.read_text(encoding="utf-8"))
        url, out = content["deps"][0]["path"], content["outs"][0]
        unpacking = content.get("meta", {}).get("unpack", {})
        archive = data / out["path"]
        folders = [archive.parent / folder for folder in unpacking.get("folders", ())]
        if not folders or not all(folder.is_dir() for folder in folders):
            if archive.is_file():
                verify(archive, out["md5"])
            else:
                download(url, archive, out["md5"], out["size"])
            if folders:
                unpack(archive, unpacking["folders"], unpacking.get("inner"))
        print(f"There and verified: {', '.join(map(str, folders or [archive]))}.")


def verify(path: Path, md5: str) -> None:
    """Refuse a file that is missing or is not the published one."""
    other = pooch.file_hash(str(path), alg="md5") if path.is_file() else "of no file"
    if other != md5:
        raise BadInput(
            f"{path} has the MD5 {other} where the published file has {md5}: it is missing or "
            "damaged; remove it and fetch or unpack it again."
        )


def download(url: str, path: Path, md5: str, size: int) -> None:
    """Download to ``path``, whole and verified; go on where ``<path>.part`` ends, if one can."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part, idle = path.with_name(f"{path.name}.part"), 0

    def restart(answer: requests.Response, *_: Any, **__: Any) -> None:
        if answer.status_code in (200, 416):  # the whole file comes, or the part is too long
            os.truncate(part, 0)

    with part.open("ab", buffering=0) as stream, disk_room(part, size - part.stat().st_size):
        while (start := part.stat().st_size) != size:
            server = pooch.HTTPDownloader(
                progressbar=True,
                chunk_size=CHUNK,
                timeout=(15, 60),  # seconds to connect, and between two chunks
                hooks={"response": restart},
                headers={"Accept-Encoding": "identity", "Range": f"bytes={start}-"},
            )
            try:
                server(url, stream, None)
                break
            except requests.exceptions.RequestException as error:
                idle = 0 if part.stat().st_size > start else idle + 1
                if idle >= ATTEMPTS:
                    raise BadInput(
                        f"{url} broke off or could not be reached ({error}). The same command goes "
                        f"on after {part.stat().st_size:,} of {size:,} bytes; or put it at {path}."
                    ) from error
                time.sleep(PAUSE)
    try:
        verify(part, md5)
    except BadInput:
        part.unlink()
        raise
    part.replace(path)


def unpack(archive: Path, folders: Sequence[str], inner: str | None = None) -> None:
    """Unpack ``folders`` of a tar or zip, or of the archive ``inner`` in it, beside it.

    Each appears whole, or not at all; one that is there already is kept as it is.
    """
    with tempfile.TemporaryDirectory(dir=archive.parent, prefix=".unpacking-") as name:
        scratch = Path(name)
        try:
            with disk_room(archive):
                for file in (archive, scratch / inner) if inner else (archive,):
                    if zipfile.is_zipfile(file):  # leaves out what would lead outside
                        shutil.unpack_archive(file, scratch, "zip")
                    else:
                        with tarfile.open(file) as tar:
                            tar.extractall(scratch, filter="data")
        except BadInput:
            raise
        except Exception as error:  # a damaged archive can fail in any way
            raise BadInput(f"{archive} is damaged or not to be trusted ({error}).") from error
        if missing := [folder for folder in folders if not (scratch / folder).is_dir()]:
            raise BadInput(f"{archive} holds no folder {missing[0]}; it is another archive.")
        for folder in folders:
            if not (archive.parent / folder).exists():
                (scratch / folder).rename(archive.parent / folder)
