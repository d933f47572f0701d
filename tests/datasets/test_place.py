"""Where raw data are looked for, and an identity that does not depend on the machine."""

import os
import shutil
from pathlib import Path

import pytest

from vecaf_lib.datasets import fingerprint, raw_data
from vecaf_lib.errors import BadInput
from vecaf_lib.files import sha256_file


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("VECAF_")]:
        monkeypatch.delenv(name)


def folder(path: Path) -> Path:
    path.mkdir(parents=True)
    return path


def test_the_profile_goes_before_the_variable_and_that_before_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    default = folder(tmp_path / "raw/cifar10")
    assert raw_data("cifar10", None, tmp_path) == default
    variable = folder(tmp_path / "variable")
    monkeypatch.setenv("VECAF_CIFAR10", str(variable))
    assert raw_data("cifar10", None, tmp_path) == variable
    assert raw_data("caltech101", str(default), tmp_path) == default  # another set's variable
    profile = tmp_path / "profile.tar.gz"
    profile.touch()
    assert raw_data("cifar10", str(profile), tmp_path) == profile
    monkeypatch.setenv("VECAF_CIFAR10", "")
    assert raw_data("cifar10", None, tmp_path) == default


def test_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    images = folder(tmp_path / "images")
    assert raw_data("folder", "~/images", tmp_path) == images
    monkeypatch.setenv("VECAF_FOLDER", "~/images")
    assert raw_data("folder", None, tmp_path) == images


@pytest.mark.parametrize(
    ("name", "what_to_do"),
    [
        ("cifar10", r"`make fetch DATASET=cifar10` .* variable VECAF_CIFAR10\.$"),
        ("imagenet_c", "`make fetch DATASET=imagenet_c`"),
        ("imagenet", r"accept the licence at image-net\.org.*train/ and val/"),
        ("folder", r"put the images into .*raw/folder, or .* dataset\.root"),
    ],
)
def test_data_that_are_nowhere(tmp_path: Path, name: str, what_to_do: str) -> None:
    with pytest.raises(BadInput, match=what_to_do) as raised:
        raw_data(name, None, tmp_path)
    assert str(tmp_path / "raw" / name) in str(raised.value)


def test_a_place_that_is_given_and_wrong_is_not_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder(tmp_path / "raw/cifar10")
    with pytest.raises(BadInput, match=r"^dataset\.root: nowhere does not exist"):
        raw_data("cifar10", "nowhere", tmp_path)
    monkeypatch.setenv("VECAF_CIFAR10", "neverwhere")
    with pytest.raises(BadInput, match="variable VECAF_CIFAR10: neverwhere does not exist"):
        raw_data("cifar10", None, tmp_path)


def images(path: Path) -> Path:
    for name in ("b/2.jpg", "b/1.jpg", "a.d/3.jpg"):
        file = path / "train" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(name.encode() * 3)
    return path


def test_a_folder_is_the_same_wherever_and_whenever_it_is(tmp_path: Path) -> None:
    first, second = images(tmp_path / "first"), tmp_path / "elsewhere/second"
    shutil.copytree(first, second, copy_function=shutil.copyfile)
    os.utime(second / "train/b/1.jpg", (1, 1))
    (second / ".DS_Store").write_bytes(b"hidden")
    (second / "images.zip").write_bytes(b"what it was unpacked from")
    (second / "images.tar.part").write_bytes(b"unfinished")
    found = fingerprint("folder", first, tmp_path / "none")
    assert found == fingerprint("folder", second, tmp_path / "none")
    assert found["raw"] | {"sha256": ""} == {
        "kind": "folder",
        "sha256": "",
        "files": 3,
        "bytes": 3 * (7 + 7 + 9),
    }
    assert found["index"] == {}


@pytest.mark.parametrize("change", ["size", "name", "more", "fewer"])
def test_a_folder_that_changed(tmp_path: Path, change: str) -> None:
    root = images(tmp_path / "images")
    before = fingerprint("folder", root, tmp_path)
    file = root / "train/b/2.jpg"
    if change == "size":
        file.write_bytes(b"2")
    elif change == "name":
        file.rename(root / "train/b/4.jpg")
    elif change == "more":
        (root / "train/b/archive.zip").write_bytes(b"")  # below the top, anything counts
    else:
        file.unlink()
    assert fingerprint("folder", root, tmp_path)["raw"]["sha256"] != before["raw"]["sha256"]


def test_links_are_followed_but_not_in_a_circle(tmp_path: Path) -> None:
    root = images(tmp_path / "images")
    before = fingerprint("folder", root, tmp_path)
    (root / "train/b").rename(tmp_path / "moved")
    (root / "train/b").symlink_to(tmp_path / "moved")
    (root / "train/circle").symlink_to(root)
    (root / "train/nowhere").symlink_to(tmp_path / "absent")
    assert fingerprint("folder", root, tmp_path) == before


def test_an_archive_and_its_folder_are_the_same(tmp_path: Path) -> None:
    archive = tmp_path / "cifar-10-python.tar.gz"
    archive.write_bytes(b"archive")
    found = fingerprint("cifar10", archive, tmp_path / "none")
    assert found["raw"] == {"kind": "file", "sha256": sha256_file(archive), "files": 1, "bytes": 7}
    (tmp_path / "other.txt").touch()
    assert fingerprint("cifar10", tmp_path, tmp_path / "none") == found


def test_index_files_count_by_their_content(tmp_path: Path) -> None:
    (tmp_path / "test.csv").write_text("index,label\n0,0\n")
    (tmp_path / "README.md").write_text("not an index")
    found = fingerprint("digits", None, tmp_path)
    assert found == {
        "name": "digits",
        "raw": None,
        "index": {"test.csv": sha256_file(tmp_path / "test.csv")},
    }
