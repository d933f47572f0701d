"""The attribute captioner says what the pixels show, and knows nothing else."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage
from skimage.draw import disk, line
from torch import Tensor

from vecaf_lib.captions import with_class_name
from vecaf_lib.captions.attributes import NEUTRAL_AT_ZERO, WORDS, AttributeCaptioner, fit, measure
from vecaf_lib.data.images import ImageSet, ResizedImages
from vecaf_lib.data.load import load

DATA = Path(__file__).parents[2] / "data"


@pytest.fixture(scope="module")
def digits() -> ImageSet:
    return load("digits", "validation", image_size=32, data=DATA)


@pytest.fixture(scope="module")
def describe(digits: ImageSet) -> AttributeCaptioner:
    return AttributeCaptioner(pool_images=digits.images)


def picture(grey: np.ndarray) -> Tensor:
    """A batch of one from [h, w] in 0..255."""
    return torch.from_numpy(grey.astype(np.uint8)).expand(1, 3, -1, -1)


def stroke(top: int = 16, bottom: int = 16, *, width: int = 3, ink: int = 200) -> np.ndarray:
    """A stroke from column ``top`` of row 6 to column ``bottom`` of row 25."""
    mask = np.zeros((32, 32), dtype=bool)
    mask[line(6, top, 25, bottom)] = True
    if width > 1:
        mask = ndimage.binary_dilation(mask, np.ones((1, width)))
    return np.where(mask, ink, 0)


def ring(holes: int) -> np.ndarray:
    """A bar with as many round holes as asked."""
    grey = np.zeros((48, 48))
    grey[2:46, 18:30] = 255
    for number in range(holes):
        grey[disk((8 + 11 * number, 24), 4)] = 0
    return grey


def box(top: int, bottom: int, left: int, right: int) -> np.ndarray:
    grey = np.zeros((32, 32))
    grey[top:bottom, left:right] = 200
    return grey


DRAWN = {  # words -> a picture that they describe
    "A thin,": stroke(width=3),
    "right-leaning": stroke(top=24, bottom=8),
    "left-leaning": stroke(top=8, bottom=24),
    "in the centre": stroke(),
    "towards the bottom right": np.roll(stroke(), (5, 10), (0, 1)),
    " small,": box(12, 20, 12, 20),
    " large,": box(2, 30, 2, 30),
    "narrow": box(2, 30, 15, 18),
    "wide": box(14, 18, 1, 31),
    "top-heavy": np.maximum(stroke(), box(6, 10, 10, 22)),
    "bottom-heavy": np.maximum(stroke(), box(6, 10, 10, 22))[::-1].copy(),
    "heavier on the left": np.maximum(stroke(), box(6, 10, 10, 22)).T.copy(),
    "with no enclosed ": ring(0),
    "with one ": ring(1),
    "with several ": ring(4),
    " and sharp,": stroke(width=1),
}


@pytest.mark.parametrize("words", DRAWN)
def test_what_is_drawn_is_said(describe: AttributeCaptioner, words: str) -> None:
    assert words in describe(picture(DRAWN[words]))[0]


def test_light_and_contrast(digits: ImageSet, describe: AttributeCaptioner) -> None:
    one = digits.images[:1]
    lit = describe((one.float() / 2 + 120).to(torch.uint8))[0]
    assert ", bright, low in contrast" in lit
    assert ", dark, low in contrast" in describe(one // 3)[0]
    assert "high in contrast" in describe((one > 90).to(torch.uint8) * 255)[0]


def test_dark_ink_on_bright_ground_is_the_same_mark(digits: ImageSet) -> None:
    light, dark = measure(digits.images[:20]), measure(255 - digits.images[:20])
    same = [name for name in light if name != "brightness"]
    np.testing.assert_allclose(light[same], dark[same], atol=1e-3)
    np.testing.assert_allclose(light["brightness"], 1 - dark["brightness"], atol=1e-3)


def test_words_divide_the_pool(digits: ImageSet, describe: AttributeCaptioner) -> None:
    table, record = measure(digits.images), describe.record
    for name in set(WORDS) - set(NEUTRAL_AT_ZERO) - {"size"}:  # sizes are few, hence many ties
        low, high = record["thresholds"][name]
        assert (table[name] < low).mean() == pytest.approx(1 / 3, abs=0.02)
        assert (table[name] > high).mean() == pytest.approx(1 / 3, abs=0.02)
    assert len(set(describe(digits.images))) > 0.8 * len(digits)
    assert record == json.loads(json.dumps(record))
    assert record != AttributeCaptioner(pool_images=digits.images[:50]).record


def test_slant_and_position_are_where_the_mark_is() -> None:
    slopes = measure(picture(stroke(top=24, bottom=8)))["slant"]
    assert slopes[0] == pytest.approx(16 / 19, rel=0.05)  # columns per row
    grey = np.pad(stroke(top=20, bottom=10), 8)
    still = measure(picture(grey))
    moved = measure(picture(np.roll(grey, (4, -6), (0, 1))))
    changed = [name for name in still if not np.allclose(still[name], moved[name], atol=1e-5)]
    assert changed == ["position_x", "position_y"]
    assert moved["position_x"][0] == pytest.approx(still["position_x"][0] - 6 / 48, abs=1e-6)
    assert moved["position_y"][0] == pytest.approx(still["position_y"][0] + 4 / 48, abs=1e-6)


def test_labels_never_influence_captions(digits: ImageSet, describe: AttributeCaptioner) -> None:
    shuffled = replace(digits, labels=digits.labels.roll(31))
    assert not torch.equal(shuffled.labels, digits.labels)
    other = AttributeCaptioner(pool_images=shuffled.images)
    captions = describe(digits.images)
    assert other.record == describe.record
    assert other(shuffled.images) == captions
    assert not any("class" in text for text in captions)
    named = with_class_name(captions, digits.labels, digits.class_names)
    assert named != with_class_name(captions, shuffled.labels, digits.class_names)


@pytest.mark.parametrize("value", [0, 128, 255])
def test_constant_images(digits: ImageSet, value: int) -> None:
    constant = picture(np.full((32, 32), value))
    text = AttributeCaptioner(pool_images=digits.images[:50], subject="shape")(constant)[0]
    assert text.startswith("A blank picture without a visible shape,")
    assert ("bright" if value else "dark") in text
    own = AttributeCaptioner(pool_images=constant)  # a pool of blank images is a pool too
    assert own(constant)[0].startswith("A blank picture")
    assert own(picture(stroke()))[0].startswith("A bold,")


def test_of_a_large_lazy_pool_only_evenly_spaced_images_are_used() -> None:
    grey = (torch.arange(5000) * 255 // 5000).to(torch.uint8)  # darkest first
    pool = ResizedImages(grey.view(-1, 1, 1, 1).expand(-1, 3, 4, 4), 4)
    sizes: list[int] = []
    thirds = fit(pool, lambda images: sizes.append(len(images)) or measure(images))["brightness"]
    assert thirds == pytest.approx([1 / 3, 2 / 3], abs=0.01)
    assert sum(sizes) == 2000


@given(
    arrays(np.uint8, st.tuples(st.integers(1, 3), st.just(3), st.integers(1, 9), st.integers(1, 9)))
)
def test_any_image_gets_a_caption(images: np.ndarray) -> None:
    batch = torch.from_numpy(images)
    for text in AttributeCaptioner(pool_images=batch)(batch):
        assert text.startswith("A ")
        assert not any(fault in text for fault in ("nan", "  "))
