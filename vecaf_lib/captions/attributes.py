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
from scipy import ndimage
from skimage.color import rgb2gray
from skimage.filters import threshold_otsu
from skimage.measure import moments_central
from skimage.morphology import skeletonize
from skimage.util import img_as_ubyte
from torch import Tensor

from vecaf_lib.errors import BadInput

SMALLEST_HOLE = 1 / 256  # of the image area: 4 px of 32 x 32
FEWEST_GREY_LEVELS = 4  # of 256: an image that spans fewer holds no visible mark
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


def measure(images: UInt8[Tensor, "n 3 h w"]) -> pd.DataFrame:
    """The measurements of each image, [n, 12]; those of the mark are NaN where there is none."""
    rows = [_measure_one(image) for image in images.permute(0, 2, 3, 1).cpu().numpy()]  # (n,h,w,3)
    # rounded, so that noise of the last bits never decides between two words
    return pd.DataFrame(rows, columns=[*WORDS, "holes"], dtype=float).round(6)


def _measure_one(rgb: np.ndarray) -> dict[str, float]:
    grey = img_as_ubyte(rgb2gray(rgb))  # (h, w)
    unit = grey / 255
    variance = unit.var()
    measured = {
        "brightness": unit.mean(),
        "contrast": unit.std(),
        "sharpness": ndimage.laplace(unit).var() / variance if variance > 0 else 0.0,
    }
    if int(grey.max()) - int(grey.min()) < FEWEST_GREY_LEVELS:
        return measured
    mark = grey > threshold_otsu(grey)
    border = np.concatenate([mark[0], mark[-1], mark[1:-1, 0], mark[1:-1, -1]])
    if border.mean() > 0.5:  # dark on bright
        mark, unit = ~mark, 1 - unit
    return measured | _measure_mark(mark, np.where(mark, unit, 0.0))


def _measure_mark(mark: np.ndarray, weight: np.ndarray) -> dict[str, float]:
    height, width = mark.shape
    rows, columns = ndimage.find_objects(mark.astype(int))[0]  # the bounding box
    box_height, box_width = rows.stop - rows.start, columns.stop - columns.start
    y, x = ndimage.center_of_mass(weight)
    moments = moments_central(weight, center=(y, x), order=2) / weight.sum()
    # 1/12 is the variance of a pixel's own extent: a line one pixel wide has a spread too
    spread_y, spread_x = moments[2, 0] + 1 / 12, moments[0, 2] + 1 / 12
    holes, count = ndimage.label(ndimage.binary_fill_holes(mark) & ~mark)
    hole_areas = np.bincount(holes.ravel(), minlength=count + 1)[1:]
    return {
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
