"""Files are whole or absent, also where the disk is full or a process is killed."""

import errno
import gzip
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.names import HOSTILE
from vecaf_lib import files
from vecaf_lib.errors import BadInput
from vecaf_lib.files import (
    Parts,
    atomic_write,
    disk_room,
    file_name,
    read_json,
    read_run,
    sha256_file,
    sha256_json,
    write_json,
    write_run,
)

ROOT = Path(__file__).parents[1]


@given(st.sets(st.text()))
@example({*HOSTILE, "", ".", "..", "a/b", "a" * 200, "a" * 201, "\udce9", "sea_horse"})
def test_texts_and_names_are_one_to_one_on_any_disk(texts: set[str]) -> None:
    names = {file_name(text).casefold() for text in texts}
    assert len(names) == len(texts)
    assert all(re.fullmatch(r"[a-z0-9_.~-]{1,100}", name) for name in names)
    assert not any(name.startswith(".") for name in names)


@given(st.from_regex(r"[a-z0-9_-]{1,80}", fullmatch=True))
def test_an_ordinary_text_is_its_own_name(text: str) -> None:
    assert file_name(text) == text


@pytest.mark.parametrize(
    ("number", "kind"), [(errno.EIO, OSError), (errno.ENOSPC, BadInput)], ids=["unplugged", "full"]
)
def test_a_write_replaces_the_whole_file_or_keeps_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, kind: type[Exception]
) -> None:
    path = tmp_path / "new folder" / "file.bin"
    atomic_write(path, b"first, which is longer")
    atomic_write(path, b"second")

    def crash(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", crash)
    with pytest.raises(kind, match=re.escape(str(path)) if kind is BadInput else "error"):
        atomic_write(path, b"third")
    assert path.read_bytes() == b"second"
    assert list(path.parent.iterdir()) == [path]
    room = disk_room(tmp_path / "other folder" / "file", 10**18)
    with pytest.raises(BadInput, match=r"No room left .*needs 1,000,\S* bytes"), room:
        raise AssertionError("nothing is written")


@pytest.mark.parametrize(
    ("write", "read"), [(write_json, read_json), (write_run, read_run)], ids=["json", "run"]
)
def test_equal_content_is_equal_bytes(
    tmp_path: Path, write: Callable[..., None], read: Callable[..., Any]
) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    write(one, {"b": [1], "a": "é"})
    write(other, {"a": "é", "b": [1]})
    assert one.read_bytes() == other.read_bytes()
    assert read(one) == {"a": "é", "b": [1]}
    assert sha256_json({"b": 1, "a": 2}) == sha256_json({"a": 2, "b": 1})
    with pytest.raises(ValueError, match="JSON compliant"):
        write(one, float("nan"))
    content = {"ids": ["a, \n [b", "c] {\\n "], "rows": [[1, 2.5], [None, True]], "none": []}
    write(one, content)
    assert read(one) == content
    if write is write_json:  # lists of plain values take one line
        assert "  [1, 2.5]," in one.read_text().splitlines()


@pytest.mark.parametrize(
    "content",
    [None, b'{"half": ', b"\xff\xfe", gzip.compress(b"{}", mtime=0)[:-9]],
    ids=["absent", "half", "no text", "cut gzip"],
)
def test_what_cannot_be_read_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "run.json.gz"
    if content is not None:
        path.write_bytes(content)
    for read in (read_json, read_run):
        with pytest.raises(BadInput, match=r"run\.json\.gz is .*dvc repro"):
            read(path)


def test_a_checksum_is_computed_once_and_follows_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, digested, real = tmp_path / "f", [], files.hashlib.file_digest
    monkeypatch.setattr(files.hashlib, "file_digest", lambda *a: digested.append(a) or real(*a))
    digests = []
    for content in (b"one", b"three"):
        path.write_bytes(content)
        digests += [sha256_file(path), sha256_file(path)]
    assert len(set(digests)) == len(digested) == 2


def test_parts_are_kept_by_name_and_by_what_they_depend_on(tmp_path: Path) -> None:
    parts = Parts(tmp_path / "parts", {"model": "a"})
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    parts.save("0", array)
    parts.save("1", ["größe", ""])
    again = Parts(tmp_path / "parts", {"model": "a"})
    assert [name in again for name in ("0", "1", "2")] == [True, True, False]
    assert np.array_equal(again.load("0"), array)
    assert again.load("0").dtype == array.dtype
    assert again.load("1") == ["größe", ""]
    with pytest.raises(BadInput, match=r"2\.json is missing"):
        again.load("2")
    other = Parts(tmp_path / "parts", {"model": "b"})
    assert "0" not in other
    assert "0" not in parts  # removed: nobody asks for them any more
    other.save("0", array)
    next(tmp_path.rglob("0.npy")).write_bytes(b"cut")
    with pytest.raises(BadInput, match=r"0\.npy is not readable"):
        other.load("0")
    other.clear()
    assert list(tmp_path.iterdir()) == []


def test_reading_files_needs_neither_torch_nor_numpy() -> None:
    program = "import sys, vecaf_lib.files; sys.exit(bool({'torch', 'numpy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=False).returncode == 0
