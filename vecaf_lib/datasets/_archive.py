"""Downloaded archives: checked as a whole, then unpacked without trusting what is in them."""

import errno
import gzip
import hashlib
import lzma
import shutil
import stat
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from vecaf_lib.errors import BadInput

DAMAGED = (
    tarfile.TarError,
    zipfile.BadZipFile,
    gzip.BadGzipFile,
    EOFError,
    zlib.error,
    lzma.LZMAError,
)


def md5_file(path: Path) -> str:
    """MD5 of a file's bytes, in hex: what the publishers of the archives give."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def difference(path: Path, *, md5: str, size: int | None = None) -> str | None:
    """How a file differs from the published one, as the end of a sentence; None: it does not."""
    found = path.stat().st_size
    if size is not None and found != size:
        state = "truncated" if found < size else "another file"
        return f"has {found:,} bytes where the published file has {size:,}: it is {state}"
    if (digest := md5_file(path)) != md5:
        return f"has the MD5 {digest} where the published file has {md5}: it is damaged"
    return None


def verify(path: Path, *, md5: str, size: int | None = None) -> None:
    """Make sure that a file is the published one.

    Args:
        path: the file.
        md5: the published MD5, in hex.
        size: the published size in bytes, if it is known.

    Raises:
        BadInput: the file has another size or checksum.
    """
    if wrong := difference(path, md5=md5, size=size):
        raise BadInput(f"{path} {wrong}; remove it and fetch it again.")


def unpack(archive: Path, folder: Path, names: Sequence[str], *, inner: str | None = None) -> None:
    """Unpack a verified tar or zip: each of ``names`` appears in ``folder`` whole, or not at all.

    Args:
        archive: a .zip, or a .tar with or without compression.
        folder: where to; what is already there under one of ``names`` is kept as it is.
        names: the folders at the top of the archive that are wanted.
        inner: the wanted folders are in an archive within the archive, which has this path.

    Raises:
        BadInput: the archive is damaged or truncated, lacks a wanted folder, or holds a link, a
            device or a path that leads outside; or the disk is full. Nothing is left behind.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".unpacking-") as name:
        scratch = Path(name)
        with _sentences(archive):
            source = archive
            if inner is not None:
                _extract(archive, scratch / "outer", lambda member: member == inner)
                source = scratch / "outer" / inner
                if not source.is_file():
                    raise BadInput(f"{archive} holds no {inner}; it is another archive.")
            _extract(source, scratch / "all", lambda member: member.split("/")[0] in names)
        for wanted in names:
            if not (scratch / "all" / wanted).is_dir():
                raise BadInput(f"{archive} holds no folder {wanted}; it is another archive.")
        for wanted in names:
            if not (folder / wanted).exists():
                (scratch / "all" / wanted).rename(folder / wanted)


@contextmanager
def _sentences(archive: Path) -> Iterator[None]:
    try:
        yield
    except DAMAGED as error:
        raise BadInput(f"{archive} is damaged or truncated ({error}).") from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise BadInput(
                f"No room left on the disk to unpack {archive}; free some and repeat the command."
            ) from error
        raise


def _extract(archive: Path, folder: Path, wanted: Callable[[str], bool]) -> None:
    folder.mkdir()
    if zipfile.is_zipfile(archive):
        _extract_zip(archive, folder, wanted)
    else:
        _extract_tar(archive, folder, wanted)


def _extract_tar(archive: Path, folder: Path, wanted: Callable[[str], bool]) -> None:
    with tarfile.open(archive) as tar:
        for member in tar:
            name = _safe(archive, member.name)
            if not (member.isreg() or member.isdir()):
                kind = "a link" if member.issym() or member.islnk() else "a device"
                raise BadInput(f"{archive} holds {kind} ({member.name}); it is not unpacked.")
            if wanted(name):
                tar.extract(member, folder, filter="data")


def _extract_zip(archive: Path, folder: Path, wanted: Callable[[str], bool]) -> None:
    with zipfile.ZipFile(archive) as bundle:
        for member in bundle.infolist():
            name = _safe(archive, member.filename)
            mode = stat.S_IFMT(member.external_attr >> 16)  # 0: not made on Unix
            if mode not in (0, stat.S_IFREG, stat.S_IFDIR):
                kind = "a link" if mode == stat.S_IFLNK else "a device"
                raise BadInput(f"{archive} holds {kind} ({member.filename}); it is not unpacked.")
            if member.flag_bits & 0x1:
                raise BadInput(f"{archive} is encrypted ({member.filename}); it is not unpacked.")
            if not wanted(name):
                continue
            target = folder / name
            if member.is_dir():
                target.mkdir(parents=True, exist_ok=True)
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            with bundle.open(member) as source, target.open("wb") as file:
                shutil.copyfileobj(source, file, 1 << 20)


def _safe(archive: Path, name: str) -> str:
    """The name without ``./`` and a closing slash, or BadInput if it could lead outside."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name:
        raise BadInput(f"{archive} holds a path that leads outside ({name}); it is not unpacked.")
    return path.as_posix()


def read_members(archive: Path, names: Sequence[str]) -> dict[str, bytes]:
    """Contents of some files of a verified tar, read into memory without unpacking anything.

    Raises:
        BadInput: the archive is damaged, or one of them is not in it as a plain file.
    """
    found: dict[str, bytes] = {}
    with _sentences(archive), tarfile.open(archive) as tar:
        for member in tar:
            if member.name in names and member.isreg():
                file: Any = tar.extractfile(member)
                found[member.name] = file.read()
    if missing := [name for name in names if name not in found]:
        raise BadInput(f"{archive} holds no {missing[0]}; it is another archive.")
    return found
