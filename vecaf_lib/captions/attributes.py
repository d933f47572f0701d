"""An attribute captioner, for machines without BLIP-2: each measurement becomes a word.

The mark is what Otsu's threshold parts from the background, the side that holds most of the image
border. The middle word of a measurement means the middle third of the pool or, where 0 is neutral,
the third nearest to 0, so that the outer words keep their literal sense.
"""

from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import UInt8
from scipy import ndimage
from skimage.color import rgb2gray
from skimage.filters import threshold_otsu
from skimage.measure import moments_central
from skimage.morphology import skeletonize
from skimage.util import img_as_ubyte
from torch import Tensor

from vecaf_lib.captions import Captioner
from vecaf_lib.data.images import Images

Thresholds = dict[str, list[float]]  # the two values that part a measurement's three words
WORDS = {  # of each measurement, low to high; lengths are relative to the image
    "stroke_weight": ("thin", "medium-weight", "bold"),  # area / length of the skeleton
    "size": ("small", "mid-sized", "large"),  # area of the mark's bounding box
    "proportion": ("narrow", "evenly proportioned", "wide"),  # log of x over y spread (moments)
    "brightness": ("dark", "moderately bright", "bright"),  # mean grey
    "contrast": ("low in contrast", "moderate in contrast", "high in contrast"),  # its deviation
    "sharpness": ("soft", "fairly crisp", "sharp"),  # variance of the Laplacian / of grey
    "slant": ("left-leaning", "upright", "right-leaning"),  # shift to the right per row upwards
    "position_x": ("left", "", "right"),  # middle of the bounding box, from the image centre
    "position_y": ("top", "", "bottom"),
    "balance_x": ("heavier on the left", "", "heavier on the right"),  # mass, from that middle
    "balance_y": ("top-heavy", "", "bottom-heavy"),
}
NEUTRAL_AT_ZERO = ("slant", "position_x", "position_y", "balance_x", "balance_y")
HOLES = ("no enclosed hole", "one enclosed hole", "two enclosed holes", "several enclosed holes")
SMALLEST_HOLE = 1 / 256  # of the image area: 4 px of 32 x 32
FEWEST_GREY_LEVELS = 4  # of 256: an image that spans fewer holds no visible mark
REFERENCE_IMAGES = 2000  # enough for thirds of a measurement; a large pool is not decoded whole
MEASURED_AT_ONCE = 64  # images


class AttributeCaptioner(Captioner):
    """Measures each image and words the measurements; ``subject`` names what images show."""

    def __init__(
        self, *, pool_images: Images, device: Any = None, subject: str = "handwritten mark"
    ) -> None:
        self._subject, self._thresholds = subject, fit(pool_images, measure)
        self.record = {
            "captioner": "attributes",
            "subject": subject,
            "thresholds": self._thresholds,
            "versions": {name: version(name) for name in ("scikit-image", "scipy")},
        }

    def __call__(self, images: UInt8[Tensor, "b 3 h w"]) -> list[str]:
        """One sentence an image, [b], never empty."""
        rows = measure(images).to_dict("records")
        return [_sentence(row, self._thresholds, self._subject) for row in rows]


def fit(images: Images, measure: Callable[[Tensor], pd.DataFrame]) -> Thresholds:
    """Thresholds that part evenly spaced images of a pool into thirds; 0, 0 for unmeasured."""
    size = min(len(images), REFERENCE_IMAGES)
    sample = torch.arange(size) * len(images) // size
    table = pd.concat([measure(images[at]) for at in sample.split(MEASURED_AT_ONCE)])
    pairs = {}
    for name in table.columns.drop("holes", errors="ignore"):
        column = table[name].fillna(0.0) if table[name].isna().all() else table[name]
        edge = float(column.abs().quantile(1 / 3))
        low, high = float(column.quantile(1 / 3)), float(column.quantile(2 / 3))
        pairs[name] = [0.0 - edge, edge] if name in NEUTRAL_AT_ZERO else [low, high]
    return pairs


def word(value: float, thresholds: Sequence[float], words: tuple[str, str, str]) -> str:
    """The word for a value: low, middle or high."""
    return words[1 + int(value > thresholds[1]) - int(value < thresholds[0])]


def _sentence(row: dict[Any, float], thresholds: Thresholds, subject: str) -> str:
    phrase = {name: word(row[name], thresholds[name], words) for name, words in WORDS.items()}
    light = f"{phrase['brightness']}, {phrase['contrast']} and {phrase['sharpness']}"
    if np.isnan(row["holes"]):
        return f"A blank picture without a visible {subject}, {light}."
    place = " ".join(filter(None, (phrase["position_y"], phrase["position_x"])))
    place = f"towards the {place}" if place else "in the centre"
    balance = " and ".join(filter(None, (phrase["balance_y"], phrase["balance_x"])))
    return (
        f"A {phrase['stroke_weight']}, {phrase['slant']}, {phrase['size']}, {phrase['proportion']} "
        f"{subject} {place}, {light}, {balance or 'evenly balanced'}, with "
        f"{HOLES[min(int(row['holes']), len(HOLES) - 1)]}."
    )


def measure(images: UInt8[Tensor, "n 3 h w"]) -> pd.DataFrame:
    """The measurements of each image, [n, 12]; those of the mark are NaN where there is none."""
    rows = [_measure_one(image) for image in images.permute(0, 2, 3, 1).cpu().numpy()]  # (n,h,w,3)
    # rounded, so that noise of the last bits never decides between two words
    return pd.DataFrame(rows, columns=[*WORDS, "holes"], dtype=float).round(6)


def _measure_one(rgb: UInt8[np.ndarray, "h w 3"]) -> dict[str, float]:
    grey = img_as_ubyte(rgb2gray(rgb))  # (h, w)
    unit = grey / 255
    variance = unit.var()
    light = {
        "brightness": unit.mean(),
        "contrast": unit.std(),
        "sharpness": ndimage.laplace(unit).var() / variance if variance > 0 else 0.0,
    }
    if int(grey.max()) - int(grey.min()) < FEWEST_GREY_LEVELS:
        return light
    mark = grey > threshold_otsu(grey)
    border = np.concatenate([mark[0], mark[-1], mark[1:-1, 0], mark[1:-1, -1]])
    if border.mean() > 0.5:  # dark on bright
        mark, unit = ~mark, 1 - unit
    weight, (height, width) = np.where(mark, unit, 0.0), mark.shape
    rows, columns = ndimage.find_objects(mark.astype(int))[0]  # the bounding box
    box_height, box_width = rows.stop - rows.start, columns.stop - columns.start
    y, x = ndimage.center_of_mass(weight)
    moments = moments_central(weight, center=(y, x), order=2) / weight.sum()
    # 1/12 is the variance of a pixel's own extent: a line one pixel wide has a spread too
    spread_y, spread_x = moments[2, 0] + 1 / 12, moments[0, 2] + 1 / 12
    holes, count = ndimage.label(ndimage.binary_fill_holes(mark) & ~mark)
    hole_areas = np.bincount(holes.ravel(), minlength=count + 1)[1:]
    return light | {
        "stroke_weight": mark.sum() / skeletonize(mark).sum() / np.sqrt(height * width),
        "size": box_height * box_width / (height * width),
        "proportion": 0.5 * np.log(spread_x / spread_y),
        "slant": -moments[1, 1] / spread_y,
        "position_x": (columns.start + columns.stop) / (2 * width) - 0.5,
        "position_y": (rows.start + rows.stop) / (2 * height) - 0.5,
        "balance_x": (x + 0.5 - columns.start) / box_width - 0.5,
        "balance_y": (y + 0.5 - rows.start) / box_height - 0.5,
        "holes": float((hole_areas >= SMALLEST_HOLE * height * width).sum()),
    }
