"""Caltech-101: the committed split, and folders that do not fit it."""

import shutil
from pathlib import Path
from runpy import run_path

import pandas as pd
import pytest
from PIL import Image

from vecaf_lib.data import caltech101
from vecaf_lib.data.caltech101 import FOLDER
from vecaf_lib.data.images import ImageSet
from vecaf_lib.data.load import SPLITS
from vecaf_lib.errors import BadInput

INDEX_DIR = Path(__file__).parents[2] / "data" / "caltech101"
make_split = run_path(str(INDEX_DIR.with_name("make_splits.py")))["caltech101"]


def test_the_committed_split_is_complete_and_can_be_made_again(tmp_path: Path) -> None:
    tables = {split: pd.read_csv(INDEX_DIR / f"{split}.csv") for split in SPLITS}
    together = pd.concat(tables.values())
    assert len(together) == together["file"].nunique() == 9144
    for file in together["file"]:
        (tmp_path / "images" / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "images" / file).touch()
    make_split(tmp_path, tmp_path / "images")
    for split in SPLITS:
        committed = (INDEX_DIR / f"{split}.csv").read_bytes()
        assert (tmp_path / f"{split}.csv").read_bytes() == committed


@pytest.fixture
def tiny(tmp_path: Path) -> tuple[Path, Path]:
    """Three classes of ten images and their index files."""
    names = ["BACKGROUND_Google", "car_side", "ant"]
    files = [f"{name}/image_{number:04d}.jpg" for name in names for number in range(1, 11)]
    for place, file in enumerate(files):
        path = tmp_path / "raw" / FOLDER / file
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (12, 10), (place * 8, 0, 0)).save(path, quality=100)
    make_split(tmp_path / "index", tmp_path / "raw" / FOLDER)
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
            red = ((1 - place) * 10 + 10 + int(name[-6:-4]) - 1) * 8
            assert abs(int(image[0, 4, 4]) - red) <= 2


def test_the_background_is_a_parameter_and_the_folder_may_be_deeper(
    tiny: tuple[Path, Path],
) -> None:
    root = tiny[1]
    assert len(load((tiny[0], root / FOLDER))) == 14
    (root / "caltech-101").mkdir()
    (root / FOLDER).rename(root / "caltech-101" / FOLDER)
    data = load(tiny, background=True)
    assert data.class_names == ("BACKGROUND Google", "ant", "car side")
    assert data.labels.bincount().tolist() == [7, 7, 7]


def test_missing_images(tiny: tuple[Path, Path]) -> None:
    folder = tiny[1] / FOLDER
    for number in (2, 3, 4, 5):
        (folder / "ant" / f"image_{number:04d}.jpg").unlink()
    with pytest.raises(BadInput, match=r"lacks 4 of the 20 .*ant/image_0002\.jpg"):
        load(tiny)
    shutil.rmtree(folder)
    with pytest.raises(BadInput, match=f"neither is nor holds a folder {FOLDER}"):
        load(tiny)
