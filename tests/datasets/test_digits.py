"""The digits: real images, fixed splits, and a sentence for each fault of an index file."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

from vecaf_lib.datasets import ImageSet, load
from vecaf_lib.datasets.digits import CLASS_NAMES, SPLITS
from vecaf_lib.datasets.digits import load as load_split
from vecaf_lib.datasets.make_digits_split import SIZES, make_split
from vecaf_lib.errors import BadInput

INDEX_DIR = Path(__file__).parents[2] / "data" / "digits"
DIGITS = load_digits()


@pytest.fixture
def index_dir(tmp_path: Path) -> Path:
    """A copy of the index files that a test may spoil."""
    for split in SPLITS:
        shutil.copy(INDEX_DIR / f"{split}.csv", tmp_path)
    return tmp_path


def digits(split: str = "train", image_size: int = 8, index_dir: Path = INDEX_DIR) -> ImageSet:
    return load_split(split, image_size=image_size, index_dir=index_dir)


def source_of(name: str) -> np.ndarray:
    return DIGITS.images[int(name.removeprefix("digits-"))]


def test_images_labels_and_ids() -> None:
    validation = digits("validation", image_size=32)
    assert validation.images.shape == (297, 3, 32, 32)
    assert validation.images.dtype == torch.uint8
    assert len(validation) == len(set(validation.ids)) == 297
    assert validation.class_names == CLASS_NAMES
    rows = [int(name.removeprefix("digits-")) for name in validation.ids]
    assert validation.ids[0] == f"digits-{rows[0]:04d}"
    np.testing.assert_array_equal(validation.labels, DIGITS.target[rows])


def test_source_size_gives_the_source_pixels() -> None:
    train = digits()
    expected = np.round([source_of(name) * 255 / 16 for name in train.ids])
    for channel in range(3):
        np.testing.assert_array_equal(train.images[:, channel], expected)


def test_enlarging_agrees_with_pillow() -> None:
    train = digits(image_size=32).subset(range(50))
    for name, image in zip(train.ids, train.images, strict=True):
        source = source_of(name) * 255 / 16
        # in float: Pillow's 8-bit path also clips between its two passes
        other = Image.fromarray(source.astype(np.float32)).resize(
            (32, 32), Image.Resampling.BICUBIC
        )
        expected = np.asarray(other).clip(0, 255)
        np.testing.assert_allclose(image[0], expected, atol=0.51)  # half a level: rounding


def test_splits_are_disjoint_complete_and_stratified() -> None:
    tables = {split: pd.read_csv(INDEX_DIR / f"{split}.csv") for split in SPLITS}
    assert {split: len(table) for split, table in tables.items()} == SIZES
    together = pd.concat(tables.values())
    assert sorted(together["index"]) == list(range(1797))
    overall = together["label"].value_counts(normalize=True)
    for table in tables.values():
        share = table["label"].value_counts(normalize=True)
        assert (share - overall).abs().max() < 1.5 / len(table)


def test_the_committed_splits_can_be_made_again(tmp_path: Path) -> None:
    make_split(tmp_path)
    for split in SPLITS:
        committed = (INDEX_DIR / f"{split}.csv").read_bytes()
        assert (tmp_path / f"{split}.csv").read_bytes() == committed


@pytest.mark.parametrize("indices", [[5, 2], torch.tensor([5, 2])])
def test_subset_keeps_the_given_order(indices: list[int] | torch.Tensor) -> None:
    train = digits()
    pair = train.subset(indices)
    assert pair.ids == (train.ids[5], train.ids[2])
    assert torch.equal(pair.images[1], train.images[2])
    assert torch.equal(pair.labels, train.labels[[5, 2]])


def test_an_image_set_agrees_with_itself() -> None:
    train = digits()
    with pytest.raises(BadInput, match="1000 images, 1000 labels and 999 ids"):
        ImageSet(train.images, train.labels, train.ids[1:], CLASS_NAMES)
    with pytest.raises(BadInput, match="more than once"):
        train.subset([1, 1])
    with pytest.raises(BadInput, match=r"outside 0\.\.8"):
        ImageSet(train.images, train.labels, train.ids, CLASS_NAMES[:9])


def test_wrong_names_and_sizes() -> None:
    with pytest.raises(BadInput, match=r"no data set called 'mnist'; known are: .*digits"):
        load("mnist", "train", image_size=32, data=INDEX_DIR.parent)
    with pytest.raises(BadInput, match="'dev'; known are: train, validation, test"):
        digits("dev")
    with pytest.raises(BadInput, match="image_size is 4 px; digits need at least 8 px"):
        digits(image_size=4)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("index,label\n0,0\n1797,1\n", r"lists image 1797, outside 0\.\.1796"),
        ("index,label\n-1,0\n", r"lists image -1, outside 0\.\.1796"),
        ("index,label\n0,0\n0,0\n", "lists image 0 twice"),
        ("index,label\n0,3\n", "gives image 0 the label 3, but scikit-learn's data say 0"),
        ("index,label\n", "lists no image"),
        ("", "not a table of whole numbers"),
        ("index,label\n0,zero\n", "not a table of whole numbers"),
        ("index,label\n0\n", "not a table of whole numbers"),
        ("label,index\n0,0\n", "exactly the two columns index,label"),
        ("index,label\n0,0,0\n", "exactly the two columns index,label"),
    ],
)
def test_spoilt_index_file(index_dir: Path, content: str, sentence: str) -> None:
    (index_dir / "test.csv").write_text(content)
    with pytest.raises(BadInput, match=sentence) as raised:
        digits(index_dir=index_dir)
    assert "test.csv" in str(raised.value)


def test_index_file_that_is_missing_or_not_text(index_dir: Path) -> None:
    (index_dir / "test.csv").write_bytes(b"index,label\n\xff\xfe\n")
    with pytest.raises(BadInput, match="not a table of whole numbers"):
        digits(index_dir=index_dir)
    (index_dir / "test.csv").unlink()
    with pytest.raises(BadInput, match=r"test\.csv is missing; `python -m .*make_digits_split"):
        digits(index_dir=index_dir)


def test_overlapping_splits(index_dir: Path) -> None:
    shutil.copy(index_dir / "validation.csv", index_dir / "test.csv")
    with pytest.raises(BadInput, match=r"validation\.csv and test\.csv share 297 images"):
        digits(index_dir=index_dir)
