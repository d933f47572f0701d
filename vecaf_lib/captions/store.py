"""Captions in a file: CSV with the header ``id,caption``, or JSON lines, both UTF-8."""

import csv
import io
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from vecaf_lib.errors import BadInput
from vecaf_lib.files import atomic_write

HEADER = ["id", "caption"]
FORMS = (
    'a CSV with the header id,caption, or a .jsonl with a line {"id": ..., "caption": ...} an image'
)


def read_captions(path: Path, ids: Sequence[str]) -> list[str]:
    """Read the captions of the images ``ids``, in that order, [n].

    A CSV has the header ``id,caption`` and one row an image. A ``.jsonl`` has one object an image
    with at least ``id`` and ``caption``, with or without the first line that ``caption_all``
    writes, {"captions": ...}.

    Raises:
        BadInput: the file is missing, not UTF-8 or not such a table; an id stands twice or is
            unknown; a caption is missing or empty.
    """
    rows = _json_rows(path) if path.suffix == ".jsonl" else _csv_rows(path)
    _refuse(path, _repeated(id_ for id_, _ in rows), "has more than one caption for", "keep one")
    known = set(ids)
    unknown = [id_ for id_, _ in rows if id_ not in known]
    _refuse(path, unknown, "has captions for unknown", "remove them or correct the ids")
    captions = dict(rows)
    _refuse(path, [id_ for id_ in ids if id_ not in captions], "has no caption for", "add them")
    _refuse(path, _empty(rows), "has an empty caption for", "fill them in")
    return [captions[id_] for id_ in ids]


def write_captions(
    path: Path, ids: Sequence[str], captions: Sequence[str], *, record: Mapping[str, Any]
) -> None:
    """Write one caption an image as JSON lines, after a first line {"captions": record}.

    Raises:
        BadInput: there is not one non-empty caption for each id, or an id stands twice; nothing
            is written then.
    """
    if len(ids) != len(captions):
        raise BadInput(f"{path} needs one caption an image: got {len(captions)} for {len(ids)}.")
    rows = list(zip(ids, captions, strict=True))
    _refuse(path, _repeated(ids), "would get more than one caption for", "give one")
    _refuse(path, _empty(rows), "would get an empty caption for", "give some text")
    lines = [json_line({"captions": record})]
    lines += [json_line({"id": id_, "caption": caption}) for id_, caption in rows]
    atomic_write(path, b"".join(lines))


def json_line(content: Mapping[str, Any]) -> bytes:
    """One line of JSON, so that equal content is equal bytes."""
    text = json.dumps(content, sort_keys=True, ensure_ascii=False, allow_nan=False)
    try:
        return f"{text}\n".encode()
    except UnicodeEncodeError:  # the id of a file whose name is not UTF-8
        return f"{json.dumps(content, sort_keys=True, allow_nan=False)}\n".encode()


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")  # a byte order mark, as Excel writes, is fine
    except (FileNotFoundError, IsADirectoryError) as error:
        raise BadInput(f"{path} is missing or no file; it must be {FORMS}.") from error
    except UnicodeDecodeError as error:
        raise BadInput(f"{path} is not UTF-8 text ({error}); save it as UTF-8.") from error


def _csv_rows(path: Path) -> list[tuple[str, str]]:
    reader = csv.reader(io.StringIO(_text(path), newline=""), strict=True)
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


def _json_rows(path: Path) -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    for number, line in enumerate(_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            content: Any = json.loads(line)
        except json.JSONDecodeError as error:
            raise BadInput(f"{path} is not JSON at line {number} ({error.msg}).") from error
        if number == 1 and isinstance(content, dict) and "captions" in content:
            continue  # how they were made
        row = content if isinstance(content, dict) else {}
        id_, caption = row.get("id"), row.get("caption")
        if not isinstance(id_, str) or not isinstance(caption, str):
            raise BadInput(
                f"{path} has no id and caption at line {number}; it must read "
                '{"id": "...", "caption": "..."}.'
            )
        rows.append((id_, caption))
    return rows


def _repeated(ids: Iterable[str]) -> list[str]:
    return [id_ for id_, times in Counter(ids).items() if times > 1]


def _empty(rows: Iterable[tuple[str, str]]) -> list[str]:
    return [id_ for id_, caption in rows if not caption.strip()]


def _refuse(path: Path, ids: Sequence[str], problem: str, remedy: str) -> None:
    if ids:
        first = ", ".join(ids[:3]) + (", ..." if len(ids) > 3 else "")
        images = "image" if len(ids) == 1 else "images"
        raise BadInput(f"{path} {problem} {len(ids)} {images} ({first}); {remedy}.")
