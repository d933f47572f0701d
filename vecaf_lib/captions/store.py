"""Captions in a file: UTF-8 CSV with the header ``id,caption``, one row an image."""

import csv
import io
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from vecaf_lib.errors import BadInput
from vecaf_lib.files import atomic_write

HEADER = ["id", "caption"]


def read_captions(path: Path, ids: Sequence[str]) -> list[str]:
    """Read the captions of the images ``ids``, in that order, [n].

    Raises:
        BadInput: the file is missing, not UTF-8 or not such a table; an id stands twice or is
            unknown; a caption is missing or empty.
    """
    rows = _rows(path)
    _refuse(path, _repeated(id_ for id_, _ in rows), "has more than one caption for", "keep one")
    known = set(ids)
    unknown = [id_ for id_, _ in rows if id_ not in known]
    _refuse(path, unknown, "has captions for unknown", "remove them or correct the ids")
    captions = dict(rows)
    _refuse(path, [id_ for id_ in ids if id_ not in captions], "has no caption for", "add them")
    _refuse(path, _empty(rows), "has an empty caption for", "fill them in")
    return [captions[id_] for id_ in ids]


def write_captions(path: Path, ids: Sequence[str], captions: Sequence[str]) -> None:
    """Write one caption an image, whole or not at all.

    Raises:
        BadInput: there is not one non-empty caption for each id, or an id stands twice; nothing
            is written then.
    """
    if len(ids) != len(captions):
        raise BadInput(f"{path} needs one caption an image: got {len(captions)} for {len(ids)}.")
    rows = list(zip(ids, captions, strict=True))
    _refuse(path, _repeated(ids), "would get more than one caption for", "give one")
    _refuse(path, _empty(rows), "would get an empty caption for", "give some text")
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([HEADER, *rows])
    atomic_write(path, text.getvalue().encode())


def _rows(path: Path) -> list[tuple[str, str]]:
    try:
        text = path.read_bytes().decode("utf-8-sig")  # a byte order mark, as Excel writes, is fine
    except FileNotFoundError as error:
        raise BadInput(
            f"{path} is missing; it must hold a CSV with the header id,caption."
        ) from error
    except UnicodeDecodeError as error:
        raise BadInput(f"{path} is not UTF-8 text ({error}); save it as UTF-8.") from error
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header, *rows = [(reader.line_num, row) for row in reader if row] or [(1, [])]
    except csv.Error as error:
        raise BadInput(f"{path} is not a CSV file at line {reader.line_num} ({error}).") from error
    if header[1] != HEADER:
        found = ",".join(header[1]) or "nothing"
        raise BadInput(f"{path} has the header {found!r}; it must be id,caption.")
    for line, row in rows:
        if len(row) != len(HEADER):
            raise BadInput(
                f"{path} has {len(row)} fields at line {line}; there must be two, id and caption, "
                "with quotes round a caption that holds a comma."
            )
    return [(id_, caption) for _, (id_, caption) in rows]


def _repeated(ids: Iterable[str]) -> list[str]:
    return [id_ for id_, times in Counter(ids).items() if times > 1]


def _empty(rows: Iterable[tuple[str, str]]) -> list[str]:
    return [id_ for id_, caption in rows if not caption.strip()]


def _refuse(path: Path, ids: Sequence[str], problem: str, remedy: str) -> None:
    if ids:
        first = ", ".join(ids[:3]) + (", ..." if len(ids) > 3 else "")
        images = "image" if len(ids) == 1 else "images"
        raise BadInput(f"{path} {problem} {len(ids)} {images} ({first}); {remedy}.")
