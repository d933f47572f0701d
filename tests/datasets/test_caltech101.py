"""Caltech-101: the committed split, and folders that do not fit it."""

import shutil
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from vecaf_lib.datasets import caltech101
from vecaf_lib.datasets.caltech101 import BACKGROUND, FOLDER, SPLITS
from vecaf_lib.datasets.images import ImageSet
from vecaf_lib.datasets.make_caltech101_split import make_split
from vecaf_lib.errors import BadInput

INDEX_DIR = Path(__file__).parents[2] / "data" / "caltech101"


@pytest.fixture(scope="module")
def tables() -> dict[str, pd.DataFrame]:
    return {split: pd.read_csv(INDEX_DIR / f"{split}.csv") for split in SPLITS}


def test_the_committed_split_is_complete_and_stratified(tables: dict[str, pd.DataFrame]) -> None:
    together = pd.concat(tables.values())
    assert len(together) == together["file"].nunique() == 9144
    sizes = together["class"].value_counts()
    assert len(sizes) == 102
    assert {name: int(sizes[name]) for name in ("airplanes", "Faces", "inline_skate")} == {
        "airplanes": 800,
        "Faces": 435,
        "inline_skate": 31,
    }
    assert (together["file"].str.split("/").str[0] == together["class"]).all()
    for split, percent in {"test": 20, "validation": 10, "train": 70}.items():
        count = tables[split]["class"].value_counts()
        assert len(count) == 102
        assert ((count - sizes * percent / 100).abs() <= 1).all()  # two roundings in train


def test_the_committed_split_can_be_made_again(
    tables: dict[str, pd.DataFrame], tmp_path: Path
) -> None:
    make_split(list(pd.concat(tables.values())["file"])[::-1], tmp_path)
    for split in SPLITS:
        committed = (INDEX_DIR / f"{split}.csv").read_bytes()
        assert (tmp_path / f"{split}.csv").read_bytes() == committed


@pytest.fixture
def tiny(tmp_path: Path) -> tuple[Path, Path]:
    """Three classes of ten images and their index files."""
    names = [BACKGROUND, "car_side", "ant"]
    files = [f"{name}/image_{number:04d}.jpg" for name in names for number in range(1, 11)]
    for place, file in enumerate(files):
        path = tmp_path / "raw" / FOLDER / file
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (12, 10), (place * 8, 0, 0)).save(path, quality=100)
    make_split(files, tmp_path / "index")
    return tmp_path / "index", tmp_path / "raw"


def load(tiny: tuple[Path, Path], split: str = "train", background: bool = False) -> ImageSet:
    index_dir, root = tiny
    return caltech101.load(
        split, image_size=8, index_dir=index_dir, root=root, background=background
    )


def test_images_labels_and_names(tiny: tuple[Path, Path]) -> None:
    sets = {split: load(tiny, split) for split in SPLITS}
    assert [len(data) for data in sets.values()] == [14, 2, 4]
    for data in sets.values():
        assert data.class_names == ("ant", "car side")
        for name, label, image in zip(data.ids, data.labels, data.images, strict=True):
            place = ("ant", "car_side").index(name.split("/")[0])
            assert label == place
            number = int(name[-6:-4])
            red = ((1 - place) * 10 + 10 + number - 1) * 8
            assert abs(int(image[0, 4, 4]) - red) <= 2


def test_the_background_is_a_parameter(tiny: tuple[Path, Path]) -> None:
    data = load(tiny, background=True)
    assert data.class_names == ("BACKGROUND Google", "ant", "car side")
    assert data.labels.bincount().tolist() == [7, 7, 7]


@pytest.mark.parametrize("move", ["root", "deeper"])
def test_where_the_folder_may_be(tiny: tuple[Path, Path], move: str) -> None:
    index_dir, root = tiny
    if move == "deeper":
        (root / "caltech-101").mkdir()
        (root / FOLDER).rename(root / "caltech-101" / FOLDER)
        assert len(load(tiny)) == 14
    else:
        assert len(load((index_dir, root / FOLDER))) == 14


def test_missing_and_surplus_images(tiny: tuple[Path, Path]) -> None:
    folder = tiny[1] / FOLDER
    shutil.copy(folder / "ant" / "image_0001.jpg", folder / "ant" / "zz.jpg")
    with pytest.warns(UserWarning, match=r"1 images are in no split .*first is ant/zz\.jpg"):
        load(tiny)
    for number in (2, 3, 4, 5):
        (folder / "ant" / f"image_{number:04d}.jpg").unlink()
    with pytest.raises(BadInput) as raised:
        load(tiny)
    assert (
        "lacks 4 of the 20 images of the split: ant/image_0002.jpg, ant/image_0003.jpg, "
        "ant/image_0004.jpg and 1 more;" in str(raised.value)
    )
    shutil.rmtree(folder / "car_side")
    with pytest.raises(BadInput, match=r"lacks 14 of the 20"):
        load(tiny)
    shutil.rmtree(folder)
    with pytest.raises(BadInput, match=f"neither is nor holds a folder {FOLDER}"):
        load(tiny)


def test_equal_files_are_told(tiny: tuple[Path, Path]) -> None:
    folder = tiny[1] / FOLDER / "ant"
    shutil.copy(folder / "image_0001.jpg", folder / "image_0002.jpg")
    with pytest.warns(UserWarning, match=r"1 times: ant/image_0001\.jpg = ant/image_0002\.jpg\."):
        load(tiny)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("file,class\n", r"test\.csv lists no image"),
        ("class,file\nant,ant/image_0001.jpg\n", "exactly the two columns file,class"),
        ("file,class\nant/image_0001.jpg,ant,1\n", "exactly the two columns file,class"),
        ("", r"test\.csv is not a table with the header file,class"),
        ("file,class\nant/image_0001.jpg,bee\n", "gives ant/image_0001.jpg the class 'bee'"),
    ],
)
def test_spoilt_index_file(tiny: tuple[Path, Path], content: str, sentence: str) -> None:
    (tiny[0] / "test.csv").write_text(content)
    with pytest.raises(BadInput, match=sentence):
        load(tiny)


def test_index_files_that_overlap_or_are_missing(tiny: tuple[Path, Path]) -> None:
    index_dir = tiny[0]
    shutil.copy(index_dir / "train.csv", index_dir / "test.csv")
    with pytest.raises(BadInput, match=r"twice \(train\.csv and test\.csv\); 21 such"):
        load(tiny)
    (index_dir / "test.csv").write_bytes(b"file,class\n\xff\xfe,ant\n")
    with pytest.raises(BadInput, match="not a table with the header"):
        load(tiny)
    (index_dir / "test.csv").unlink()
    with pytest.raises(BadInput, match=r"test\.csv is missing; `python -m .*make_caltech101"):
        load(tiny)
    with pytest.raises(BadInput, match="'dev'; known are: train, validation, test"):
        load(tiny, "dev")
