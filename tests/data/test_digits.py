"""The digits: real images, fixed splits, and index files that are spoilt."""

from pathlib import Path
from runpy import run_path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from vecaf_lib.data.digits import CLASS_NAMES, load
from vecaf_lib.data.images import ImageSet
from vecaf_lib.data.load import SPLITS
from vecaf_lib.errors import BadInput

INDEX_DIR = Path(__file__).parents[2] / "data" / "digits"
DIGITS = load_digits()


def digits(split: str = "train", image_size: int = 8, index_dir: Path = INDEX_DIR) -> ImageSet:
    return load(split, image_size=image_size, index_dir=index_dir)


def test_images_labels_and_ids() -> None:
    validation = digits("validation", image_size=32)
    assert validation.images.shape == (297, 3, 32, 32)
    rows = [int(name.removeprefix("digits-")) for name in validation.ids]
    np.testing.assert_array_equal(validation.labels, DIGITS.target[rows])

    train = digits()
    rows = [int(name.removeprefix("digits-")) for name in train.ids]
    expected = np.round(DIGITS.images[rows] * 255 / 16)
    for channel in range(3):
        np.testing.assert_array_equal(train.images[:, channel], expected)


def test_an_image_set_agrees_with_itself() -> None:
    train = digits()
    with pytest.raises(BadInput, match="999 ids"):
        ImageSet(train.images, train.labels, train.ids[1:], CLASS_NAMES)
    with pytest.raises(BadInput, match="2 ids, 1 different"):
        train.subset([1, 1])
    with pytest.raises(BadInput, match=r"outside 0\.\.8"):
        ImageSet(train.images, train.labels, train.ids, CLASS_NAMES[:9])


def test_the_committed_splits_can_be_made_again(tmp_path: Path) -> None:
    make = run_path(str(INDEX_DIR.with_name("make_splits.py")))["digits"]
    make(tmp_path)
    for name in SPLITS:
        committed = (INDEX_DIR / f"{name}.csv").read_bytes()
        assert (tmp_path / f"{name}.csv").read_bytes() == committed
    make(tmp_path, seed=1)
    assert (tmp_path / "test.csv").read_bytes() != (INDEX_DIR / "test.csv").read_bytes()


def test_an_index_that_is_not_of_these_digits(tmp_path: Path) -> None:
    for split in SPLITS:
        (tmp_path / f"{split}.csv").write_text("index,label\n2,3\n")
    with pytest.raises(BadInput, match=r"'label': .*3.* is not in scikit-learn"):
        digits(index_dir=tmp_path)
