"""The attribute captioner says what the pixels show, and knows nothing else."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage
from skimage.draw import disk, ellipse, line
from torch import Tensor

from vecaf_lib.captions import (
    Thresholds,
    describe,
    fit,
    measure,
    part_of,
    with_class_name,
    with_domain,
)
from vecaf_lib.captions.attributes import AttributeCaptioner
from vecaf_lib.captions.words import NEUTRAL_AT_ZERO, WORDS
from vecaf_lib.datasets import ImageSet, load
from vecaf_lib.datasets.lazy import ResizedImages
from vecaf_lib.errors import BadInput

DATA = Path(__file__).parents[2] / "data"


@pytest.fixture(scope="module")
def digits() -> ImageSet:
    return load("digits", "validation", image_size=32, data=DATA)


@pytest.fixture(scope="module")
def thresholds(digits: ImageSet) -> Thresholds:
    return fit(digits.images)


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


def caption(grey: np.ndarray, thresholds: Thresholds) -> str:
    return describe(picture(grey), thresholds)[0]


def test_stroke_weight(thresholds: Thresholds) -> None:
    assert caption(stroke(width=3), thresholds).startswith("A thin,")
    assert caption(stroke(width=15), thresholds).startswith("A bold,")


def test_thickening_a_real_digit_makes_it_bold(digits: ImageSet, thresholds: Thresholds) -> None:
    grey = digits.images[:40, 0].numpy()
    thick = torch.from_numpy(ndimage.grey_dilation(grey, size=(1, 7, 7)))[:, None].repeat(
        1, 3, 1, 1
    )
    before = measure(digits.images[:40])["stroke_weight"]
    assert (measure(thick)["stroke_weight"] > before).all()
    assert sum("bold" in text for text in describe(thick, thresholds)) >= 38


def test_slant(thresholds: Thresholds) -> None:
    assert "right-leaning" in caption(stroke(top=24, bottom=8), thresholds)
    assert "left-leaning" in caption(stroke(top=8, bottom=24), thresholds)
    assert "upright" in caption(stroke(), thresholds)


def test_slant_is_the_shear(thresholds: Thresholds) -> None:
    slopes = measure(picture(stroke(top=24, bottom=8)))["slant"]
    assert slopes[0] == pytest.approx(16 / 19, rel=0.05)  # columns per row


def test_position(thresholds: Thresholds) -> None:
    centred = stroke()
    assert "in the centre" in caption(centred, thresholds)
    assert "towards the left" in caption(np.roll(centred, -10, axis=1), thresholds)
    assert "towards the right" in caption(np.roll(centred, 10, axis=1), thresholds)
    assert "towards the top" in caption(np.roll(centred, -5, axis=0), thresholds)
    assert "towards the bottom right" in caption(np.roll(centred, (5, 10), (0, 1)), thresholds)


def test_moving_the_mark_changes_nothing_but_its_position() -> None:
    grey = np.pad(stroke(top=20, bottom=10), 8)
    still = measure(picture(grey))
    moved = measure(picture(np.roll(grey, (4, -6), (0, 1))))
    changed = [name for name in still if not np.allclose(still[name], moved[name], atol=1e-5)]
    assert changed == ["position_x", "position_y"]
    assert moved["position_x"][0] == pytest.approx(still["position_x"][0] - 6 / 48, abs=1e-6)
    assert moved["position_y"][0] == pytest.approx(still["position_y"][0] + 4 / 48, abs=1e-6)


def test_size_and_proportion(thresholds: Thresholds) -> None:
    small, tall, wide = np.zeros((3, 32, 32))
    small[ellipse(16, 16, 4, 4)] = 255
    tall[2:30, 15:18] = 255
    wide[14:18, 1:31] = 255
    assert "small" in caption(small, thresholds)
    assert "large" in caption(255 - np.pad(np.zeros((28, 28)), 2, constant_values=255), thresholds)
    assert "narrow" in caption(tall, thresholds)
    assert "wide" in caption(wide, thresholds)


def test_balance(thresholds: Thresholds) -> None:
    grey = stroke()
    grey[6:10, 10:22] = 200  # a bar at the top
    assert "top-heavy" in caption(grey, thresholds)
    assert "bottom-heavy" in caption(grey[::-1].copy(), thresholds)
    assert "heavier on the left" in caption(grey.T.copy(), thresholds)
    assert "heavier on the right" in caption(grey.T[:, ::-1].copy(), thresholds)


@pytest.mark.parametrize(
    ("count", "words"), [(0, "no enclosed"), (1, "one"), (2, "two"), (4, "several")]
)
def test_enclosed_holes(thresholds: Thresholds, count: int, words: str) -> None:
    assert f"with {words} " in caption(ring(count), thresholds)


def test_light_and_contrast(digits: ImageSet, thresholds: Thresholds) -> None:
    one = digits.images[:1]
    lit = describe((one.float() / 2 + 120).to(torch.uint8), thresholds)[0]
    assert ", bright, low in contrast" in lit
    assert ", dark, low in contrast" in describe(one // 3, thresholds)[0]
    assert "high in contrast" in describe((one > 90).to(torch.uint8) * 255, thresholds)[0]


def test_blurring_makes_soft(digits: ImageSet, thresholds: Thresholds) -> None:
    grey = digits.images[:40, 0].numpy().astype(float)
    blurred = ndimage.gaussian_filter(grey, sigma=(0, 3, 3)).astype(np.uint8)
    batch = torch.from_numpy(blurred)[:, None].repeat(1, 3, 1, 1)
    assert all(" and soft," in text for text in describe(batch, thresholds))
    assert (measure(batch)["sharpness"] < measure(digits.images[:40])["sharpness"]).all()
    assert " and sharp," in caption(stroke(width=1), thresholds)


def test_fading_an_image_changes_its_contrast_not_its_sharpness(digits: ImageSet) -> None:
    images = digits.images[:20] // 2 * 2
    plain, faded = measure(images), measure(images // 2)
    np.testing.assert_allclose(faded["contrast"], plain["contrast"] / 2, rtol=0.01)
    np.testing.assert_allclose(faded["sharpness"], plain["sharpness"], rtol=0.01)


def test_dark_ink_on_bright_ground_is_the_same_mark(digits: ImageSet) -> None:
    light, dark = measure(digits.images[:20]), measure(255 - digits.images[:20])
    same = [name for name in light if name != "brightness"]
    np.testing.assert_allclose(light[same], dark[same], atol=1e-3)
    np.testing.assert_allclose(light["brightness"], 1 - dark["brightness"], atol=1e-3)


def test_words_divide_the_pool(digits: ImageSet, thresholds: Thresholds) -> None:
    table, pairs = measure(digits.images), asdict(thresholds)
    for name in set(WORDS) - set(NEUTRAL_AT_ZERO) - {"size"}:  # sizes are few, hence many ties
        low, high = pairs[name]
        assert (table[name] < low).mean() == pytest.approx(1 / 3, abs=0.02)
        assert (table[name] > high).mean() == pytest.approx(1 / 3, abs=0.02)
    assert len(set(describe(digits.images, thresholds))) > 0.8 * len(digits)


def test_labels_never_influence_captions(digits: ImageSet, thresholds: Thresholds) -> None:
    shuffled = replace(digits, labels=digits.labels.roll(31))
    assert not torch.equal(shuffled.labels, digits.labels)
    assert fit(shuffled.images) == thresholds
    captions = describe(digits.images, thresholds)
    assert describe(shuffled.images, thresholds) == captions
    assert not any("class" in text for text in captions)
    told = with_class_name(captions, digits.labels, digits.class_names)
    assert told != with_class_name(captions, shuffled.labels, digits.class_names)
    for text, plain, label in zip(told, captions, digits.labels.tolist(), strict=True):
        assert text == f"{plain} It shows the class {digits.class_names[label]}."


def test_parts_of_captions() -> None:
    captions = ["A picture of a cat, perhaps a dog; dark, soft.", "A picture of a cup; bright."]
    assert part_of(captions, "whole") == captions
    nouns = ["A picture of a cat, perhaps a dog.", "A picture of a cup."]
    assert part_of(captions, "nouns") == nouns
    looks = ["A picture that is dark, soft.", "A picture that is bright."]
    assert part_of(captions, "attributes") == looks
    with pytest.raises(BadInput, match=r"caption_part: 'nouns' needs .* 'a cat' has none"):
        part_of([captions[0], "a cat"], "nouns")


def test_each_image_is_described_on_its_own(digits: ImageSet, thresholds: Thresholds) -> None:
    forwards = describe(digits.images[:20], thresholds)
    assert describe(digits.images[:20].flip(0), thresholds) == forwards[::-1]
    assert describe(digits.images[7:8], thresholds) == forwards[7:8]


@pytest.mark.parametrize("value", [0, 128, 255])
def test_constant_images(thresholds: Thresholds, value: int) -> None:
    constant = picture(np.full((32, 32), value))
    text = describe(constant, thresholds, subject="shape")[0]
    assert text.startswith("A blank picture without a visible shape,")
    assert ("bright" if value else "dark") in text
    own = fit(constant)  # a pool of blank images is a pool too
    assert describe(constant, own)[0].startswith("A blank picture")
    assert describe(picture(stroke()), own)[0].startswith("A bold,")


@settings(max_examples=60, deadline=None)
@given(
    arrays(np.uint8, st.tuples(st.integers(1, 3), st.just(3), st.integers(1, 9), st.integers(1, 9)))
)
def test_any_image_gets_a_caption(images: np.ndarray) -> None:
    batch = torch.from_numpy(images)
    for text in describe(batch, fit(batch)):
        assert text.startswith("A ")
        assert text.endswith(".")
        assert "nan" not in text
        assert "  " not in text


def test_thresholds_survive_json(thresholds: Thresholds) -> None:
    assert Thresholds.from_json(json.loads(json.dumps(asdict(thresholds)))) == thresholds


@pytest.mark.parametrize("pair", [(2.0, 1.0), (0.0, float("nan")), (0.0, float("inf"))])
def test_wrong_thresholds(thresholds: Thresholds, pair: tuple[float, float]) -> None:
    with pytest.raises(BadInput, match=r"thresholds of slant are .* two finite numbers"):
        replace(thresholds, slant=pair)


def test_the_captioner_describes_by_the_pools_own_thresholds(
    digits: ImageSet, thresholds: Thresholds
) -> None:
    captioner = AttributeCaptioner(pool_images=digits.images)
    assert captioner(digits.images[:9]) == describe(digits.images[:9], thresholds)
    record = captioner.record()
    assert record == json.loads(json.dumps(record))
    assert Thresholds.from_json(record["thresholds"]) == thresholds
    assert record != AttributeCaptioner(pool_images=digits.images[:50]).record()
    shape = AttributeCaptioner(pool_images=digits.images, subject="shape")
    assert "shape" in shape(digits.images[:1])[0]
    assert shape.record() != record


def test_of_a_large_lazy_pool_only_a_sample_is_made() -> None:
    made: list[int] = []

    class Numbered(ResizedImages):
        def _make(self, positions: list[int]) -> Tensor:
            made.append(len(positions))
            return super()._make(positions)

        def take(self, indices: Tensor) -> "Numbered":
            return Numbered(super().take(indices)._images, 4)

    grey = (torch.arange(5000) * 255 // 5000).to(torch.uint8)  # darkest first
    pool = Numbered(grey.view(-1, 1, 1, 1).expand(-1, 3, 4, 4), 4)
    low, high = AttributeCaptioner(pool_images=pool).record()["thresholds"]["brightness"]
    assert sum(made) == 2000
    assert max(made) <= 100
    assert (low, high) == pytest.approx((1 / 3, 2 / 3), abs=0.01)  # from all of the pool


def test_wrong_thresholds_in_json(thresholds: Thresholds) -> None:
    content = {name: list(pair) for name, pair in asdict(thresholds).items()}
    with pytest.raises(BadInput, match=r"thresholds of slant are \[1\.0\]; give two numbers"):
        Thresholds.from_json(content | {"slant": [1.0]})
    del content["slant"]
    with pytest.raises(BadInput, match="missing or unknown for: colour, slant"):
        Thresholds.from_json(content | {"colour": [0.0, 1.0]})


def test_an_empty_pool_is_refused(digits: ImageSet, thresholds: Thresholds) -> None:
    with pytest.raises(BadInput, match="at least one image"):
        fit(digits.images[:0])
    assert describe(digits.images[:0], thresholds) == []


def test_prompts() -> None:
    captions = ["A cat.", "a dog on a mat ", "Is it?"]
    labels = torch.tensor([0, 1, 0])
    assert with_domain(captions, "It's a snowy day.") == [
        "A cat. It's a snowy day.",
        "a dog on a mat. It's a snowy day.",
        "Is it? It's a snowy day.",
    ]
    assert with_class_name(captions, labels, ("cat", "dog"))[1] == (
        "a dog on a mat. It shows the class dog."
    )
    with pytest.raises(BadInput, match="target domain's sentence is empty"):
        with_domain(captions, " ")
    with pytest.raises(BadInput, match="3 captions but 2 labels"):
        with_class_name(captions, labels[:2], ("cat", "dog"))
    with pytest.raises(BadInput, match="Label 1 has no class name"):
        with_class_name(captions, labels, ("cat",))
