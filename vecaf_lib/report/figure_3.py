"""Figure 3: images that ActiveFT chose, and VeCAF with the prompt of each target domain."""

import textwrap
from collections.abc import Mapping, Sequence

import matplotlib
from jaxtyping import UInt8
from matplotlib.figure import Figure
from torch import Tensor

from vecaf_lib.errors import BadInput
from vecaf_lib.report.figures import STYLE
from vecaf_lib.report.names import percent

Shown = Sequence[tuple[UInt8[Tensor, "3 h w"], str]]
SIDE = 0.95  # inches, of an image


def spread(chosen: Sequence[int], count: int) -> list[int]:
    """At most ``count`` of the chosen, evenly spaced over the pool's order: nobody's choice.

    Args:
        chosen: positions in the pool, in any order.
        count: how many are to be shown.

    Raises:
        BadInput: ``count`` is less than 1.
    """
    if count < 1:
        raise BadInput(f"Figure 3 is to show {count} images a row; it must be at least 1.")
    ordered = sorted(set(chosen))
    count = min(count, len(ordered))
    return [ordered[(2 * at + 1) * len(ordered) // (2 * count)] for at in range(count)]


def figure_3(rows: Mapping[str, Shown]) -> Figure:
    """One row of images a selection, its name on the left, each image's class below it.

    Args:
        rows: name of the selection -> images (RGB, 0..255) with the name of their class.

    Raises:
        BadInput: no rows, or one without images.
    """
    if not rows or not all(rows.values()):
        empty = next((name for name, shown in rows.items() if not shown), "every row")
        raise BadInput(f"Figure 3 needs at least one image a row; {empty} has none.")
    columns = max(len(shown) for shown in rows.values())
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(1.3 + SIDE * columns, (SIDE + 0.3) * len(rows)))
        panels = figure.subplots(len(rows), columns, squeeze=False)
        for line, (name, shown) in zip(panels, rows.items(), strict=True):
            line[0].set_ylabel(
                textwrap.fill(name, 16), rotation=0, ha="right", va="center", labelpad=6
            )
            for axes in line:
                axes.set(xticks=[], yticks=[])
                axes.spines[:].set_visible(False)
            for axes, (image, label) in zip(line, shown, strict=False):
                axes.imshow(image.permute(1, 2, 0).numpy(), interpolation="nearest")
                axes.set_xlabel(textwrap.shorten(label, 15, placeholder="…"), fontsize=7)
    return figure


def caption_3(
    rows: Mapping[str, Shown],
    *,
    prompts: Mapping[str, str],
    chosen: int,
    ratio: float,
    loop: int,
    seed: int,
) -> str:
    """Caption of figure 3.

    Args:
        rows: as drawn.
        prompts: name of a row -> what ends its captions; rows without one have none.
        chosen: images in each selection, of which the shown are a part.
        ratio: percent of the pool.
        loop: counted from 1.
        seed: of the runs.
    """
    shown = max(len(images) for images in rows.values())
    ends = "; ".join(f"{name}: “{prompts[name]}”" for name in rows if prompts.get(name))
    said = f" Captions end with a prompt ({ends})." if ends else ""
    return (
        f"Images chosen in loop {loop} at {percent(ratio)} (seed {seed}), a row each: "
        f"{', '.join(rows)}.{said} {shown} of {chosen} chosen images are shown, evenly spaced over "
        "the order of the pool and not picked by eye; the class is written below. Whether a row "
        "looks more like its domain is left to the reader: a handful of images proves nothing."
    )
