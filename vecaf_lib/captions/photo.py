"""Attributes of photographs, measured over a whole batch at once and put into words.

==============  ====================================================================  ============
measurement     what it is                                                            thirds of
==============  ====================================================================  ============
brightness      mean luma (ITU-R BT.601), 0..1                                        the pool
contrast        standard deviation of the luma                                        the pool
sharpness       variance of the Laplacian / variance of the luma                      the pool
colourfulness   Hasler and Süsstrunk (2003), in units of 0..1                         the pool
colour          the commonest of eleven named colours, by hue, saturation and value   (a name)
==============  ====================================================================  ============
"""

import pandas as pd
import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from vecaf_lib.captions.captioner import Images
from vecaf_lib.errors import BadInput

WORDS = {
    "brightness": ("dark", "moderately bright", "bright"),
    "contrast": ("low in contrast", "moderate in contrast", "high in contrast"),
    "sharpness": ("soft", "fairly crisp", "sharp"),
    "colourfulness": ("muted in colour", "moderately colourful", "colourful"),
}
HUES = ("red", "orange", "yellow", "green", "turquoise", "blue", "purple", "pink")
HUE_ENDS = (15.0, 45.0, 70.0, 165.0, 195.0, 260.0, 300.0, 345.0)  # degrees; beyond the last: red
COLOURS = (*HUES, "black", "grey", "white", "brown", "beige")
MEASURED_AT_ONCE = 64  # images
Pairs = dict[str, tuple[float, float]]


def measure(images: UInt8[Tensor, "n 3 h w"]) -> Float[Tensor, "n 4"]:
    """Brightness, contrast, sharpness and colourfulness, as in ``WORDS``.

    In double precision and rounded, so that noise of the last bits never decides between words.
    """
    red, green, blue = (images.double() / 255).unbind(1)  # (n, h, w)
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    spread = luma.std((1, 2), correction=0)  # (n,)
    inner = luma[:, 1:-1, 1:-1]
    laplacian = (
        luma[:, :-2, 1:-1] + luma[:, 2:, 1:-1] + luma[:, 1:-1, :-2] + luma[:, 1:-1, 2:] - 4 * inner
    )  # (n, h-2, w-2)
    sharpness = laplacian.var((1, 2), correction=0) / spread.square().clamp_min(1e-12)
    opponents = torch.stack([red - green, (red + green) / 2 - blue], dim=1)  # (n, 2, h, w)
    variety = opponents.var((2, 3), correction=0).sum(1).sqrt()
    colourfulness = variety + 0.3 * opponents.mean((2, 3)).norm(dim=1)
    return torch.stack([luma.mean((1, 2)), spread, sharpness, colourfulness], dim=1).round(
        decimals=6
    )


def dominant_colours(images: UInt8[Tensor, "n 3 h w"]) -> list[str]:
    """ "mostly brown" where one colour holds half of the pixels, else the commonest two."""
    named = colour_of_pixels(images).flatten(1)  # (n, h*w)
    counts = torch.zeros(len(images), len(COLOURS), dtype=torch.int64, device=images.device)
    counts.scatter_add_(1, named, torch.ones_like(named))
    order = counts.sort(dim=1, descending=True, stable=True)
    half = named.shape[1] / 2
    return [
        f"mostly {COLOURS[first]}" if count >= half else f"{COLOURS[first]} and {COLOURS[second]}"
        for (first, second, *_), (count, *_) in zip(
            order.indices.tolist(), order.values.tolist(), strict=True
        )
    ]


def colour_of_pixels(images: UInt8[Tensor, "n 3 h w"]) -> Int64[Tensor, "n h w"]:
    """Index into ``COLOURS`` of each pixel, by its hue, saturation and value (HSV)."""
    rgb = images.float() / 255
    value, low = rgb.amax(1), rgb.amin(1)  # (n, h, w)
    chroma = value - low
    saturation = chroma / value.clamp_min(1e-6)
    red, green, blue = rgb.unbind(1)
    sector = torch.where(
        value == red,
        ((green - blue) / chroma.clamp_min(1e-6)) % 6,
        torch.where(
            value == green,
            (blue - red) / chroma.clamp_min(1e-6) + 2,
            (red - green) / chroma.clamp_min(1e-6) + 4,
        ),
    )
    ends = torch.tensor(HUE_ENDS, device=images.device)
    named = torch.bucketize(60 * sector, ends, right=True) % len(HUES)
    index = {colour: position for position, colour in enumerate(COLOURS)}
    warm, red_hue = named == index["orange"], named == index["red"]
    named[warm & (value < 0.75)] = index["brown"]
    named[warm & (value >= 0.75) & (saturation < 0.5)] = index["beige"]
    named[red_hue & (value < 0.5)] = index["brown"]
    named[red_hue & (value >= 0.7) & (saturation < 0.5)] = index["pink"]
    neutral = saturation < 0.15
    named[neutral] = index["grey"]
    named[neutral & (value >= 0.8)] = index["white"]
    named[value < 0.2] = index["black"]
    return named


def fit(images: Images) -> Pairs:
    """For each measurement the two values that part the pool into thirds.

    Raises:
        BadInput: the pool is empty.
    """
    if len(images) == 0:
        raise BadInput("Caption thresholds need a reference pool of at least one image.")
    measured = torch.cat([measure(part) for part in images.split(MEASURED_AT_ONCE)])  # (n, 4)
    table = pd.DataFrame(measured.numpy(), columns=list(WORDS))
    return {
        name: (float(table[name].quantile(1 / 3)), float(table[name].quantile(2 / 3)))
        for name in WORDS
    }


def describe(images: UInt8[Tensor, "n 3 h w"], thresholds: Pairs) -> list[str]:
    """ "bright, low in contrast, soft, muted in colour, mostly brown" of each image, [n]."""
    return [
        ", ".join([*(_word(name, x, thresholds) for name, x in zip(WORDS, row, strict=True)), hue])
        for row, hue in zip(measure(images).tolist(), dominant_colours(images), strict=True)
    ]


def _word(name: str, value: float, thresholds: Pairs) -> str:
    low, high = thresholds[name]
    return WORDS[name][1 + int(value > high) - int(value < low)]
