"""Attributes of photographs: each measure moves as its name says, alone or in a batch."""

import pytest
import torch
from skimage import data
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate

from vecaf_lib.captions import photo
from vecaf_lib.errors import BadInput

NAMES = list(photo.WORDS)


def flat(*rgb: int) -> Tensor:
    return torch.tensor(rgb, dtype=torch.uint8).view(1, 3, 1, 1).expand(1, 3, 8, 8)


@pytest.fixture(scope="module")
def cat() -> Tensor:
    image = torch.from_numpy(data.chelsea()).permute(2, 0, 1)[None, :, :, 75:375].float()
    return interpolate(image, (64, 64), mode="bicubic", antialias=True).clamp(0, 255).byte()


def measured(image: Tensor) -> dict[str, float]:
    return dict(zip(NAMES, photo.measure(image)[0].tolist(), strict=True))


def test_measures_against_a_loop_over_pixels(cat: Tensor) -> None:
    rgb = cat[0].double() / 255
    luma = [
        [float(0.299 * r + 0.587 * g + 0.114 * b) for r, g, b in row.tolist()]
        for row in rgb.permute(1, 2, 0)
    ]
    values = torch.tensor(luma, dtype=torch.float64)
    edges = torch.tensor(
        [
            luma[y - 1][x] + luma[y + 1][x] + luma[y][x - 1] + luma[y][x + 1] - 4 * luma[y][x]
            for y in range(1, 63)
            for x in range(1, 63)
        ]
    )
    spread = float(((values - values.mean()) ** 2).mean())
    found = measured(cat)
    assert found["brightness"] == pytest.approx(float(values.mean()), abs=1e-5)
    assert found["contrast"] == pytest.approx(spread**0.5, abs=1e-5)
    assert found["sharpness"] == pytest.approx(float(edges.var(correction=0)) / spread, abs=1e-5)


def test_each_measure_follows_what_it_is_named_after(cat: Tensor) -> None:
    plain = measured(cat)
    assert measured(cat // 2)["brightness"] == pytest.approx(plain["brightness"] / 2, abs=0.01)
    middle = cat.float().mean()
    weak = ((cat.float() - middle) / 2 + middle).byte()
    assert measured(weak)["contrast"] == pytest.approx(plain["contrast"] / 2, abs=0.01)
    soft = avg_pool2d(cat.float(), 3, 1, 1, count_include_pad=False).byte()
    assert measured(soft)["sharpness"] < plain["sharpness"] / 2
    grey = cat.float().mean(1, keepdim=True).expand(-1, 3, -1, -1).byte()
    assert measured(grey)["colourfulness"] == 0 < plain["colourfulness"]
    red = measured(flat(255, 0, 0))["colourfulness"]  # by hand: 0.3 * norm of (1, 1/2)
    assert red == pytest.approx(0.3 * 1.25**0.5, abs=1e-6)
    assert measured(flat(9, 9, 9))["sharpness"] == 0


@pytest.mark.parametrize(
    ("rgb", "colour"),
    [
        ((255, 0, 0), "red"),
        ((255, 0, 20), "red"),
        ((255, 140, 0), "orange"),
        ((120, 70, 20), "brown"),
        ((90, 20, 10), "brown"),
        ((230, 200, 160), "beige"),
        ((250, 240, 0), "yellow"),
        ((20, 150, 30), "green"),
        ((0, 200, 200), "turquoise"),
        ((40, 60, 220), "blue"),
        ((130, 20, 200), "purple"),
        ((255, 0, 150), "pink"),
        ((250, 180, 190), "pink"),
        ((5, 5, 20), "black"),
        ((128, 128, 130), "grey"),
        ((250, 250, 245), "white"),
    ],
)
def test_colours(rgb: tuple[int, int, int], colour: str) -> None:
    assert photo.dominant_colours(flat(*rgb)) == [f"mostly {colour}"]


def test_two_colours_where_none_holds_half() -> None:
    stripes = torch.cat([flat(255, 0, 0)] * 3 + [flat(0, 0, 255)] * 4 + [flat(255, 255, 255)] * 2)
    image = stripes.permute(1, 0, 2, 3).reshape(1, 3, 72, 8)
    assert photo.dominant_colours(image) == ["blue and red"]


def test_the_words_part_the_pool_into_thirds() -> None:
    pool = torch.cat([flat(level, level, level) for level in range(0, 180, 2)])
    texts = photo.describe(pool, photo.fit(pool))
    assert [text.split(",")[0] for text in texts] == (
        ["dark"] * 30 + ["moderately bright"] * 30 + ["bright"] * 30
    )
    assert texts[0].startswith("dark, moderate in contrast, fairly crisp, ")
    assert texts[0].endswith(", moderately colourful, mostly black")


def test_a_batch_is_described_as_its_images_are(cat: Tensor) -> None:
    images = torch.cat([cat, cat.flip(3) // 2, cat.roll(1, 1), 255 - cat])
    thresholds = photo.fit(images)
    assert photo.describe(images, thresholds) == [
        photo.describe(image[None], thresholds)[0] for image in images
    ]


def test_an_empty_pool_is_refused(cat: Tensor) -> None:
    with pytest.raises(BadInput, match="at least one image"):
        photo.fit(cat[:0])
