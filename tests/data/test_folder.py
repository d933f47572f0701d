"""An image folder of the user's own: both layouts, the held-out shares and every fault."""

import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

from vecaf_lib.data import folder
from vecaf_lib.data.folder import deal, hold_out
from vecaf_lib.data.images import ImageSet
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


@pytest.mark.parametrize("name", ["validation", "val", "Valid", "dev"])
def test_a_folder_for_validation_is_taken_as_it_is(split: Path, name: str) -> None:
    for number, cls in enumerate(("dog", "cat"), 1):
        fill(split / name / cls, 1, start=200, colour=number)
    sets = every_split(split)
    assert [len(data) for data in sets.values()] == [30, 2, 15]
    assert sets["validation"].ids == (f"{name}/cat/200.png", f"{name}/dog/200.png")


@pytest.mark.parametrize("names", [("Training", "Testing"), ("TRAIN", "eval")])
def test_other_names_of_splits(split: Path, names: tuple[str, str]) -> None:
    for old, new in zip(("train", "test"), names, strict=True):
        (split / old).rename(split / new)
    (split / "annotations").mkdir()
    with pytest.warns(UserWarning, match="annotations are no splits"):
        sets = every_split(split)
    assert [len(data) for data in sets.values()] == [27, 3, 15]
    assert sets["test"].ids[0] == f"{names[1]}/cat/100.png"
    (split / names[0].lower()[:5]).mkdir(exist_ok=True)
    with pytest.raises(BadInput, match=rf"has {names[0]} and \w+, both for train; keep one"):
        every_split(split)


def test_nested_hidden_and_other_files(flat: Path) -> None:
    fill(flat / "cat" / "more" / "of them", 2, start=50, colour=2)
    (flat / "cat" / "more" / "up").symlink_to(flat / "cat")  # leads back into itself
    (flat / ".cache").mkdir()
    (flat / "cat" / "._000.png").write_bytes(b"")
    for litter in ("__MACOSX", "@eaDir", ".thumbnails"):
        fill(flat / litter, 1)
        fill(flat / "cat" / litter, 1)
    for litter in ("Thumbs.db", "desktop.ini", ".DS_Store"):
        (flat / "cat" / litter).write_bytes(b"")
    (flat / "README.txt").write_text("beside the classes: nothing to do with them")
    Image.new("RGB", (9, 9)).save(flat / "dog" / "LOUD.JPEG")
    (flat / "dog" / "notes.txt").write_text("")
    with pytest.warns(UserWarning, match=r"1 files are no images .*dog/notes\.txt"):
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


def test_equal_files_give_a_warning_within_a_split_and_are_refused_in_two(split: Path) -> None:
    data = (split / "train" / "cat" / "003.png").read_bytes()
    for name in ("b.png", "a.png"):
        (split / "test" / "cat" / name).write_bytes(b"x" + data)
    pair = r"1 times, such as test/cat/a\.png \(test\) = test/cat/b\.png \(test\)\."
    with pytest.warns(UserWarning, match=pair):
        every_split(split)
    (split / "test" / "dog" / "z.png").write_bytes(data)
    pair = r"1 times, such as test/dog/z\.png \(test\) = train/cat/003\.png \("
    with pytest.raises(BadInput, match=pair):
        every_split(split)


def image_set(ids: list[str], labels: Tensor) -> ImageSet:
    pixels = torch.zeros(len(ids), 3, 1, 1, dtype=torch.uint8)
    return ImageSet(pixels, labels, tuple(ids), ("a", "b", "c"))


def test_holding_out_takes_the_same_number_of_each_class() -> None:
    ids, labels = [f"{number}.png" for number in range(30)], torch.arange(30) % 3
    whole = image_set(ids, labels)
    held = hold_out(whole, "validation", 4, 7)
    assert held.labels.bincount().tolist() == [4, 4, 4]
    assert {*ids} == {*held.ids, *hold_out(whole, "train", 4, 7).ids}
    assert {*hold_out(whole, "validation", 4, 8).ids} != {*held.ids}
    order = torch.randperm(30, generator=torch.Generator().manual_seed(0))
    shuffled = image_set([ids[i] for i in order], labels[order])
    assert {*hold_out(shuffled, "validation", 4, 7).ids} == {*held.ids}
    # one image more in a class changes at most one place
    more = image_set([*ids, "new.png"], torch.cat([labels, torch.tensor([1])]))
    assert len({*held.ids} - {*hold_out(more, "validation", 4, 7).ids}) <= 1


def test_dealing_gives_every_split_at_least_one_of_each_class() -> None:
    ids = [f"{number}.png" for number in range(13)]
    labels = torch.tensor([0] * 3 + [2] * 10)  # class 1 is empty
    dealt = deal(image_set(ids, labels), {"test": 20.0, "validation": 10.0}, 0)
    sizes = {name: part.labels.bincount().tolist() for name, part in dealt.items()}
    assert sizes == {"test": [1, 0, 2], "validation": [1, 0, 1], "train": [1, 0, 7]}
    assert sorted(name for part in dealt.values() for name in part.ids) == sorted(ids)


def test_faults_of_the_layout(split: Path) -> None:
    with pytest.raises(BadInput, match=r"cat should .* has 000\.png, .*; did you mean .*/train\?"):
        every_split(split / "train" / "cat")
    (split / "train" / "emu").mkdir()
    with pytest.raises(BadInput, match=r"emu has no image"):
        every_split(split)
    fill(split / "train" / "emu", 2, colour=9)
    with pytest.raises(BadInput, match=r"only one has emu"):
        every_split(split)
    (split / "test").rename(split / "tests")
    with pytest.raises(BadInput, match=r"has train \(beside tests\); it needs both train and test"):
        every_split(split)
    with pytest.raises(BadInput, match=r"'emu/000\.png' has 2 images, and 2 are held out"):
        every_split(split / "train")
    with pytest.raises(BadInput, match=r"absent is no folder"):
        every_split(split / "absent")


def test_one_class_and_the_folder_that_was_meant(flat: Path) -> None:
    (flat / "wrapper").mkdir()
    for name in ("cat", "dog"):
        (flat / name).rename(flat / "wrapper" / name)
    with pytest.raises(BadInput, match=r"has wrapper; did you mean .*/wrapper\?$"):
        every_split(flat)
    shutil.rmtree(flat / "wrapper" / "dog")
    with pytest.raises(BadInput, match=r"wrapper should .* has cat\.$"):
        every_split(flat / "wrapper")


@pytest.mark.parametrize("name", ["emu", "cat/x.png", "cat/more"])
@pytest.mark.parametrize("goal", ["nowhere", "itself"])
def test_a_link_to_nowhere_is_named(flat: Path, name: str, goal: str) -> None:
    (flat / name).symlink_to(flat / name if goal == "itself" else "nowhere")
    with pytest.raises(BadInput, match=rf"{flat / name} is a link to nowhere"):
        every_split(flat)


def test_names_in_two_unicode_forms_are_the_same(split: Path) -> None:
    composed, apart = "\u00e9mu", "e\u0301mu"
    for part, name, start in (("train", composed, 0), ("test", apart, 20)):
        fill(split / part / name, 3, start=start, colour=7)
        (split / part / name / f"{start:03d}.png").rename(split / part / name / f"{apart}.png")
    sets = every_split(split)
    assert {data.class_names for data in sets.values()} == {("cat", "dog", composed)}
    assert sets["test"].ids[-1] == f"test/{composed}/{composed}.png"
    assert sets["test"].images[-1][0, 0, 0] == 20
    fill(split / "train" / apart, 1)
    with pytest.raises(BadInput, match="twice, in two Unicode forms"):
        every_split(split)


def test_a_name_that_is_not_utf_8(flat: Path) -> None:
    (flat / "cat" / "000.png").rename(flat / "cat" / "\udcff.png")
    ids = [name for data in every_split(flat).values() for name in data.ids]
    assert "cat/\udcff.png" in ids
