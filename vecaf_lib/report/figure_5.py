"""Figure 5: batches until a target accuracy (B2A); runs that never reach it stay in the picture."""

from collections.abc import Sequence

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from vecaf_lib.errors import BadInput
from vecaf_lib.report.figures import STYLE, look
from vecaf_lib.report.frame import batches_to_target
from vecaf_lib.report.names import method_name


def figure_5(points: pd.DataFrame, *, targets: Sequence[float]) -> Figure:
    """Batches to each target validation accuracy on a logarithmic axis, one panel a target.

    A bar ends at the median over seeds, each seed has its marker. A run that never reaches the
    target counts as more than its total number of steps: its marker is an arrow there, the bar of
    a median that is only such a bound is hatched and labelled ``>``, and the label counts the runs.

    Args:
        points: validation curves from :func:`vecaf_lib.report.figures.choose`.
        targets: validation accuracies in percent.
    """
    if not targets:
        raise BadInput("Figure 5 needs at least one target accuracy, for example [60, 80].")
    methods = list(points["method"].unique())
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(7.6, 0.9 + len(targets) * (0.55 + 0.34 * len(methods))))
        panels = figure.subplots(len(targets), 1, sharex=True, squeeze=False)[:, 0]
        for axes, target in zip(panels, targets, strict=True):
            _panel(axes, batches_to_target(points, target), methods)
            axes.set_title(f"to {target:g} % validation accuracy", loc="left")
        first, last = points["step"].min(), points["steps"].max()
        ticks = _ticks(float(first), float(last))
        panels[-1].set_xlim(first * 0.75, last * 2.6)
        panels[-1].set_xticks(ticks)
        panels[-1].set_xlabel("Batches (optimiser steps), logarithmic")
    return figure


def _panel(axes: Axes, found: pd.DataFrame, methods: list[str]) -> None:
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.grid(axis="y", visible=False)
    axes.set_yticks(range(len(methods)), [method_name(m) for m in methods])
    axes.invert_yaxis()
    for place, method in enumerate(methods):
        runs = found[found["method"] == method]
        style = look(method)
        median, never = runs["batches"].median(), int((~runs["reached"]).sum())
        open_end = 2 * never >= len(runs)  # then the median itself is only a lower bound
        axes.barh(
            place,
            median,
            height=0.62,
            color="white" if open_end else style["color"],
            alpha=None if open_end else 0.45,
            edgecolor=style["color"],
            hatch="////" if open_end else None,
        )
        offsets = [0.4 * (i + 0.5) / len(runs) - 0.2 for i in range(len(runs))]  # apart, if equal
        for at, reached, lower in zip(runs["batches"], runs["reached"], offsets, strict=True):
            marker = style["marker"] if reached else ">"
            face = style["color"] if reached else "white"
            axes.plot(
                at, place + lower, marker, color=face, markeredgecolor="black", markersize=4.5
            )
        label = f"{'> ' if open_end else ''}{median:g}"
        if never:
            label += f"  ({never} of {len(runs)} never)"
        axes.annotate(
            label,
            (runs["batches"].max(), place),
            xytext=(9, 0),
            textcoords="offset points",
            va="center",
            fontsize=8.5,
        )


def _ticks(first: float, last: float) -> list[float]:
    """1, 2 and 5 times powers of ten within the evaluated steps, and the last step."""
    steps = [base * 10.0**power for power in range(7) for base in (1, 2, 5)]
    return [step for step in steps if first * 0.75 <= step <= last * 0.8] + [last]
