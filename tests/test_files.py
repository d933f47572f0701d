"""Files are whole or absent, also where the disk is full."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from vecaf_lib.errors import BadInput
from vecaf_lib.files import atomic_write, read_json, sha256_json, write_json

ROOT = Path(__file__).parents[1]

# Mounts 64 KiB of memory as a disk, stores one file, then tries another that is too large.
FULL_DISK = """
import subprocess, sys
from pathlib import Path
from vecaf_lib.errors import BadInput
from vecaf_lib.files import atomic_write
disk = Path(sys.argv[1])
mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)]
if subprocess.run(mount, stderr=subprocess.DEVNULL).returncode:
    sys.exit(77)
try:
    atomic_write(disk / "finished.json", b"kept")
    atomic_write(disk / "large.json", b"old")
    try:
        atomic_write(disk / "large.json", b"x" * 200_000)
        print("it was written")
    except BadInput as error:
        print(error)
    print(sorted(path.name for path in disk.iterdir()))
    print((disk / "finished.json").read_text(), (disk / "large.json").read_text())
finally:
    subprocess.run(["umount", str(disk)], check=True)
"""


def test_a_write_replaces_the_whole_file_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "file.bin"
    atomic_write(path, b"first, which is longer")
    atomic_write(path, b"second")
    assert path.read_bytes() == b"second"
    assert list(path.parent.iterdir()) == [path]


def test_a_failed_write_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file.bin"
    atomic_write(path, b"old")

    def crash(*_: object) -> None:
        raise OSError("unplugged")

    monkeypatch.setattr(os, "replace", crash)
    with pytest.raises(OSError, match="unplugged"):
        atomic_write(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_gives_one_sentence_and_loses_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-c", FULL_DISK, str(tmp_path)]
    attempts = [command] if os.geteuid() == 0 else []
    if shutil.which("unshare"):
        attempts.append(["unshare", "-Urm", *command])
    for attempt in attempts:
        done = subprocess.run(attempt, capture_output=True, text=True, cwd=ROOT, check=False)
        if done.returncode == 0:
            sentence, names, contents = done.stdout.splitlines()
            assert sentence.startswith(f"No room left on the disk that holds {tmp_path}")
            assert names == "['finished.json', 'large.json']"  # no part of the failed write
            assert contents == "kept old"
            return
        assert done.returncode == 77 or "unshare" in done.stderr, done.stderr
    pytest.skip("neither mount nor unshare is permitted here, so no disk can be filled")


def test_json_is_canonical_and_refuses_nan(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"b": 1, "a": "é"})
    write_json(tmp_path / "b.json", {"a": "é", "b": 1})
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    assert read_json(tmp_path / "a.json") == {"a": "é", "b": 1}
    assert sha256_json({"b": 1, "a": 2}) == sha256_json({"a": 2, "b": 1})
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(tmp_path / "a.json", float("nan"))


@pytest.mark.parametrize("content", [None, b'{"half": ', b"\xff\xfe"])
def test_unreadable_json_names_the_file(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "run.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BadInput, match=r"run\.json is .*dvc repro"):
        read_json(path)


def test_lists_of_plain_values_take_one_line_and_are_read_back(tmp_path: Path) -> None:
    content = {"ids": ["a, \n [b", "c] {\\n "], "rows": [[1, 2.5], [None, True]], "none": []}
    content |= {"dicts": [{"deep": ["x", "y"]}, {}]}
    write_json(tmp_path / "a.json", content)
    assert read_json(tmp_path / "a.json") == content
    lines = (tmp_path / "a.json").read_text().splitlines()
    assert "  [1, 2.5]," in lines
    assert '   "deep": ["x", "y"]' in lines
