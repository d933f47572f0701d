"""A captioner for machines without BLIP-2: the likeliest ImageNet classes, and how an image looks.

"A picture of a tabby, perhaps a tiger cat or an Egyptian cat; bright, low in contrast, soft, muted
in colour, mostly brown." The middle word of a measurement means the pool's middle third.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import timm
import torch
from jaxtyping import UInt8
from timm.data import ImageNetInfo, infer_imagenet_subset
from torch import Tensor

from vecaf_lib.captions import Captioner
from vecaf_lib.captions.attributes import WORDS as OF_MARKS
from vecaf_lib.captions.attributes import Thresholds, fit, word
from vecaf_lib.data.images import Images
from vecaf_lib.devices import AnyPrecision, autocast, resolve
from vecaf_lib.errors import BadInput
from vecaf_lib.models.vision import load_backbone, memory_format
from vecaf_lib.models.weights import weights_file, weights_identity
from vecaf_lib.options import Count

WORDS = {name: OF_MARKS[name] for name in ("brightness", "contrast", "sharpness")} | {
    "colourfulness": ("muted in colour", "moderately colourful", "colourful")
}
HUES = ("red", "orange", "yellow", "green", "turquoise", "blue", "purple", "pink")
HUE_ENDS = (15.0, 45.0, 70.0, 165.0, 195.0, 260.0, 300.0, 345.0)  # degrees; beyond the last: red
COLOURS = (*HUES, "black", "grey", "white", "brown", "beige")
_BARE = (
    "binoculars, broccoli, carbonara, cauliflower, chain mail, chocolate sauce, confectionery, "
    "corn, dough, eggnog, espresso, face powder, guacamole, hair spray, hay, ice cream, lotion, "
    "mashed potato, parallel bars, perfume, rapeseed, red wine, sunglasses, sunscreen, "
    "swimming trunks, thatch, toilet tissue, velvet, wool"
)
BARE = frozenset(_BARE.split(", "))  # names of ImageNet-1K that take no article
AN_DESPITE_SPELLING = ("hour", "honor", "heir")
A_DESPITE_SPELLING = ("eu", "ewe", "one-", "u-", "uku", "uni", "use", "usu", "ute", "uto")


class TagCaptioner(Captioner):
    """Names the ``top`` most probable ImageNet classes and the attributes of each image.

    ``model``, ``weights`` and ``precision`` are a timm classifier's, as of the vision model; it
    sees the images at their own size.
    """

    def __init__(
        self,
        *,
        pool_images: Images,
        device: str | torch.device = "cpu",
        model: str = "tf_efficientnet_lite0",
        weights: str = "package",
        top: Count = 3,
        precision: AnyPrecision = "float32",
    ) -> None:
        size = int(pool_images.shape[-1])
        with _of_captions():
            network = load_backbone(model, weights=weights, image_size=size)
            digest = weights_identity(model, weights)
        subset = infer_imagenet_subset(network) if network.num_classes else None
        if subset is None:
            raise BadInput(f"captions.options.model: {model} is no classifier of ImageNet.")
        # WordNet's first name of each class
        self._nouns = [text.split(",")[0] for text in ImageNetInfo(subset).label_descriptions()]
        self._model = network.to(device).eval().requires_grad_(False)
        cfg: Any = network.pretrained_cfg
        scale = 255.0 * torch.tensor([cfg["mean"], cfg["std"]], device=device)
        self._mean, self._std = scale.view(2, 1, 3, 1, 1)
        self._top, self._precision = top, resolve(device, precision)
        self._thresholds = fit(pool_images, measure)
        self.record = {
            "captioner": "tags",
            "model": model,
            "weights_sha256": digest,
            "image_size": size,
            "top": top,
            "precision": self._precision,
            "thresholds": self._thresholds,
            "versions": {"timm": timm.__version__, "torch": torch.__version__.split("+")[0]},
        }

    @staticmethod
    def locate(options: Mapping[str, Any], *, fetch: bool) -> Path:
        """The file of the classifier's weights."""
        with _of_captions():
            return weights_file(options["model"], options["weights"], fetch)

    @torch.inference_mode()
    def __call__(self, images: UInt8[Tensor, "b 3 h w"]) -> list[str]:
        """One sentence an image, [b], never empty."""
        device = self._mean.device
        pixels = (images.to(device).float() - self._mean) / self._std
        with autocast(device, self._precision):
            scores = self._model(pixels.contiguous(memory_format=memory_format(self._model)))
        # spare classes, because two of ImageNet's may bear one name (crane: the bird, the machine)
        ranked = scores.float().topk(min(2 * self._top, scores.shape[1])).indices  # (b, 2 top)
        nouns = [[self._nouns[index] for index in row] for row in ranked.tolist()]
        looks = describe(images, self._thresholds)
        return [sentence(*pair, top=self._top) for pair in zip(nouns, looks, strict=True)]


@contextmanager
def _of_captions() -> Iterator[None]:
    # sentences about the vision model's settings, said of the captioner's
    try:
        yield
    except BadInput as error:
        text = str(error).replace("dataset.", "captions.").replace("vision.name", "vision.model")
        raise BadInput(text.replace("vision.", "captions.options.")) from error


def with_article(noun: str) -> str:
    """The noun with "a" or "an" as it is spoken, or with neither where it takes none."""
    if noun in BARE:
        return noun
    lower = noun.lower()
    vowel = lower[0] in "aeiou" and not lower.startswith(A_DESPITE_SPELLING)
    return f"{'an' if vowel or lower.startswith(AN_DESPITE_SPELLING) else 'a'} {noun}"


def sentence(nouns: list[str], attributes: str, *, top: int) -> str:
    """A caption of the first ``top`` different nouns and of what ``describe`` says."""
    likeliest, *others = [with_article(noun) for noun in list(dict.fromkeys(nouns))[:top]]
    perhaps = " or ".join(filter(None, (", ".join(others[:-1]), *others[-1:])))
    return f"A picture of {likeliest}{f', perhaps {perhaps}' if perhaps else ''}; {attributes}."


def describe(images: UInt8[Tensor, "n 3 h w"], thresholds: Thresholds) -> list[str]:
    """ "bright, low in contrast, soft, muted in colour, mostly brown" of each image, [n]."""
    looks = zip(measure(images).to_dict("records"), colours(images), strict=True)
    return [
        ", ".join([*(word(row[name], thresholds[name], WORDS[name]) for name in WORDS), colour])
        for row, colour in looks
    ]


def measure(images: UInt8[Tensor, "n 3 h w"]) -> pd.DataFrame:
    """Mean and deviation of the luma (ITU-R BT.601), variance of its Laplacian over its own, and
    colourfulness (Hasler and Süsstrunk, 2003), in units of 0..1: [n, 4]."""
    red, green, blue = (images.double() / 255).unbind(1)  # (n, h, w)
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    spread = luma.std((1, 2), correction=0)  # (n,)
    inner = luma[:, 1:-1, 1:-1]
    laplacian = (
        luma[:, :-2, 1:-1] + luma[:, 2:, 1:-1] + luma[:, 1:-1, :-2] + luma[:, 1:-1, 2:] - 4 * inner
    )  # (n, h-2, w-2)
    sharpness = laplacian.var((1, 2), correction=0) / spread.square().clamp_min(1e-12)
    opponents = torch.stack([red - green, (red + green) / 2 - blue], dim=1)  # (n, 2, h, w)
    opposed = opponents.var((2, 3), correction=0).sum(1).sqrt()  # (n,)
    colourfulness = opposed + 0.3 * opponents.mean((2, 3)).norm(dim=1)
    table = torch.stack([luma.mean((1, 2)), spread, sharpness, colourfulness], dim=1)  # (n, 4)
    # in double precision and rounded, so that noise of the last bits never decides between words
    return pd.DataFrame(table.round(decimals=6).numpy(force=True), columns=list(WORDS))


def colours(images: UInt8[Tensor, "n 3 h w"]) -> list[str]:
    """ "mostly brown" where one colour (by HSV) has half of the pixels, else the commonest two."""
    rgb = images.float() / 255
    red, green, blue = rgb.unbind(1)  # (n, h, w)
    value = rgb.amax(1)
    chroma = value - rgb.amin(1)
    saturation, step = chroma / value.clamp_min(1e-6), chroma.clamp_min(1e-6)
    sector = torch.where(value == green, (blue - red) / step + 2, (red - green) / step + 4)
    sector = torch.where(value == red, ((green - blue) / step) % 6, sector)
    ends = torch.tensor(HUE_ENDS, device=images.device)
    hue = torch.bucketize(60 * sector, ends, right=True) % len(HUES)
    warm, reddish, colour = hue == HUES.index("orange"), hue == 0, hue.clone()
    for name, where in (
        ("brown", warm & (value < 0.75)),
        ("beige", warm & (value >= 0.75) & (saturation < 0.5)),
        ("brown", reddish & (value < 0.5)),
        ("pink", reddish & (value >= 0.7) & (saturation < 0.5)),
        ("grey", saturation < 0.15),
        ("white", (saturation < 0.15) & (value >= 0.8)),
        ("black", value < 0.2),
    ):
        colour[where] = COLOURS.index(name)
    phrases = []
    for pixels in colour.flatten(1):  # (h*w,)
        counts = pixels.bincount(minlength=len(COLOURS)).sort(descending=True, stable=True)
        one, two = (COLOURS[index] for index in counts.indices[:2].tolist())
        most = counts.values[0] >= len(pixels) / 2
        phrases.append(f"mostly {one}" if most else f"{one} and {two}")
    return phrases
