"""CIFAR-10 from its archive, its batches and image folders; foreign pickles never run."""

import hashlib
import io
import pickle
import tarfile
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from PIL import Image

from vecaf_lib.data import cifar10
from vecaf_lib.data.cifar10 import ARCHIVE, CLASS_NAMES, MD5, UNPACKED
from vecaf_lib.data.images import ImageSet
from vecaf_lib.data.load import load_lazily
from vecaf_lib.errors import BadInput

ROWS = 20  # images a batch: two of each class
BATCHES = [name for name in MD5 if name != ARCHIVE]
RANDOM = np.random.default_rng(0)
PIXELS = {name: RANDOM.integers(0, 256, (ROWS, 3072), dtype=np.uint8) for name in BATCHES}
LABELS = {name: RANDOM.permutation(ROWS) % 10 for name in BATCHES}


class Python2Pickler(pickle._Pickler):  # type: ignore[name-defined]
    """Writes text as Python 2 did, which made the official files."""

    dispatch: ClassVar[dict[type, Any]] = dict(pickle._Pickler.dispatch)  # type: ignore[attr-defined]

    def save_text(self, text: str | bytes) -> None:
        content = text.encode("latin1") if isinstance(text, str) else text
        self.write(b"T" + len(content).to_bytes(4, "little") + content)
        self.memoize(text)

    dispatch[str] = dispatch[bytes] = save_text


def official(content: Any) -> bytes:
    file = io.BytesIO()
    Python2Pickler(file, 2).dump(content)
    return file.getvalue().replace(b"numpy._core", b"numpy.core")  # as NumPy 1 called it


def batch(name: str) -> dict[str, Any]:
    return {
        "data": PIXELS[name],
        "labels": LABELS[name].tolist(),
        "batch_label": name,
        "filenames": [f"{index}.png" for index in range(ROWS)],
    }


def write(folder: Path, monkeypatch: pytest.MonkeyPatch, **instead: bytes) -> Path:
    """The unpacked folder and the archive of it, with checksums that fit."""
    (folder / UNPACKED).mkdir(parents=True)
    for name in BATCHES:
        content = instead.get(name, official(batch(name)))
        (folder / UNPACKED / name).write_bytes(content)
        monkeypatch.setitem(MD5, name, hashlib.md5(content).hexdigest())
    with tarfile.open(folder / ARCHIVE, "w:gz") as tar:
        tar.add(folder / UNPACKED, UNPACKED)
    md5 = hashlib.md5((folder / ARCHIVE).read_bytes()).hexdigest()
    monkeypatch.setitem(MD5, ARCHIVE, md5)
    return folder


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Archive and unpacked folder."""
    return write(tmp_path, monkeypatch)


def images(root: Path, split: str = "train", image_size: int = 32, **options: Any) -> ImageSet:
    options = {"validation_per_class": 2} | options
    where: dict[str, Any] = {"data": Path("nowhere"), "root": str(root)}
    return load_lazily("cifar10", split, image_size=image_size, options=options, **where)


def test_the_archive_is_read_in_the_official_order(root: Path) -> None:
    test = images(root, "test")
    assert test.ids == tuple(f"test-{number:05d}" for number in range(ROWS))
    np.testing.assert_array_equal(test.images.flatten(1), PIXELS["test_batch"])
    np.testing.assert_array_equal(test.labels, LABELS["test_batch"])

    train, validation = images(root), images(root, "validation")
    assert sorted(train.ids + validation.ids) == [f"train-{n:05d}" for n in range(5 * ROWS)]
    assert validation.labels.bincount().tolist() == [2] * 10
    for part in (train, validation):
        for name, image, label in zip(part.ids, part.images, part.labels, strict=True):
            number, row = divmod(int(name[-5:]), ROWS)
            source = f"data_batch_{number + 1}"
            np.testing.assert_array_equal(image.flatten(), PIXELS[source][row])
            assert label == LABELS[source][row]


def test_archive_file_folder_and_batches_are_the_same(root: Path) -> None:
    only = root / "only"
    only.mkdir()
    (root / UNPACKED).rename(only / UNPACKED)
    before = sorted(root.rglob("*"))
    sets = [images(place, "validation") for place in (root, root / ARCHIVE, only, only / UNPACKED)]
    assert sorted(root.rglob("*")) == before  # nothing is unpacked
    assert images(root, "test", image_size=48).images[3:5].shape == (2, 3, 48, 48)
    for other in sets[1:]:
        assert other.ids == sets[0].ids
        assert torch.equal(other.images, sets[0].images)


def test_sizes_of_validation_and_pool_leave_the_other_splits_alone(root: Path) -> None:
    few, more = (images(root, "validation", validation_per_class=number) for number in (1, 3))
    assert set(few.ids) < set(more.ids)
    held = images(root, "validation")
    assert images(root, "validation", holdout_seed=7).ids != held.ids
    with pytest.raises(BadInput, match=r"^validation_per_class: .*10 are held out"):
        images(root, validation_per_class=10)
    small, larger = (images(root, pool_per_class=number) for number in (1, 3))
    assert small.labels.bincount().tolist() == [1] * 10
    assert set(small.ids) < set(larger.ids) < set(images(root).ids)
    assert images(root, "validation", pool_per_class=1).ids == held.ids
    assert not {*held.ids} & {*larger.ids}
    assert images(root, "test", pool_per_class=1).ids == images(root, "test").ids


@pytest.mark.parametrize(
    "spoil",
    [lambda content: content[:-1], lambda content: content[:-1] + bytes([content[-1] ^ 1])],
    ids=["truncated", "changed"],
)
def test_a_wrong_checksum_is_found_before_anything_is_unpickled(
    root: Path, monkeypatch: pytest.MonkeyPatch, spoil: Any
) -> None:
    def never(*args: Any, **options: Any) -> None:
        raise AssertionError("unpickled")

    monkeypatch.setattr(cifar10, "_Arrays", never)
    monkeypatch.setattr(tarfile, "open", never)
    archive = root / ARCHIVE
    archive.write_bytes(spoil(archive.read_bytes()))
    with pytest.raises(BadInput, match=r"cifar-10-python\.tar\.gz has the MD5"):
        images(root)
    archive.unlink()
    path = root / UNPACKED / "data_batch_3"
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(BadInput, match="data_batch_3 has the MD5"):
        images(root)


class Attack:
    """Unpickled by the standard library, this would write a file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.write_text, (self._path, "evil"))


def test_a_pickle_that_would_run_code_is_refused_even_with_the_right_checksum(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "evil"
    attack = pickle.dumps(Attack(target), 2)
    root = write(tmp_path, monkeypatch, test_batch=attack)
    with pytest.raises(BadInput, match=r"test_batch is not a batch .* asks for"):
        images(root, "test")
    assert not target.exists()
    pickle.loads(attack)
    assert target.exists()  # it would have


@pytest.mark.parametrize(
    "content",
    [
        b"text",
        official({"data": PIXELS["test_batch"], "labels": [0] * (ROWS - 1)}),
        official({"data": PIXELS["test_batch"], "labels": [10] * ROWS}),
        official({"data": PIXELS["test_batch"].astype("int16"), "labels": [0] * ROWS}),
    ],
    ids=["text", "few", "label 10", "int16"],
)
def test_a_pickle_of_something_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    root = write(tmp_path, monkeypatch, test_batch=content)
    with pytest.raises(BadInput, match=r"test_batch is not a batch of CIFAR-10|label outside"):
        images(root, "test")


def image_folders(root: Path, names: tuple[str, ...] = CLASS_NAMES, each: int = 3) -> Path:
    for part in ("train", "test"):
        for number, name in enumerate(names):
            (root / part / name).mkdir(parents=True)
            for index in range(each):
                level = (20 * number, index, 200 if part == "train" else 100)
                Image.new("RGB", (32, 32), level).save(root / part / name / f"{index:04d}.png")
    return root


def test_image_folders(tmp_path: Path) -> None:
    root = image_folders(tmp_path)
    test = images(root, "test")
    assert test.ids[2:4] == ("test/airplane/0002.png", "test/automobile/0000.png")
    assert test.labels.tolist() == [number for number in range(10) for _ in range(3)]
    assert test.images[4][:, 5, 5].tolist() == [20, 1, 100]
    train, validation = images(root), images(root, "validation")
    assert len({*train.ids, *validation.ids}) == len(train) + len(validation) == 30
    assert {name.split("/")[0] for name in train.ids + validation.ids} == {"train"}


def test_folders_of_something_else(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="only one has zebra"):
        images(image_folders(tmp_path / "b", (*CLASS_NAMES, "zebra")))
    with pytest.raises(BadInput, match=r"dataset\.root: .* holds neither cifar-10-python"):
        images(tmp_path)
