"""Files are decoded once; the copy belongs to these very files and may be deleted."""

import errno
import os
from pathlib import Path

import pytest
import torch
from PIL import Image

from vecaf_lib.datasets import decoded as module
from vecaf_lib.datasets import load
from vecaf_lib.datasets.decoded import decoded
from vecaf_lib.datasets.file_images import FileImages


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    found = [tmp_path / f"{number}.png" for number in range(5)]
    for number, path in enumerate(found):
        Image.new("RGB", (20, 16), (40 * number, 9, 200)).save(path)
    return found


def copies(folder: Path) -> list[Path]:
    return sorted(folder.glob("*"))


def test_the_copy_holds_the_pixels_and_is_made_once(paths: list[Path], tmp_path: Path) -> None:
    images, folder = FileImages(paths, 16), tmp_path / "decoded"
    first = decoded(images, folder)
    assert isinstance(first, torch.Tensor)
    assert torch.equal(first, images[:])
    (copy,) = copies(folder)
    made = copy.stat().st_mtime_ns
    assert torch.equal(decoded(FileImages(paths, 16), folder), first)
    assert copies(folder) == [copy]
    assert copy.stat().st_mtime_ns == made
    first[:] = 0  # in memory alone
    assert torch.equal(decoded(images, folder), images[:])
    copy.unlink()
    assert torch.equal(decoded(images, folder), images[:])


@pytest.mark.parametrize("change", ["content", "size", "crop", "order"])
def test_other_files_or_sizes_have_another_copy(
    paths: list[Path], tmp_path: Path, change: str
) -> None:
    folder = tmp_path / "decoded"
    decoded(FileImages(paths, 16), folder)
    if change == "content":
        Image.new("RGB", (20, 16), "white").save(paths[1])
        os.utime(paths[1], ns=(1, 1))
    others = {
        "size": FileImages(paths, 8),
        "crop": FileImages(paths, 16, crop=0.5),
        "order": FileImages(paths[::-1], 16),
    }
    images = others.get(change, FileImages(paths, 16))
    assert torch.equal(decoded(images, folder), images[:])
    assert len(copies(folder)) == 2


def test_a_stop_or_a_full_disk_leaves_no_half_copy(
    paths: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, folder = FileImages(paths, 16), tmp_path / "decoded"

    def full(images: FileImages, path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(module, "_write", full)
    assert decoded(images, folder) is images
    assert copies(folder) == []
    assert [path for path in folder.iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize(("memory_gib", "kept"), [(1.0, 1), (0.0, 0)])
def test_only_sets_that_fit_are_copied(tmp_path: Path, memory_gib: float, kept: int) -> None:
    for name in ("a", "b"):
        for number in range(10):
            path = tmp_path / "images" / name / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (16, 16), (10 * number, len(name), ord(name))).save(path)
    data, root = tmp_path / "data", str(tmp_path / "images")
    pool = load("folder", "train", image_size=16, data=data, root=root, memory_gib=memory_gib)
    assert len(copies(data / "generated" / "decoded")) == kept
    assert isinstance(pool.images, torch.Tensor) == bool(kept)
