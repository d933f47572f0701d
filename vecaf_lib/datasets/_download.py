"""Download a file of known checksum, in as many attempts as it takes."""

import errno
import fcntl
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import requests
from tqdm import tqdm

from vecaf_lib.datasets._archive import difference
from vecaf_lib.errors import BadInput

CHUNK = 1 << 20  # bytes
ATTEMPTS = 4  # in a row without a single new byte
PAUSE = 2.0  # seconds before another attempt
TIMEOUT = (15, 60)  # seconds to connect, and between two chunks
BUSY = (429, 500, 502, 503, 504)  # answers that pass
BROKEN = (
    requests.exceptions.ConnectionError,
    requests.exceptions.Timeout,
    requests.exceptions.ChunkedEncodingError,
)


def download(url: str, path: Path, *, md5: str, size: int | None = None) -> None:
    """Download ``url`` to ``path``, which appears only when it is whole and verified.

    What has come so far is in ``<path>.part``; a later call goes on from there, if the server
    can send a part of a file, and otherwise starts again.

    Args:
        url: http or https.
        path: where the file goes.
        md5: its published MD5, in hex.
        size: its published size in bytes, if it is known.

    Raises:
        BadInput: no network, an answer that is not the file, the wrong bytes (kept as
            ``<path>.bad``, never used), no room on the disk, or another download of the same
            file is under way.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    with _only_one(part) as file:
        _fill(url, file, part, size)
        file.flush()
        if wrong := difference(part, md5=md5, size=size):
            bad = part.replace(path.with_name(f"{path.name}.bad"))
            raise BadInput(
                f"What {url} sent {wrong}; it is kept aside as {bad} and not used, and the same "
                "command downloads it anew."
            )
        part.replace(path)


@contextmanager
def _only_one(part: Path) -> Iterator[IO[bytes]]:
    with open_part(part) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BadInput(f"{part} is being downloaded by another process.") from error
        try:
            yield file
        finally:
            if part.exists() and part.stat().st_size == 0:
                part.unlink()


def open_part(part: Path) -> IO[bytes]:
    """Open for appending; unbuffered, so that a full disk is met where it is asked for."""
    return part.open("ab", buffering=0)


def _fill(url: str, file: IO[bytes], part: Path, size: int | None) -> None:
    """Append to the part until the server has no more to send."""
    idle = 0
    while True:
        before = file.tell()
        if size is not None and before == size:
            return
        if size is not None and before > size:
            before = _emptied(file)
        try:
            _receive(url, file, part, size)
            return
        except BROKEN as error:
            file.flush()
            came = file.tell()
            idle = idle + 1 if came <= before else 0
            if idle >= ATTEMPTS:
                of = f" of {size:,}" if size is not None else ""
                raise BadInput(
                    f"{url} could not be reached, or the connection broke off, at byte "
                    f"{came:,}{of} ({type(error).__name__}); what has come is kept in {part}, and "
                    "the same command goes on from there when there is a network."
                ) from error
            time.sleep(PAUSE)
        except requests.exceptions.RequestException as error:
            raise BadInput(f"{url} cannot be downloaded ({error}).") from error


def _emptied(file: IO[bytes]) -> int:
    file.truncate(0)
    return file.seek(0)


def _receive(url: str, file: IO[bytes], part: Path, size: int | None) -> None:
    """One request; new bytes are appended to ``file``.

    Raises:
        requests.exceptions.RequestException: the connection failed or broke off.
    """
    start = file.tell()
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={start}-"} if start else {})
    with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as answer:
        if answer.status_code == requests.codes.requested_range_not_satisfiable:
            _emptied(file)  # the part is no beginning of this file
            raise requests.exceptions.ConnectionError("the range was refused")
        if answer.status_code in BUSY:
            raise requests.exceptions.ConnectionError(f"{url} answers {answer.status_code}")
        if not answer.ok:
            raise BadInput(
                f"{url} answers {answer.status_code} {answer.reason}; look at the address in a "
                f"browser, or get the file elsewhere and put it at {str(part)[:-5]}."
            )
        if start and answer.status_code != requests.codes.partial_content:
            start = _emptied(file)  # the server sends the whole file
        if _first_byte(answer) != start:
            _emptied(file)
            raise requests.exceptions.ConnectionError("another range came than was asked for")
        coming = int(answer.headers.get("Content-Length", 0)) or None
        if size is not None and coming is not None and start + coming != size:
            raise BadInput(
                f"{url} offers {start + coming:,} bytes, but the published file has {size:,}; the "
                f"address may have changed: get the file elsewhere and put it at {str(part)[:-5]}."
            )
        total = size if size is not None else coming and start + coming
        _check_room(part, (total or start) - start)
        with tqdm(total=total, initial=start, unit="B", unit_scale=True, desc=part.stem) as bar:
            for chunk in answer.iter_content(CHUNK):
                _write(file, chunk, part)
                bar.update(len(chunk))


def _first_byte(answer: requests.Response) -> int:
    """Place in the file of the first byte of the answer."""
    if answer.status_code != requests.codes.partial_content:
        return 0
    found = re.match(r"bytes (\d+)-", answer.headers.get("Content-Range", ""))
    return int(found[1]) if found else -1


def _check_room(part: Path, needed: int) -> None:
    if (free := shutil.disk_usage(part.parent).free) < needed:
        raise BadInput(
            f"No room on the disk that holds {part}: {needed:,} bytes are still to come, and "
            f"{free:,} are free; what has come is kept."
        )


def _write(file: IO[bytes], chunk: bytes, part: Path) -> None:
    try:
        file.write(chunk)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise BadInput(
                f"No room left on the disk that holds {part}; free some and repeat the command, "
                "which goes on from there."
            ) from error
        raise
