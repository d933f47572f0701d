"""The tag captioner names what a pretrained classifier sees, in English, and no label."""

import json
from pathlib import Path

import pytest
import torch
from skimage import data
from torch import Tensor, nn
from torch.nn.functional import interpolate

from vecaf_lib.captions import available, make
from vecaf_lib.captions.nouns import BARE, class_nouns, with_article
from vecaf_lib.captions.tags import TagCaptioner, _sentence
from vecaf_lib.errors import BadInput

# isort: split
import timm  # after vecaf_lib, which makes torchvision importable


def square(array: object, size: int = 224) -> Tensor:
    image = torch.from_numpy(array).permute(2, 0, 1)[None]  # type: ignore[arg-type]
    height, width = image.shape[2:]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    crop = image[:, :, top : top + side, left : left + side].float()
    return interpolate(crop, (size, size), mode="bicubic", antialias=True).clamp(0, 255).byte()


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


def test_what_the_packaged_classifier_sees(photographs: Tensor) -> None:
    captioner = make("tags", pool_images=photographs)
    cat, coffee, _ = captioner(photographs)
    assert cat.startswith("A picture of an Egyptian cat, perhaps a tiger cat or a tabby; bright, ")
    assert cat.endswith(", mostly brown.")
    assert coffee.startswith("A picture of espresso, perhaps a cup or ")
    # the same at half the size, if the classifier sees it enlarged
    small = interpolate(photographs.float(), (112, 112), mode="area").byte()
    enlarging = make("tags", pool_images=small, options={"image_size": 224})
    assert enlarging(small)[0].startswith("A picture of an Egyptian cat, ")
    as_it_comes = make("tags", pool_images=small)
    assert as_it_comes.record()["image_size"] == 112
    assert as_it_comes(small) != enlarging(small)
    one = make("tags", pool_images=photographs, options={"top": 1, "precision": "bfloat16"})
    assert one(photographs[:1])[0].startswith("A picture of an Egyptian cat; ")
    assert one.record() != captioner.record()


def test_the_names_are_those_of_the_highest_scores(tiny: Path, photographs: Tensor) -> None:
    options = {"model": "test_vit", "weights": str(tiny), "top": 4, "image_size": 160}
    captioner = TagCaptioner(pool_images=photographs, **options)  # type: ignore[arg-type]
    model = fresh()
    names = class_nouns(model, "test_vit")
    pixels = interpolate(photographs.float(), (160, 160), mode="bicubic", antialias=True)
    mean, std = (torch.tensor(model.pretrained_cfg[k]).view(3, 1, 1) for k in ("mean", "std"))
    scores = model((pixels.clamp(0, 255) / 255 - mean) / std)
    for caption, row in zip(captioner(photographs), scores, strict=True):
        a, b, c, d = [with_article(names[at]) for at in row.argsort(descending=True)[:4]]
        assert caption.startswith(f"A picture of {a}, perhaps {b}, {c} or {d}; ")
    record = captioner.record()
    assert record == json.loads(json.dumps(record))
    assert record["image_size"] == 160
    torch.save({k: v + 1e-3 for k, v in model.state_dict().items()}, tiny.with_name("other.pth"))
    options["weights"] = str(tiny.with_name("other.pth"))
    other = TagCaptioner(pool_images=photographs, **options).record()  # type: ignore[arg-type]
    assert {k for k in record if record[k] != other[k]} == {"weights_sha256"}


def test_a_batch_is_captioned_as_its_images_are(tiny: Path, photographs: Tensor) -> None:
    captioner = TagCaptioner(pool_images=photographs, model="test_vit", weights=str(tiny))
    assert captioner(photographs) == [captioner(image[None])[0] for image in photographs]


@pytest.mark.parametrize(
    ("noun", "phrase"),
    [
        ("tabby", "a tabby"),
        ("Egyptian cat", "an Egyptian cat"),
        ("iPod", "an iPod"),
        ("hourglass", "an hourglass"),
        ("honeycomb", "a honeycomb"),
        ("unicycle", "a unicycle"),
        ("umbrella", "an umbrella"),
        ("upright", "an upright"),
        ("European gallinule", "a European gallinule"),
        ("EntleBucher", "an EntleBucher"),
        ("yawl", "a yawl"),
        ("sunglasses", "sunglasses"),
        ("hay", "hay"),
    ],
)
def test_articles(noun: str, phrase: str) -> None:
    assert with_article(noun) == phrase


def test_names_without_an_article_are_imagenets() -> None:
    assert set(class_nouns(fresh(), "test_vit")) >= BARE


def test_two_classes_of_one_name_are_named_once(tiny: Path, photographs: Tensor) -> None:
    captioner = TagCaptioner(pool_images=photographs, model="test_vit", weights=str(tiny))
    crane, machine = (at for at, noun in enumerate(captioner._nouns) if noun == "crane")
    assert captioner._likeliest([crane, machine, 0, 1]) == ["crane", "tench", "goldfish"]
    assert _sentence(["tench"], "dark") == "A picture of a tench; dark."


def test_what_is_no_imagenet_classifier(tiny: Path, photographs: Tensor) -> None:
    class Ten(nn.Module):
        num_classes = 10

    with pytest.raises(BadInput, match=r"captions.options.model: ten tells 10 classes apart"):
        class_nouns(Ten(), "ten")
    with pytest.raises(BadInput, match=r"^captions.options.model: timm has no model 'test_vat'"):
        TagCaptioner(pool_images=photographs, model="test_vat")
    with pytest.raises(
        BadInput, match=r"^captions.options.image_size: test_vit cannot take .* 100"
    ):
        TagCaptioner(pool_images=photographs, model="test_vit", weights=str(tiny), image_size=100)
    with pytest.raises(BadInput, match=r"^captions.options.weights: .*absent.pth is not a file"):
        TagCaptioner(pool_images=photographs, weights=str(tiny.with_name("absent.pth")))


def test_what_is_at_hand(tiny: Path) -> None:
    assert available("tags") is None
    assert available("attributes", {"subject": "shape"}) is None
    assert available("tags", {"model": "test_vit", "weights": str(tiny)}) is None
    absent = available("tags", {"model": "test_vit"})
    assert absent is not None
    assert absent.startswith("captions.options.weights: no package carries")
    assert "captions.options.tops is no option" in str(available("tags", {"tops": 2}))
    assert available(str(tiny.with_name("c.csv"))) == (
        f"captions.source: there is no file {tiny.with_name('c.csv')}."
    )
