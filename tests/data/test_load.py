"""Data sets by name: options from signatures, where raw data lie, and what identifies them."""

import inspect
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

import vecaf_lib.data.load as module
from vecaf_lib.data.images import LazyImages
from vecaf_lib.data.load import load, option_schema
from vecaf_lib.data.place import ARCHIVES, IN_FILES, KNOWN, identify, raw_data
from vecaf_lib.errors import BadInput
from vecaf_lib.files import sha256_file

DATA = Path(__file__).parents[2] / "data"
SIDE = 16


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("VECAF_")]:
        monkeypatch.delenv(name)


def own_folder(root: Path) -> Path:
    for part in ("train", "test"):
        for number, name in enumerate(("cat", "dog")):
            (root / part / name).mkdir(parents=True)
            for index in range(4):
                level = (100 * number, 10 * index, 50 if part == "test" else 0)
                Image.new("RGB", (SIDE, SIDE), level).save(root / part / name / f"{index}.png")
    return root


@pytest.mark.parametrize("name", KNOWN)
def test_every_known_data_set_follows_the_contract(name: str) -> None:
    source = module._source(name)
    parameters = inspect.signature(source).parameters
    assert next(iter(parameters)) == "split"
    assert ("root" in parameters) == (name in IN_FILES)
    for option in option_schema(name).model_fields:
        assert parameters[option].kind is inspect.Parameter.KEYWORD_ONLY
        assert f"{option}:" in inspect.getdoc(source), "explain it under Args"
    if "validation_per_class" in parameters:
        assert parameters["holdout_seed"].default == 2401


def test_wrong_names() -> None:
    with pytest.raises(BadInput, match=r"^dataset\.options\.flip "):
        load("digits", "test", image_size=8, data=DATA, options={"flip": True})
    with pytest.raises(BadInput, match="'cifar-10'; did you mean 'cifar10'"):
        load("cifar-10", "test", image_size=8, data=DATA)
    with pytest.raises(BadInput, match="'tests'; did you mean 'test'"):
        load("cifar10", "tests", image_size=8, data=DATA)  # said before data are searched


def test_images_are_kept_in_memory_up_to_the_limit(tmp_path: Path) -> None:
    where: dict[str, Any] = {"image_size": SIDE, "data": tmp_path}
    where["root"] = str(own_folder(tmp_path / "own"))
    size = 8 * 3 * SIDE**2 / 2**30  # GiB
    kept, left = (load("folder", "test", memory_gib=g, **where) for g in (size, size * 0.99))
    assert isinstance(kept.images, torch.Tensor)
    assert isinstance(left.images, LazyImages)
    assert torch.equal(kept.images, left.images[:])
    assert len(list((tmp_path / "generated" / "decoded").iterdir())) == 1


def test_the_profile_goes_before_the_variable_and_that_before_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    default, variable = tmp_path / "raw/cifar10", tmp_path / "variable"
    for folder in (default, variable):
        folder.mkdir(parents=True)
    assert raw_data("cifar10", None, tmp_path) == default
    monkeypatch.setenv("VECAF_CIFAR10", "~/variable")
    assert raw_data("cifar10", None, tmp_path) == variable
    assert raw_data("caltech101", "~/raw/cifar10", tmp_path) == default  # another set's variable
    assert raw_data("cifar10", str(tmp_path), tmp_path) == tmp_path
    monkeypatch.setenv("VECAF_CIFAR10", "")
    assert raw_data("cifar10", None, tmp_path) == default
    with pytest.raises(BadInput, match=r"^dataset\.root: cifar10 is not at nowhere"):
        raw_data("cifar10", "nowhere", tmp_path)


def images(path: Path) -> Path:
    for name in ("b/2.jpg", "b/1.jpg", "a.d/3.jpg"):
        file = path / "train" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(name.encode() * 3)
    return path


def identity(name: str, root: Path) -> Any:
    return identify(name, data=root.parent / "data", root=str(root), options={})["raw"]


def test_a_folder_is_the_same_wherever_and_whenever_it_is(tmp_path: Path) -> None:
    original, copy = images(tmp_path / "original"), tmp_path / "elsewhere/copy"
    shutil.copytree(original, copy, copy_function=shutil.copyfile)
    os.utime(copy / "train/b/1.jpg", (1, 1))
    (copy / ".DS_Store").write_bytes(b"hidden")
    (copy / "images.zip").write_bytes(b"what it was unpacked from")
    (copy / "images.tar.part").write_bytes(b"unfinished")
    raw = identity("folder", original)
    assert raw == identity("folder", copy)
    archive = tmp_path / ARCHIVES["cifar10"]
    archive.write_bytes(b"archive")
    expected = {"kind": "file", "sha256": sha256_file(archive), "files": 1, "bytes": 7}
    assert identity("cifar10", archive) == identity("cifar10", tmp_path) == expected
    (copy / "train/b").rename(tmp_path / "moved")
    (copy / "train/b").symlink_to(tmp_path / "moved")
    (copy / "train/circle").symlink_to(copy)
    assert raw == identity("folder", copy)
    (copy / "train/b/archive.zip").write_bytes(b"")  # below the top, anything counts
    assert raw["sha256"] != identity("folder", copy)["sha256"]
    assert raw | {"sha256": ""} == {"kind": "folder", "sha256": "", "files": 3, "bytes": 69}


@pytest.mark.parametrize("name", ["digits", "corrupted"])
def test_index_files_count_by_their_content(tmp_path: Path, name: str) -> None:
    index = tmp_path / "digits/test.csv"
    index.parent.mkdir()
    index.write_text("index,label\n0,0\n")
    (tmp_path / "digits/README.md").write_text("not an index")
    found = identify(name, data=tmp_path, root=None, options={"of": "digits"})
    assert found == {"name": "digits", "raw": None, "index": {"test.csv": sha256_file(index)}}
