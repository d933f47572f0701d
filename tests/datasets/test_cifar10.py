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

from vecaf_lib.datasets import ImageSet, cifar10, load
from vecaf_lib.datasets.cifar10 import ARCHIVE, BATCH_MD5, CLASS_NAMES, UNPACKED
from vecaf_lib.datasets.lazy import LazyImages
from vecaf_lib.errors import BadInput

ROWS = 20  # images a batch: two of each class
RANDOM = np.random.default_rng(0)
PIXELS = {name: RANDOM.integers(0, 256, (ROWS, 3072), dtype=np.uint8) for name in BATCH_MD5}
LABELS = {name: RANDOM.permutation(ROWS) % 10 for name in BATCH_MD5}


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
    for name in BATCH_MD5:
        content = instead.get(name, official(batch(name)))
        (folder / UNPACKED / name).write_bytes(content)
        monkeypatch.setitem(BATCH_MD5, name, hashlib.md5(content).hexdigest())
    with tarfile.open(folder / ARCHIVE, "w:gz") as tar:
        tar.add(folder / UNPACKED, UNPACKED)
    expect(folder / ARCHIVE, monkeypatch)
    return folder


def expect(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Take this archive for the published one."""
    md5 = hashlib.md5(archive.read_bytes()).hexdigest()
    monkeypatch.setattr(cifar10, "ARCHIVE_MD5", md5)
    monkeypatch.setattr(cifar10, "ARCHIVE_SIZE", archive.stat().st_size)


def images(root: Path, split: str = "train", image_size: int = 32, **options: Any) -> ImageSet:
    options = {"validation_per_class": 2} | options
    return load(
        "cifar10",
        split,
        image_size=image_size,
        data=Path("nowhere"),
        root=str(root),
        memory_gib=0.0,
        options=options,
    )


def test_the_archive_is_read_in_the_official_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write(tmp_path, monkeypatch)
    test = images(root, "test")
    assert test.ids[:2] == ("test-00000", "test-00001")
    assert len(test) == ROWS
    assert isinstance(test.images, torch.Tensor)
    np.testing.assert_array_equal(
        test.images.numpy(), PIXELS["test_batch"].reshape(ROWS, 3, 32, 32)
    )
    np.testing.assert_array_equal(test.labels, LABELS["test_batch"])
    assert test.class_names == CLASS_NAMES

    train, validation = images(root), images(root, "validation")
    assert sorted(train.ids + validation.ids) == [f"train-{n:05d}" for n in range(5 * ROWS)]
    assert validation.labels.bincount().tolist() == [2] * 10
    for part in (train, validation):
        for name, image, label in zip(part.ids, part.images, part.labels, strict=True):
            number, row = divmod(int(name[-5:]), ROWS)
            source = f"data_batch_{number + 1}"
            np.testing.assert_array_equal(image.flatten(), PIXELS[source][row])
            assert label == LABELS[source][row]


def test_archive_file_folder_and_batches_are_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write(tmp_path / "both", monkeypatch)
    only = tmp_path / "only"
    only.mkdir()
    (root / UNPACKED).rename(only / UNPACKED)
    before = sorted(tmp_path.rglob("*"))
    sets = [images(place, "validation") for place in (root, root / ARCHIVE, only, only / UNPACKED)]
    assert sorted(tmp_path.rglob("*")) == before  # nothing is unpacked
    for other in sets[1:]:
        assert other.ids == sets[0].ids
        assert torch.equal(other.images, sets[0].images)


def test_another_size_is_made_when_it_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write(tmp_path, monkeypatch)
    large = images(root, "test", image_size=48)
    assert isinstance(large.images, LazyImages)
    assert large.images[3:5].shape == (2, 3, 48, 48)


def test_validation_does_not_depend_on_the_size_of_the_other_splits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write(tmp_path, monkeypatch)
    small, large = (images(root, "validation", validation_per_class=number) for number in (1, 3))
    assert set(small.ids) < set(large.ids)
    assert images(root, "validation", holdout_seed=7).ids != images(root, "validation").ids
    with pytest.raises(BadInput, match="validation_per_class: 10 leaves nothing to train on"):
        images(root, validation_per_class=10)


def test_a_smaller_pool_leaves_the_other_splits_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write(tmp_path, monkeypatch)
    small, larger = (images(root, pool_per_class=number) for number in (1, 3))
    assert small.labels.bincount().tolist() == [1] * 10
    assert set(small.ids) < set(larger.ids) < set(images(root).ids)
    held = images(root, "validation", pool_per_class=1)
    assert held.ids == images(root, "validation").ids
    assert not {*held.ids} & {*larger.ids}
    assert images(root, pool_per_class=1000).ids == images(root).ids
    assert images(root, "test", pool_per_class=1).ids == images(root, "test").ids


@pytest.mark.parametrize(
    "spoil",
    [
        lambda content: content[:-1],
        lambda content: content[:-1] + bytes([content[-1] ^ 1]),
    ],
    ids=["truncated", "changed"],
)
def test_a_wrong_checksum_is_found_before_anything_is_unpickled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spoil: Any
) -> None:
    root = write(tmp_path, monkeypatch)

    def never(*args: Any, **options: Any) -> None:
        raise AssertionError("unpickled")

    monkeypatch.setattr(cifar10, "_Arrays", never)
    monkeypatch.setattr(cifar10, "read_members", never)
    archive = root / ARCHIVE
    archive.write_bytes(spoil(archive.read_bytes()))
    with pytest.raises(BadInput, match=r"cifar-10-python\.tar\.gz has .* fetch it again"):
        images(root)
    archive.unlink()
    path = root / UNPACKED / "data_batch_3"
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(BadInput, match=r"data_batch_3 has the MD5 .*: it is damaged"):
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
    with pytest.raises(BadInput, match=r"test_batch of .* is not a batch .* asks for"):
        images(root, "test")
    assert not target.exists()
    pickle.loads(attack)
    assert target.exists()  # it would have


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"text",
        official([1, 2]),
        official({"data": PIXELS["test_batch"]}),
        official({"data": PIXELS["test_batch"], "labels": [0] * (ROWS - 1)}),
        official({"data": PIXELS["test_batch"], "labels": [10] * ROWS}),
        official({"data": PIXELS["test_batch"], "labels": [0.5] * ROWS}),
        official({"data": PIXELS["test_batch"][:, :-1], "labels": [0] * ROWS}),
        official({"data": PIXELS["test_batch"].astype("int16"), "labels": [0] * ROWS}),
        official({"data": [[0] * 3072] * ROWS, "labels": [0] * ROWS}),
    ],
)
def test_a_pickle_of_something_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    root = write(tmp_path, monkeypatch, test_batch=content)
    with pytest.raises(BadInput, match=r"test_batch of .* is not a batch of CIFAR-10"):
        images(root, "test")


def test_an_archive_without_a_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with tarfile.open(tmp_path / ARCHIVE, "w:gz"):
        pass
    expect(tmp_path / ARCHIVE, monkeypatch)
    with pytest.raises(BadInput, match="holds no cifar-10-batches-py/test_batch"):
        images(tmp_path, "test")


def test_a_batch_that_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write(tmp_path, monkeypatch) / UNPACKED
    (root / "data_batch_2").unlink()
    with pytest.raises(BadInput, match="data_batch_2 is missing; unpack"):
        images(root)


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
    assert test.ids[:4] == (
        *(f"test/airplane/{index:04d}.png" for index in range(3)),
        "test/automobile/0000.png",
    )
    assert test.labels.tolist() == [number for number in range(10) for _ in range(3)]
    assert test.images[4][:, 5, 5].tolist() == [20, 1, 100]
    train, validation = images(root), images(root, "validation")
    assert len(train) == 10
    assert len(validation) == 20
    assert set(train.ids).isdisjoint(validation.ids)
    assert {name.split("/")[0] for name in train.ids + validation.ids} == {"train"}
    for name, label, image in zip(train.ids, train.labels, train.images[:], strict=True):
        assert CLASS_NAMES[label] == name.split("/")[1]
        assert image[0, 0, 0] == 20 * label


def test_folders_of_other_classes(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"must have one folder for each of .*'frog' is missing"):
        images(image_folders(tmp_path / "a", tuple(n for n in CLASS_NAMES if n != "frog")))
    with pytest.raises(BadInput, match="'zebra' is none of them"):
        images(image_folders(tmp_path / "b", (*CLASS_NAMES, "zebra")))


def test_a_folder_of_something_else(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    with pytest.raises(BadInput, match=r"dataset\.root: .* holds neither cifar-10-python"):
        images(tmp_path)
