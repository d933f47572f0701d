"""An image folder of the user's own: both layouts, the held-out shares and every fault."""

import os
from pathlib import Path

import pytest
import torch
from PIL import Image

from vecaf_lib.datasets import folder
from vecaf_lib.datasets._holdout import deal, held_out
from vecaf_lib.datasets.images import ImageSet
from vecaf_lib.datasets.lazy import LazyImages
from vecaf_lib.errors import BadInput

SPLITS = ("train", "validation", "test")


def fill(folder: Path, count: int, *, start: int = 0, colour: int = 0) -> None:
    """``count`` images that differ from each other and from those of other colours."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(start, start + count):
        Image.new("RGB", (10, 8), (number, colour, 0)).save(folder / f"{number:03d}.png")


def every_split(root: Path, **options: float) -> dict[str, ImageSet]:
    return {
        split: folder.load(split, image_size=4, root=root, **options)  # type: ignore[arg-type]
        for split in SPLITS
    }


@pytest.fixture
def flat(tmp_path: Path) -> Path:
    """20 cats and 10 dogs in no splits."""
    fill(tmp_path / "dog", 10, colour=1)
    fill(tmp_path / "cat", 20, colour=2)
    return tmp_path


@pytest.fixture
def split(tmp_path: Path) -> Path:
    """The same with splits, but without one for validation."""
    for part, start, count in (("train", 0, 10), ("test", 100, 5)):
        fill(tmp_path / part / "dog", count, start=start, colour=1)
        fill(tmp_path / part / "cat", count * 2, start=start, colour=2)
    return tmp_path


def test_shares_are_held_out_class_by_class(flat: Path) -> None:
    sets = every_split(flat)
    sizes = {name: data.labels.bincount().tolist() for name, data in sets.items()}
    assert sizes == {"train": [14, 7], "validation": [2, 1], "test": [4, 2]}
    ids = [name for data in sets.values() for name in data.ids]
    assert len(ids) == len(set(ids)) == 30
    assert {data.class_names for data in sets.values()} == {("cat", "dog")}
    assert isinstance(sets["train"].images, LazyImages)
    for data in sets.values():
        for name, image, label in zip(data.ids, data.images, data.labels, strict=True):
            cls, number = name.removesuffix(".png").split("/")
            assert image[:, 0, 0].tolist() == [int(number), {"cat": 2, "dog": 1}[cls], 0]
            assert data.class_names[label] == cls
    assert every_split(flat, holdout_seed=1)["test"].ids != sets["test"].ids
    assert len(every_split(flat, test_percent=50.0)["test"]) == 15


def test_folders_of_splits(split: Path) -> None:
    sets = every_split(split)
    sizes = {name: data.labels.bincount().tolist() for name, data in sets.items()}
    assert sizes == {"train": [18, 9], "validation": [2, 1], "test": [10, 5]}
    assert all(name.startswith("train/") for name in sets["validation"].ids)
    assert not set(sets["validation"].ids) & set(sets["train"].ids)
    assert sets["test"].ids[0] == "test/cat/100.png"
    assert sets["test"].images[0][:, 0, 0].tolist() == [100, 2, 0]


@pytest.mark.parametrize("name", ["validation", "val"])
def test_a_folder_for_validation_is_taken_as_it_is(split: Path, name: str) -> None:
    fill(split / name / "dog", 1, start=200, colour=1)
    fill(split / name / "cat", 1, start=200, colour=2)
    sets = every_split(split)
    assert [len(data) for data in sets.values()] == [30, 2, 15]
    assert sets["validation"].ids == (f"{name}/cat/200.png", f"{name}/dog/200.png")


def test_nested_hidden_and_other_files(flat: Path) -> None:
    fill(flat / "cat" / "more" / "of them", 2, start=50, colour=2)
    (flat / "cat" / "more" / "up").symlink_to(flat / "cat")  # leads back into itself
    (flat / ".cache").mkdir()
    (flat / "cat" / "._000.png").write_bytes(b"")
    (flat / "README.txt").write_text("beside the classes: nothing to do with them")
    Image.new("RGB", (9, 9)).save(flat / "dog" / "LOUD.JPEG")
    (flat / "dog" / "notes.txt").write_text("")
    with pytest.warns(UserWarning, match=r"1 files are no images .*first is dog/notes\.txt"):
        sets = every_split(flat)
    ids = {name for data in sets.values() for name in data.ids}
    assert len(ids) == 33
    assert {"cat/more/of them/050.png", "dog/LOUD.JPEG"} < ids


def test_a_held_out_image_stays_held_out(flat: Path) -> None:
    before = every_split(flat)
    fill(flat / "ant", 10, colour=3)  # another class, other class numbers
    (flat / "cat" / "000.png").touch()
    after = every_split(flat)
    for name in SPLITS:
        assert [i for i in after[name].ids if not i.startswith("ant")] == list(before[name].ids)


def test_held_out_takes_the_same_number_of_each_class() -> None:
    ids = [f"{number}.png" for number in range(30)]
    labels = torch.arange(30) % 3
    mask = held_out(ids, labels, 4, 7)
    assert labels[mask].bincount().tolist() == [4, 4, 4]
    order = torch.randperm(30, generator=torch.Generator().manual_seed(0))
    shuffled = held_out([ids[i] for i in order], labels[order], 4, 7)
    assert torch.equal(shuffled, mask[order])
    assert not torch.equal(held_out(ids, labels, 4, 8), mask)
    # one image more in a class changes at most one place
    more = held_out([*ids, "new.png"], torch.cat([labels, torch.tensor([1])]), 4, 7)
    assert int((more[:30] != mask).sum()) <= 1
    with pytest.raises(BadInput, match=r"^validation_per_class: 10 leaves nothing .*'0\.png'"):
        held_out(ids, labels, 10, 7)
    with pytest.raises(BadInput, match=r"^validation_per_class: 0 holds out no image"):
        held_out(ids, labels, 0, 7)


def test_dealing_gives_every_split_at_least_one_of_each_class() -> None:
    ids = [f"{number}.png" for number in range(13)]
    labels = torch.tensor([0] * 3 + [2] * 10)  # class 1 is empty
    dealt = deal(ids, labels, {"test": 20.0, "validation": 10.0}, 0)
    sizes = {name: labels[at].bincount().tolist() for name, at in dealt.items()}
    assert sizes == {"test": [1, 0, 2], "validation": [1, 0, 1], "train": [1, 0, 7]}
    assert sorted(i for at in dealt.values() for i in at) == list(range(13))


def test_equal_files_within_a_split_are_told(split: Path) -> None:
    data = (split / "train" / "cat" / "003.png").read_bytes()
    for name in ("b.png", "a.png"):
        (split / "test" / "cat" / name).write_bytes(b"x" + data)
    fill(split / "validation" / "dog", 1, start=200, colour=1)
    fill(split / "validation" / "cat", 1, start=200, colour=2)
    pair = r"same bytes, 1 times: test/cat/a\.png = test/cat/b\.png\."
    with pytest.warns(UserWarning, match=pair):
        every_split(split)
    for number in range(4):
        (split / "test" / "cat" / f"c{number}.png").write_bytes(b"x" + data)
    with pytest.warns(UserWarning, match=r"b\.png = test/cat/c0\.png = 3 others\."):
        every_split(split)


def test_equal_files_in_two_splits_are_refused(split: Path) -> None:
    data = (split / "train" / "cat" / "003.png").read_bytes()
    (split / "test" / "dog" / "z.png").write_bytes(data)
    with pytest.raises(BadInput, match="the same bytes in two splits, 1 times: ") as raised:
        every_split(split)
    assert "test/dog/z.png (test) = train/cat/003.png (" in str(raised.value)


def test_faults_of_the_layout(split: Path) -> None:
    cases = [
        (split / "absent", r"absent is no folder"),
        (split / "train" / "cat", r"has 20 images outside any class folder \(the first is 000"),
        (split / "train" / "cat" / "000.png", r"000\.png is no folder"),
    ]
    (split / "empty").mkdir()
    cases.append((split / "empty", r"empty has no folders; it should hold one folder a class"))
    for root, sentence in cases:
        with pytest.raises(BadInput, match=sentence):
            every_split(root)
    (split / "train" / "emu").mkdir()
    with pytest.raises(BadInput, match=r"1 class folders without an image \(the first is emu\)"):
        every_split(split)
    fill(split / "train" / "emu", 3, colour=9)
    with pytest.raises(BadInput, match=r"different class folders; only one of them has emu"):
        every_split(split)
    (split / "test").rename(split / "tests")
    with pytest.raises(BadInput, match="has train, but not both train and test"):
        every_split(split)


def test_a_class_that_is_too_small(flat: Path) -> None:
    fill(flat / "emu", 2, colour=3)
    with pytest.raises(BadInput, match=r"'emu/000\.png' has 2 images, too few to hold out 2 for"):
        every_split(flat)


def test_a_name_that_is_not_utf_8(flat: Path) -> None:
    try:
        (flat / "cat" / os.fsdecode(b"\xff.png")).write_bytes(b"")
    except OSError:
        pytest.skip("this file system takes only UTF-8")
    with pytest.raises(BadInput, match="name is not UTF-8"):
        every_split(flat)
