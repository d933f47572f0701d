"""ImageNet-1K and ImageNet-C in tiny folders of their published layouts."""

import csv
from pathlib import Path

import pytest
from PIL import Image

import vecaf_lib.models  # noqa: F401 (before timm)
from vecaf_lib.data import imagenet
from vecaf_lib.data.images import ImageSet
from vecaf_lib.errors import BadInput

INDEX_DIR = Path(__file__).parents[2] / "data" / "imagenet"
SYNSETS = ("n02123045", "n01440764", "n02123394")  # tabby, tench, Persian cat: not sorted


def fill(folder: Path, count: int, size: int = 40) -> None:
    folder.mkdir(parents=True)
    for number in range(count):
        name = f"{folder.name}_{number}.JPEG"
        Image.new("RGB", (size, size), (number * 9, 0, 0)).save(folder / name)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for synset in SYNSETS:
        fill(tmp_path / "train" / synset, 12)
        fill(tmp_path / "val" / synset, 2)
    return tmp_path


def images(root: Path, split: str, **options: int) -> ImageSet:
    return imagenet.load(split, image_size=32, index_dir=INDEX_DIR, root=root, **options)


def test_names_agree_with_timm() -> None:
    from timm.data import ImageNetInfo

    info = ImageNetInfo("imagenet-1k")
    with (INDEX_DIR / "classes.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["synset"] for row in rows] == [info.index_to_label_name(i) for i in range(1000)]
    assert len({row["name"] for row in rows}) == 1000
    for number, row in enumerate(rows):
        first = info.index_to_description(number).split(",")[0]
        assert row["name"].split(" (")[0] == first  # two cranes and two maillots are told apart


def test_splits(root: Path) -> None:
    sets = {name: images(root, name) for name in ("train", "validation", "test")}
    sizes = [data.labels.bincount().tolist() for data in sets.values()]
    assert sizes == [[2] * 3, [10] * 3, [2] * 3]
    assert {data.class_names for data in sets.values()} == {("tench", "tabby", "Persian cat")}
    assert not set(sets["train"].ids) & set(sets["validation"].ids)
    assert sets["test"].ids[0] == "val/n01440764/n01440764_0.JPEG"
    for name, label in zip(sets["train"].ids, sets["train"].labels, strict=True):
        assert name.split("/")[1] == sorted(SYNSETS)[label]
    assert len(images(root, "validation", validation_per_class=3)) == 9


def test_faults_of_the_layout(root: Path) -> None:
    with pytest.raises(BadInput, match=r"^validation_per_class"):
        images(root, "validation", validation_per_class=12)
    fill(root / "val" / "n01443537", 1)
    with pytest.raises(BadInput, match=r"only one has n01443537"):
        images(root, "test")
    (root / "val" / "n01443537").rename(root / "val" / "cats")
    fill(root / "train" / "cats", 12)
    with pytest.raises(BadInput, match=r"no synsets, such as cats"):
        images(root, "test")


@pytest.fixture
def corrupted(tmp_path: Path) -> Path:
    for synset in SYNSETS:
        fill(tmp_path / "fog" / "5" / synset, 2, size=224)
    return tmp_path


def test_imagenet_c(corrupted: Path, root: Path) -> None:
    index_dir = INDEX_DIR.with_name("imagenet_c")
    data = imagenet.load_corrupted(
        "test", image_size=224, index_dir=index_dir, root=corrupted, corruption="fog", severity=5
    )
    assert data.ids[0] == "fog/5/n01440764/n01440764_0.JPEG"
    assert data.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert data.class_names == images(root, "test").class_names
    with Image.open(corrupted / data.ids[3]) as file:
        assert data.images[3][:, 100, 100].tolist() == list(file.getpixel((100, 100)))


def test_imagenet_c_is_not_resized_unless_asked(corrupted: Path) -> None:
    where = {"index_dir": INDEX_DIR.with_name("imagenet_c"), "root": corrupted}
    with pytest.raises(BadInput, match=r"image_size is 64 px.* 224.* resize: true"):
        imagenet.load_corrupted("test", image_size=64, corruption="fog", severity=5, **where)
    small = imagenet.load_corrupted(
        "test", image_size=64, corruption="fog", severity=5, resize=True, **where
    )
    assert small.images[0].shape == (3, 64, 64)
    with pytest.raises(BadInput, match="split test, not 'train'"):
        imagenet.load_corrupted("train", image_size=224, **where)
