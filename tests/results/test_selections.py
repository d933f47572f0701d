"""What is said of selections, against values worked out by hand."""

import math

import numpy as np
import pytest
from cells import cell
from matplotlib.figure import Figure

from vecaf_lib.errors import BadInput
from vecaf_lib.results.compare import save

NAMES = cell("45_selections.ipynb", "def coverage", "def out_of_fold", np=np)
class_entropy, coverage, jaccard = NAMES["class_entropy"], NAMES["coverage"], NAMES["jaccard"]
margins, out_of_fold = NAMES["margins"], NAMES["out_of_fold"]


def test_overlap_and_margin():
    assert margins(np.array([[0.5, 0.2, 0.3], [0.1, 0.1, 0.8]])) == pytest.approx([0.2, 0.7])
    assert jaccard(np.array([1, 2, 3]), np.array([3, 4, 5])) == pytest.approx(20)
    assert jaccard(np.array([1, 2]), np.array([2, 1])) == 100
    assert jaccard(np.array([1]), np.array([2])) == 0


def test_entropy_of_classes():
    assert class_entropy(np.array([0, 1, 2]), 3) == pytest.approx(1)
    assert class_entropy(np.array([1, 1, 1]), 3) == 0
    quarter = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25)) / math.log(4)
    assert class_entropy(np.array([0, 0, 0, 3]), 4) == pytest.approx(quarter)


def test_coverage():
    unit = np.array([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8], [-1.0, 0.0]])
    # nearest of rows 0 and 1: cosines 1, 1, 0.8 and 0 (with row 1)
    assert coverage(unit, np.array([0, 1])) == pytest.approx((0 + 0 + 0.2 + 1) / 4)
    assert coverage(unit, np.arange(4)) == pytest.approx(0, abs=1e-6)


def test_a_large_pool_is_covered_at_evenly_spaced_images(monkeypatch):
    monkeypatch.setitem(NAMES, "COVERED", 2)
    unit = np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [1.0, 0.0]])
    assert coverage(unit, np.array([0])) == pytest.approx(0.5)  # of images 0 and 2


def clusters() -> tuple[np.ndarray, np.ndarray]:
    """Three tight clusters of 20 in 3 dimensions."""
    labels = np.arange(60) % 3
    noise = 0.05 * np.random.default_rng(0).standard_normal((60, 3))
    return np.eye(3)[labels] + noise, labels


def test_a_mislabelled_image_is_doubted_and_no_other():
    embeddings, labels = clusters()
    labels[[7, 20]] = (labels[[7, 20]] + 1) % 3
    doubted = out_of_fold(embeddings, labels).argmax(1) != labels
    assert np.flatnonzero(doubted).tolist() == [7, 20]


def test_out_of_fold_predictions_are_not_those_of_a_model_that_saw_the_label():
    noise = np.random.default_rng(1).standard_normal((60, 40))  # separable if one may look
    labels = np.arange(60) % 2
    right = (out_of_fold(noise, labels).argmax(1) == labels).mean()
    assert right < 0.75
    assert np.array_equal(out_of_fold(noise, labels), out_of_fold(noise, labels))


def test_a_class_that_cannot_be_held_out_is_left_out():
    embeddings, labels = clusters()
    with_one = np.insert(labels, 4, 7), np.insert(embeddings, 4, 9.0, axis=0)
    with pytest.warns(UserWarning, match="1 classes with one image .* class 7"):
        found = out_of_fold(with_one[1], with_one[0])
    assert np.isnan(found[4]).all()
    assert np.isnan(margins(found)[4])
    others = np.delete(found, 4, axis=0)
    assert np.array_equal(others[:, :3], out_of_fold(embeddings, labels))
    assert not others[:, 3].any()
    with pytest.raises(BadInput, match=r"labels.*at least two classes of two"):
        out_of_fold(np.ones((3, 2)), np.array([0, 0, 1]))


def test_equal_figures_are_equal_bytes(tmp_path):
    for folder in ("a", "b"):
        figure = Figure()
        figure.add_subplot().plot([1, 2])
        save(figure, tmp_path / folder / "figure3", "One line.")
    for ending in ("png", "pdf", "txt"):
        a, b = ((tmp_path / folder / f"figure3.{ending}").read_bytes() for folder in "ab")
        assert a == b
    assert b == b"One line.\n"
