"""An attribute captioner: each image is measured, each measurement becomes a word.

It stands in for a captioning model (the paper uses BLIP-2, section 1) where none is at hand. It
sees pixels only, never labels. The mark is what Otsu's threshold parts from the background, the
background being the side that holds most of the image border. A measurement is compared with
the same one over a reference pool (`fit`), so that the words divide that pool:

=====================  ========================================================  =================
measurement            what it is (lengths relative to the image)                 words, low to high
=====================  ========================================================  =================
stroke_weight          area / length of the skeleton / image side                thin .. bold
size                   area of the mark's bounding box                            small .. large
proportion             log of horizontal over vertical spread (moments)           narrow .. wide
brightness             mean grey                                                  dark .. bright
contrast               standard deviation of grey                                 low .. high
sharpness              variance of the Laplacian / variance of grey               soft .. sharp
slant                  shift to the right per row upwards (moments)               left .. right
position_x, _y         middle of the mark's bounding box, from the image centre   left .., top ..
balance_x, _y          centre of mass, from the middle of that box                left .., top ..
=====================  ========================================================  =================

The first six have no neutral value: the middle word means the pool's middle third. The other
five do (0): the middle word means the third of the pool nearest to 0, and the outer words keep
their literal sense. Enclosed holes are counted. Thresholds suit images of the size they were
fitted on, since sharpness changes with it.
"""

from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd
from jaxtyping import UInt8
from torch import Tensor

from vecaf_lib.captions.measures import measure
from vecaf_lib.errors import BadInput

NEUTRAL_AT_ZERO = ("slant", "position_x", "position_y", "balance_x", "balance_y")

WORDS = {
    "stroke_weight": ("thin", "medium-weight", "bold"),
    "size": ("small", "mid-sized", "large"),
    "proportion": ("narrow", "evenly proportioned", "wide"),
    "brightness": ("dark", "moderately bright", "bright"),
    "contrast": ("low in contrast", "moderate in contrast", "high in contrast"),
    "sharpness": ("soft", "fairly crisp", "sharp"),
    "slant": ("left-leaning", "upright", "right-leaning"),
    "position_x": ("left", "", "right"),
    "position_y": ("top", "", "bottom"),
    "balance_x": ("heavier on the left", "", "heavier on the right"),
    "balance_y": ("top-heavy", "", "bottom-heavy"),
}
HOLES = ("no enclosed hole", "one enclosed hole", "two enclosed holes", "several enclosed holes")


@dataclass(frozen=True)
class Thresholds:
    """For each measurement the two values that part its three words, (low, high).

    ``dataclasses.asdict`` gives the form for JSON, ``from_json`` reads it back.

    Raises:
        BadInput: a pair is not two finite numbers in rising order.
    """

    stroke_weight: tuple[float, float]
    size: tuple[float, float]
    proportion: tuple[float, float]
    brightness: tuple[float, float]
    contrast: tuple[float, float]
    sharpness: tuple[float, float]
    slant: tuple[float, float]
    position_x: tuple[float, float]
    position_y: tuple[float, float]
    balance_x: tuple[float, float]
    balance_y: tuple[float, float]

    def __post_init__(self) -> None:
        for name, (low, high) in asdict(self).items():
            if not -np.inf < low <= high < np.inf:
                raise BadInput(
                    f"The caption thresholds of {name} are {low} and {high}; they must be two "
                    "finite numbers, the lower one first."
                )

    @classmethod
    def from_json(cls, content: dict[str, list[float]]) -> "Thresholds":
        """Read back what ``asdict`` and JSON made.

        Raises:
            BadInput: a measurement is missing or unknown, or its pair is wrong.
        """
        if set(content) != set(WORDS):
            wrong = ", ".join(sorted(set(content) ^ set(WORDS)))
            raise BadInput(f"The caption thresholds are missing or unknown for: {wrong}.")
        for name, pair in content.items():
            if len(pair) != 2:
                raise BadInput(f"The caption thresholds of {name} are {pair}; give two numbers.")
        return cls(**{name: (float(low), float(high)) for name, (low, high) in content.items()})


def fit(images: UInt8[Tensor, "n 3 h w"]) -> Thresholds:
    """Take the thresholds from a reference pool, e.g. the training images.

    Images without a mark count for brightness, contrast and sharpness only.

    Raises:
        BadInput: the pool is empty.
    """
    if len(images) == 0:
        raise BadInput("Caption thresholds need a reference pool of at least one image.")
    table = measure(images)
    pairs: dict[str, tuple[float, float]] = {}
    for name in WORDS:
        column = table[name].dropna()
        if column.empty:
            pairs[name] = (0.0, 0.0)
        elif name in NEUTRAL_AT_ZERO:
            edge = float(column.abs().quantile(1 / 3))
            pairs[name] = (0.0 - edge, edge)  # never -0.0
        else:
            pairs[name] = (float(column.quantile(1 / 3)), float(column.quantile(2 / 3)))
    return Thresholds(**pairs)


def describe(
    images: UInt8[Tensor, "n 3 h w"], thresholds: Thresholds, *, subject: str = "handwritten mark"
) -> list[str]:
    """One sentence an image, [n], never empty; ``subject`` names what the images show."""
    table, pairs = measure(images), asdict(thresholds)
    return [_sentence(row, pairs, subject) for _, row in table.iterrows()]


def _sentence(row: pd.Series, pairs: dict[str, tuple[float, float]], subject: str) -> str:
    word = {
        name: words[1 + int(row[name] > pairs[name][1]) - int(row[name] < pairs[name][0])]
        for name, words in WORDS.items()
    }
    light = f"{word['brightness']}, {word['contrast']} and {word['sharpness']}"
    if np.isnan(row["holes"]):
        return f"A blank picture without a visible {subject}, {light}."
    place = " ".join(filter(None, (word["position_y"], word["position_x"])))
    place = f"towards the {place}" if place else "in the centre"
    balance = " and ".join(filter(None, (word["balance_y"], word["balance_x"])))
    return (
        f"A {word['stroke_weight']}, {word['slant']}, {word['size']}, {word['proportion']} "
        f"{subject} {place}, {light}, {balance or 'evenly balanced'}, with "
        f"{HOLES[min(int(row['holes']), len(HOLES) - 1)]}."
    )
