"""Figures 1b, 4 and 5 of the paper in our numbers; readable without colour."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vecaf_lib.errors import BadInput
from vecaf_lib.files import atomic_write
from vecaf_lib.report.frame import pick
from vecaf_lib.report.names import FULL, method_name

STYLE = matplotlib.rc_params_from_file(Path(__file__).with_name("vecaf.mplstyle"), False)
ORDER = (
    *("vecaf", "activeft", "random", "full", "vecaf_no_ods", "vecaf_by_class", "vecaf_self_paced"),
    *("topk_loss", "alfa_mix", "learnloss", "ta_vaal"),
)
LINES: tuple[Any, ...] = (
    *("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (8, 2)), (0, (3, 3))),
    *((0, (1, 2)), (0, (6, 2, 2, 2)), (0, (10, 1)), (0, (2, 1, 6, 1))),
)
MARKERS = "osD^vPX*<>hp"


def choose(
    points: pd.DataFrame,
    *,
    methods: Sequence[str],
    ratio: float,
    loops: int,
    seeds: Sequence[int],
) -> pd.DataFrame:
    """The rows a figure shows: each method multi-run at ``ratio``, full-data FT as it is.

    Args:
        points: from :func:`vecaf_lib.report.frame.curves` or ``losses``.

    Raises:
        BadInput: a run is missing, named.
    """
    if not methods:
        raise BadInput("A figure needs at least one method.")
    parts = [
        pick(
            points,
            method=method,
            multi_run=method != FULL,
            ratio=100.0 if method == FULL else float(ratio),
            loops=loops,
            seeds=seeds,
        )
        for method in methods
    ]
    return pd.concat(parts, ignore_index=True)


def look(method: str) -> dict[str, Any]:
    """Colour, line style and marker of a method, the same in every figure."""
    place = ORDER.index(method) if method in ORDER else len(ORDER)
    colours = sns.color_palette("colorblind")
    return {
        "color": colours[place % len(colours)],
        "linestyle": LINES[place % len(LINES)],
        "marker": MARKERS[place % len(MARKERS)],
    }


def figure_1b(points: pd.DataFrame) -> Figure:
    """Validation accuracy by optimiser step, mean over seeds with a standard-error band.

    Args:
        points: from :func:`choose` on validation curves.
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(6.8, 3.8))
        axes = figure.add_subplot()
        _bands(axes, points, "validation_accuracy", markers=True)
        axes.set(xlabel="Batches (optimiser steps)", ylabel="Validation accuracy, %")
    return figure


def figure_4(points: pd.DataFrame, *, window: int) -> Figure:
    """Training loss by optimiser step, each run smoothed, then mean and standard-error band.

    Args:
        points: from :func:`choose` on training losses.
        window: steps in the trailing mean; its first steps average those there are.
    """
    if window < 1:
        raise BadInput(f"The smoothing window is {window} steps; it must be at least 1.")
    smooth = points.copy()
    by_run = smooth.groupby(["method", "seed"])["train_loss"]
    smooth["train_loss"] = by_run.transform(lambda loss: loss.rolling(window, min_periods=1).mean())
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(6.8, 3.8))
        axes = figure.add_subplot()
        _bands(axes, smooth, "train_loss", markers=False)
        axes.set(xlabel="Batches (optimiser steps)")
        axes.set(ylabel=f"Training loss (trailing mean of {window} steps)")
    return figure


def save(figure: Figure, stem: Path, *, caption: str = "") -> None:
    """Write ``stem``.png (150 dpi) and .pdf without dates, so that equal figures are equal bytes.

    Args:
        caption: written to ``stem``.txt for the report, if given.
    """
    drawings = {"png": {"Software": None}, "pdf": {"CreationDate": None, "Producer": None}}
    with matplotlib.rc_context(STYLE):
        for ending, metadata in drawings.items():
            buffer = io.BytesIO()
            figure.savefig(buffer, format=ending, dpi=150, metadata=metadata)
            atomic_write(stem.with_name(f"{stem.name}.{ending}"), buffer.getvalue())
    if caption:
        atomic_write(stem.with_name(f"{stem.name}.txt"), f"{caption}\n".encode())


def _bands(axes: Axes, points: pd.DataFrame, column: str, *, markers: bool) -> None:
    """One line a method with its band; dotted lines where a selection loop begins."""
    for method in points["method"].unique():
        by_step = points[points["method"] == method].groupby("step")[column].agg(["mean", "sem"])
        style = look(method)
        steps = by_step.index.to_numpy()
        every = None if markers else max(1, len(steps) // 8)
        line = axes.plot(steps, by_step["mean"], label=method_name(method), **style)
        line[0].set_markevery(every)
        low, high = by_step["mean"] - by_step["sem"], by_step["mean"] + by_step["sem"]
        axes.fill_between(steps, low, high, color=style["color"], alpha=0.18, linewidth=0)
    picked = points[points["method"] != FULL]
    if len(picked):
        total, loops = picked["steps"].iloc[0], picked["loops"].iloc[0]
        for loop in range(1, loops):
            axes.axvline(total * loop / loops, color="0.55", linewidth=0.9, linestyle=":", zorder=0)
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), handlelength=3.6)
