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

from dataclasses import asdict
from importlib.metadata import version
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import UInt8
from torch import Tensor

from vecaf_lib.captions.captioner import Captioner, Images, evenly
from vecaf_lib.captions.measures import measure
from vecaf_lib.captions.words import HOLES, NEUTRAL_AT_ZERO, WORDS, Thresholds
from vecaf_lib.errors import BadInput

MEASURED_AT_ONCE = 100  # images


class AttributeCaptioner(Captioner):
    """Measures each image and words the measurements; thresholds from a sample of the pool.

    Args:
        pool_images: the pool, of which at most 2,000 evenly spaced images are measured.
        subject: names what the images show.
    """

    def __init__(self, *, pool_images: Images, subject: str = "handwritten mark") -> None:
        self._subject = subject
        self._thresholds = fit(evenly(pool_images))

    def record(self) -> dict[str, Any]:
        """The subject, the thresholds, and the libraries that measure."""
        return {
            "captioner": "attributes",
            "subject": self._subject,
            "thresholds": {name: list(pair) for name, pair in asdict(self._thresholds).items()},
            "versions": {name: version(name) for name in ("scikit-image", "scipy")},
        }

    def __call__(self, images: UInt8[Tensor, "b 3 h w"]) -> list[str]:
        """One sentence an image, [b], never empty."""
        return describe(images, self._thresholds, subject=self._subject)


def fit(images: Images) -> Thresholds:
    """Take the thresholds from a reference pool, e.g. the training images.

    Images without a mark count for brightness, contrast and sharpness only.

    Raises:
        BadInput: the pool is empty.
    """
    if len(images) == 0:
        raise BadInput("Caption thresholds need a reference pool of at least one image.")
    parts = images.split(MEASURED_AT_ONCE)
    table = pd.concat([measure(part) for part in parts])
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
