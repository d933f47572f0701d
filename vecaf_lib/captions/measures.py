"""What the attribute captioner measures on an image; ``attributes`` explains each and words it."""

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

SMALLEST_HOLE = 1 / 256  # of the image area: 4 px of 32 x 32
FEWEST_GREY_LEVELS = 4  # of 256: an image that spans fewer holds no visible mark
COLUMNS = [
    "stroke_weight",
    "size",
    "proportion",
    "brightness",
    "contrast",
    "sharpness",
    "slant",
    "position_x",
    "position_y",
    "balance_x",
    "balance_y",
    "holes",
]


def measure(images: UInt8[Tensor, "n 3 h w"]) -> pd.DataFrame:
    """The measurements of each image, [n, 12]; those of the mark are NaN where there is none."""
    rows = [_measure_one(image) for image in images.permute(0, 2, 3, 1).cpu().numpy()]  # (n,h,w,3)
    # rounded, so that noise of the last bits never decides between two words
    return pd.DataFrame(rows, columns=COLUMNS, dtype=float).round(6)


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
