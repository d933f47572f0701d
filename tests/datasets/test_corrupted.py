"""Generated corruptions: the same every time, each image on its own, no side effects."""

import sys
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch

from vecaf_lib.datasets import ImageSet, load, load_lazily
from vecaf_lib.datasets.corrupted import CorruptedImages, Corruption, _Corruption
from vecaf_lib.errors import BadInput

DATA = Path(__file__).parents[2] / "data"
NAMES = get_args(Corruption)
UNCHANGED = ("saturate", 1)  # which only takes colour from what has none
CLEAN = load("digits", "test", image_size=32, data=DATA)


def corrupted(image_size: int = 32, split: str = "test", **options: Any) -> ImageSet:
    options = {"corruption": "gaussian_noise", "severity": 3} | options
    return load_lazily("corrupted", split, image_size=image_size, data=DATA, options=options)


def test_there_are_the_corruptions_of_the_library() -> None:
    corrupt_tta = pytest.importorskip("corrupt_tta")
    assert len(NAMES) == 19
    assert set(NAMES) == set(corrupt_tta.corruption_dict)


@pytest.mark.parametrize("name", NAMES)
def test_each_corruption(name: str) -> None:
    for severity in (1, 5):
        after = corrupted(corruption=name, severity=severity)
        assert after.ids[:2] == tuple(f"{i}+{name}-{severity}" for i in CLEAN.ids[:2])
        assert torch.equal(after.labels, CLEAN.labels)
        assert after.class_names == CLEAN.class_names
        assert tuple(after.images.shape) == (500, 3, 32, 32)
        pair = after.images[[7, 2]]
        assert pair.dtype == torch.uint8
        again = corrupted(corruption=name, severity=severity).images
        assert torch.equal(again[2], pair[1])  # whatever was made before, and beside it
        assert torch.equal(again[5:8][2], pair[0])
        assert torch.equal(pair[1], CLEAN.images[2]) == ((name, severity) == UNCHANGED)


@pytest.mark.parametrize("name", ["gaussian_noise", "impulse_noise", "frost", "glass_blur"])
def test_what_is_drawn_depends_on_the_seed_and_the_name_alone(name: str) -> None:
    same = corrupted(corruption=name).images
    other = corrupted(corruption=name, corruption_seed=1).images
    assert not torch.equal(same[0], other[0])
    grey = torch.full((2, 3, 32, 32), 90, dtype=torch.uint8)
    grey[:, :, 10:20, 5:15] = 200  # two equal images of different names
    draw = _Corruption(name, 3, 0)
    first, second = CorruptedImages(grey, ["a", "b"], draw)[:]
    assert not torch.equal(first, second)
    assert torch.equal(CorruptedImages(grey, ["b", "a"], draw)[1], first)


def test_the_strength_is_the_librarys() -> None:
    after = corrupted(corruption="brightness", severity=2)
    before = CLEAN.images[:20].float()
    change = after.images[:20].float() - before
    dark = before < 150
    assert (change[dark] - 0.2 * 255).abs().max() < 1  # the library adds 0.2 to the value in HSV


def test_taking_loading_and_threads_make_no_difference() -> None:
    whole = corrupted(corruption="snow").images
    at = [30, 4, 11]
    taken = corrupted(corruption="snow").subset(at)
    assert taken.ids[1].endswith("+snow-3")
    assert torch.equal(taken.images[:], whole[at])
    batches = list(whole.take(list(range(10))).split(4))
    assert torch.equal(torch.cat(batches), whole[:10])
    options = {"corruption": "contrast", "severity": 1}
    loaded = load("corrupted", "validation", image_size=32, data=DATA, options=options)
    assert isinstance(loaded.images, torch.Tensor)


@pytest.mark.parametrize("size", [33, 47, 64])
@pytest.mark.parametrize("name", ["zoom_blur", "snow", "fog", "elastic_transform", "pixelate"])
def test_odd_sizes(name: str, size: int) -> None:
    for severity in range(1, 6):
        image = corrupted(size, corruption=name, severity=severity).images[0]
        assert image.shape == (3, size, size)


def test_the_stream_is_not_numpys() -> None:
    images = corrupted(corruption="gaussian_noise").images
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    first = images[0]
    np.testing.assert_array_equal(np.random.get_state()[1], state)  # noqa: NPY002
    saved = np.random.get_state()  # noqa: NPY002
    np.random.seed(5)  # noqa: NPY002
    assert torch.equal(images[0], first)
    np.random.set_state(saved)  # noqa: NPY002


def test_corrupting_what_is_corrupted() -> None:
    inner = {"corruption": "contrast", "severity": 1}
    twice = corrupted(of="corrupted", of_options=inner, corruption="gaussian_blur", severity=2)
    assert twice.ids[0].endswith("+contrast-1+gaussian_blur-2")
    assert twice.images[0].shape == (3, 32, 32)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"corruption": "rain"}, r"dataset\.options\.corruption: 'rain' is wrong: .*gaussian"),
        ({"severity": 6}, r"dataset\.options\.severity: 6 is wrong: .*less than or equal to 5"),
        ({"severity": 0}, r"dataset\.options\.severity: 0 is wrong"),
        ({"corruption_seed": -1}, r"dataset\.options\.corruption_seed: -1 is wrong"),
        ({"of": "digit"}, "no data set called 'digit'; did you mean 'digits'"),
        ({"of_options": {"strong": True}}, r"strong is no option; known are: none"),
    ],
)
def test_wrong_options(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(BadInput, match=sentence):
        corrupted(**options)


def test_images_that_are_too_small() -> None:
    with pytest.raises(BadInput, match=r"image_size is 31 px; .* at least 32 px"):
        corrupted(31)


@pytest.mark.parametrize("absent", ["corrupt_tta", "cv2"])
def test_without_the_library(monkeypatch: pytest.MonkeyPatch, absent: str) -> None:
    monkeypatch.setitem(sys.modules, absent, None)
    monkeypatch.delitem(sys.modules, "corrupt_tta.corruptions", raising=False)
    with pytest.raises(BadInput, match=r"pip install corrupt-tta"):
        corrupted()
