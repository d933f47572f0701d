"""The tag captioner says what a pretrained classifier sees and how an image looks, and no label."""

import itertools
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from skimage import data
from torch import Tensor, nn
from torch.nn.functional import interpolate

from vecaf_lib.captions import locate, make
from vecaf_lib.captions.attributes import fit
from vecaf_lib.captions.tags import (
    BARE,
    TagCaptioner,
    colours,
    describe,
    measure,
    sentence,
    with_article,
)
from vecaf_lib.errors import BadInput
from vecaf_lib.models import weights

# isort: split
import timm  # after vecaf_lib, which makes torchvision importable
from torchvision.transforms.functional import center_crop


def square(array: np.ndarray, size: int = 224) -> Tensor:
    image = torch.from_numpy(array).permute(2, 0, 1)[None]
    crop = center_crop(image, [min(image.shape[2:])]).float()
    return interpolate(crop, (size, size), mode="bicubic", antialias=True).clamp(0, 255).byte()


@pytest.fixture(scope="module")
def cat() -> Tensor:
    return square(data.chelsea(), 64)


@pytest.fixture(scope="module")
def photographs() -> Tensor:
    return torch.cat([square(data.chelsea()), square(data.coffee()), square(data.astronaut())])


def fresh() -> nn.Module:
    """timm's test_vit, of random weights, which tells 1,000 classes apart."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return timm.create_model("test_vit").eval()


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tags") / "tiny.pth"
    torch.save(fresh().state_dict(), path)
    return path


def tags(pool: Tensor, **options: Any) -> TagCaptioner:
    made = make("tags", pool_images=pool, options=options, device="cpu")
    assert isinstance(made, TagCaptioner)
    return made


def test_what_the_packaged_classifier_sees(photographs: Tensor) -> None:
    captioner = tags(photographs)
    cat, coffee, _ = captioner(photographs)
    assert cat.startswith("A picture of an Egyptian cat, perhaps a tiger cat or a tabby; bright, ")
    assert cat.endswith(", mostly brown.")
    assert coffee.startswith("A picture of espresso, perhaps a cup or ")
    one = tags(photographs, top=1, precision="bfloat16")
    assert one(photographs[:1])[0].startswith("A picture of an Egyptian cat; ")
    assert one.record != captioner.record


def test_the_names_are_those_of_the_highest_scores(tiny: Path, photographs: Tensor) -> None:
    pixels = interpolate(photographs.float(), (160, 160), mode="bicubic", antialias=True)
    images = pixels.clamp(0, 255).byte()
    captioner = tags(images, model="test_vit", weights=str(tiny), top=4)
    model, names = fresh(), captioner._nouns
    assert set(names) >= BARE
    mean, std = (torch.tensor(model.pretrained_cfg[k]).view(3, 1, 1) for k in ("mean", "std"))
    scores = model((images / 255 - mean) / std)
    captions = captioner(images)
    for caption, row in zip(captions, scores, strict=True):
        a, b, c, d = [with_article(names[at]) for at in row.argsort(descending=True)[:4]]
        assert caption.startswith(f"A picture of {a}, perhaps {b}, {c} or {d}; ")
    assert captions == [captioner(image[None])[0] for image in images]
    record = captioner.record
    assert record == json.loads(json.dumps(record))
    torch.save({k: v + 1e-3 for k, v in model.state_dict().items()}, tiny.with_name("other.pth"))
    other = tags(images, model="test_vit", weights=str(tiny.with_name("other.pth")), top=4).record
    assert {k for k in record if record[k] != other[k]} == {"weights_sha256"}


UNUSABLE = {  # its setting, how it is called in the settings
    "model": ("test_vat", "captions.options.model"),
    "weights": ("absent.pth", "captions.options.weights"),
    "image_size": (100, "captions.image_size"),
}


@pytest.mark.parametrize("setting", UNUSABLE)
def test_what_it_cannot_use_names_its_own_settings(
    tiny: Path, photographs: Tensor, setting: str
) -> None:
    value, place = UNUSABLE[setting]
    options: dict[str, Any] = {"model": "test_vit", "weights": str(tiny)} | {setting: value}
    size = options.pop("image_size", 224)
    with pytest.raises(BadInput, match=f"^{re.escape(place)}: "):
        tags(photographs[..., :size, :size], **options)


def test_what_is_at_hand(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert locate("tags", {}).is_file()
    assert locate("tags", {"model": "test_vit", "weights": str(tiny)}) == tiny
    with pytest.raises(BadInput, match=r"^captions\.options\.weights: no package carries"):
        locate("tags", {"model": "test_vit"})
    fetched: list[str] = []
    monkeypatch.setattr(weights, "fetch", lambda what: fetched.append(what.repository) or tiny)
    locate("tags", {}, fetch=True)
    locate("tags", {"weights": "hub"}, fetch=True)
    assert fetched == ["timm/tf_efficientnet_lite0.in1k"]


PHRASES = (
    "a tabby, an Egyptian cat, an iPod, an hourglass, a honeycomb, a unicycle, an umbrella, "
    "an upright, a European gallinule, an EntleBucher, a yawl, sunglasses, hay"
)


@pytest.mark.parametrize("phrase", PHRASES.split(", "))
def test_articles(phrase: str) -> None:
    assert with_article(phrase.removeprefix("an ").removeprefix("a ")) == phrase


def test_two_classes_of_one_name_are_named_once() -> None:
    text = "A picture of a crane, perhaps a tench or a goldfish; dark."
    assert sentence(["crane", "crane", "tench", "goldfish", "gar"], "dark", top=3) == text


def flat(*rgb: int) -> Tensor:
    return torch.tensor(rgb, dtype=torch.uint8).view(1, 3, 1, 1).expand(1, 3, 8, 8)


def test_measures_against_a_loop_over_pixels(cat: Tensor) -> None:
    rgb = cat[0].double() / 255
    luma = [
        [float(0.299 * r + 0.587 * g + 0.114 * b) for r, g, b in row.tolist()]
        for row in rgb.permute(1, 2, 0)
    ]
    values = torch.tensor(luma, dtype=torch.float64)
    inner = itertools.product(range(1, 63), repeat=2)
    edges = torch.tensor(
        [sum(luma[y][x + d] + luma[y + d][x] - 2 * luma[y][x] for d in (-1, 1)) for y, x in inner]
    )
    spread = float(((values - values.mean()) ** 2).mean())
    measures = measure(cat).iloc[0]
    assert measures["brightness"] == pytest.approx(float(values.mean()), abs=1e-5)
    assert measures["contrast"] == pytest.approx(spread**0.5, abs=1e-5)
    assert measures["sharpness"] == pytest.approx(float(edges.var(correction=0)) / spread, abs=1e-5)
    grey, red = measure(torch.cat([flat(9, 9, 9), flat(255, 0, 0)])).to_dict("records")
    assert grey["sharpness"] == grey["colourfulness"] == 0
    assert red["colourfulness"] == pytest.approx(0.3 * 1.25**0.5, abs=1e-6)  # norm of (1, 1/2)


COLOURED = {
    "red": [(255, 0, 0), (255, 0, 20)],
    "orange": [(255, 140, 0)],
    "brown": [(120, 70, 20), (90, 20, 10)],
    "beige": [(230, 200, 160)],
    "yellow": [(250, 240, 0)],
    "green": [(20, 150, 30)],
    "turquoise": [(0, 200, 200)],
    "blue": [(40, 60, 220)],
    "purple": [(130, 20, 200)],
    "pink": [(255, 0, 150), (250, 180, 190)],
    "black": [(5, 5, 20)],
    "grey": [(128, 128, 130)],
    "white": [(250, 250, 245)],
}


@pytest.mark.parametrize("colour", COLOURED)
def test_colours(colour: str) -> None:
    assert {colours(flat(*rgb))[0] for rgb in COLOURED[colour]} == {f"mostly {colour}"}
    stripes = torch.cat([flat(255, 0, 0)] * 3 + [flat(0, 0, 255)] * 4 + [flat(255, 255, 255)] * 2)
    image = stripes.permute(1, 0, 2, 3).reshape(1, 3, 72, 8)
    assert colours(image) == ["blue and red"]  # none holds half


def test_the_words_part_the_pool_into_thirds() -> None:
    pool = torch.cat([flat(level, level, level) for level in range(0, 180, 2)])
    texts = describe(pool, fit(pool, measure))
    words = ["dark"] * 30 + ["moderately bright"] * 30 + ["bright"] * 30
    assert [text.split(",")[0] for text in texts] == words
    rest = "moderate in contrast, fairly crisp, moderately colourful, mostly black"
    assert texts[0] == f"dark, {rest}"
