"""Captions while they are made: a file that only grows, and is valid after any stop.

The first line says how the captions are made; then a line an image, {"caption": ..., "id": ...}.
"""

import errno
import json
import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from vecaf_lib.captions.store import json_line
from vecaf_lib.errors import BadInput
from vecaf_lib.files import atomic_write

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Row(NamedTuple):
    """One image's caption; ``empty`` says that the captioner gave none."""

    id: str
    caption: str
    empty: bool = False


class Journal:
    """The captions in ``path`` that were made in the way of ``header``, by image id.

    What was made otherwise, or for images that are not asked for any more, is moved aside to
    ``<stem>.superseded.jsonl``; captions of the images that remain are kept.

    Args:
        path: JSON lines; made if it does not exist.
        header: what decides the captions, for JSON.
        ids: the images that are asked for.

    Raises:
        BadInput: the file is damaged elsewhere than at its end, or the disk is full.
    """

    rows: dict[str, Row]

    def __init__(self, path: Path, header: Mapping[str, Any], ids: Sequence[str]) -> None:
        self._path, self._header = path, dict(header)
        stored, self.rows, whole = _recover(path)
        asked = set(ids)
        kept = {id_: row for id_, row in self.rows.items() if id_ in asked}
        if stored is None:
            self._write([])
        elif stored != json.loads(json_line(self._header)):
            self.rows = {}
            self._supersede("were made in another way")
        elif len(kept) < len(self.rows):
            self.rows = kept
            self._supersede("include images that are not in the pool now")
        elif whole < path.stat().st_size:
            os.truncate(path, whole)

    def append(self, rows: Sequence[Row]) -> None:
        """Add captions, on disk when this returns; images that have one already are passed over.

        Raises:
            BadInput: the disk is full; what was stored before stays.
        """
        rows = [row for row in rows if row.id not in self.rows]
        lines = b"".join(_row_line(row) for row in rows)
        whole = self._path.stat().st_size
        handle = os.open(self._path, os.O_WRONLY | os.O_APPEND)
        try:
            rest = memoryview(lines)
            while rest:
                rest = rest[os.write(handle, rest) :]
            os.fsync(handle)
        except OSError as error:
            os.ftruncate(handle, whole)
            if error.errno in NO_ROOM:
                raise BadInput(
                    f"No room left on the disk that holds {self._path}: free some and repeat the "
                    f"command; the {len(self.rows)} captions made so far are kept."
                ) from error
            raise
        finally:
            os.close(handle)
        self.rows |= {row.id: row for row in rows}

    def finish(self, ids: Sequence[str]) -> None:
        """Write the captions of ``ids`` in that order: the same bytes however often it stopped."""
        self._write([self.rows[id_] for id_ in ids])

    def _write(self, rows: Sequence[Row]) -> None:
        lines = [json_line(self._header), *(_row_line(row) for row in rows)]
        data = b"".join(lines)
        if not self._path.is_file() or self._path.read_bytes() != data:
            atomic_write(self._path, data)

    def _supersede(self, why: str) -> None:
        aside = self._path.with_name(f"{self._path.stem}.superseded.jsonl")
        number = 2
        while aside.exists():
            aside = aside.with_name(f"{self._path.stem}.superseded-{number}.jsonl")
            number += 1
        self._path.rename(aside)
        warnings.warn(f"The captions in {self._path} {why}; moved to {aside.name}.", stacklevel=4)
        self._write(list(self.rows.values()))


def _recover(path: Path) -> tuple[dict[str, Any] | None, dict[str, Row], int]:
    """Header (None: nothing whole), captions, and the bytes they take; a cut last line is not."""
    try:
        lines = path.read_bytes().splitlines(keepends=True)
    except FileNotFoundError:
        return None, {}, 0
    parsed: list[dict[str, Any]] = []
    whole = 0
    for number, line in enumerate(lines, start=1):
        try:
            content = json.loads(line)
            if not line.endswith(b"\n") or not isinstance(content, dict):
                raise ValueError("not a whole line")
            if number > 1 and not all(isinstance(content[key], str) for key in ("id", "caption")):
                raise ValueError("its id and caption are not both text")
        except (ValueError, KeyError) as error:
            if number == len(lines):
                break  # the writer was stopped in it
            raise BadInput(
                f"{path} is damaged at line {number} ({error}); correct that line, or move the "
                "file away to caption all images anew."
            ) from error
        parsed.append(content)
        whole += len(line)
    rows: dict[str, Row] = {}
    for content in parsed[1:]:
        row = Row(content["id"], content["caption"], bool(content.get("empty")))
        rows.setdefault(row.id, row)
    return (parsed[0] if parsed else None), rows, whole


def _row_line(row: Row) -> bytes:
    return json_line(
        {"id": row.id, "caption": row.caption} | ({"empty": True} if row.empty else {})
    )
