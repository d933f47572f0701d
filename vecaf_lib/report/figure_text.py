"""Captions that say what is on the axes, how many seeds, and what was left to the eye."""

from collections.abc import Sequence

import pandas as pd

from vecaf_lib.report.frame import batches_to_target
from vecaf_lib.report.names import FULL, join, method_name, percent


def caption_1b(points: pd.DataFrame) -> str:
    """Caption of figure 1b for the points it was drawn from."""
    return (
        "Validation accuracy during finetuning. Horizontal: batches (optimiser steps); vertical: "
        "validation accuracy in percent at the steps where it was measured. Lines are means, "
        f"bands one standard error. {_setting(points)}"
    )


def caption_4(points: pd.DataFrame, *, window: int) -> str:
    """Caption of figure 4 for the points it was drawn from."""
    return (
        "Training loss during finetuning. Horizontal: batches (optimiser steps); vertical: loss on "
        f"the batch, each run smoothed by a trailing mean of {window} steps. Lines are means, "
        f"bands one standard error. {_setting(points)} A low loss on a small subset says nothing "
        "of accuracy by itself: fewer images are easier to fit."
    )


def caption_5(points: pd.DataFrame, *, targets: Sequence[float]) -> str:
    """Caption of figure 5 for the points it was drawn from; counts the runs that never arrive."""
    lost = []
    for target in targets:
        found = batches_to_target(points, target)
        never = int((~found["reached"]).sum())
        lost.append(f"{never} of {len(found)} runs never reach {target:g} %")
    return (
        "Batches to a target accuracy (B2A): the first evaluated step whose validation accuracy is "
        "at least the target, so its precision is the distance between evaluations. Horizontal: "
        "batches (optimiser steps), logarithmic; bars end at the median over seeds, each marker is "
        "one seed. Runs that never arrive are kept as arrows at their last step; a hatched bar "
        f"means that the median itself is only a lower bound. Here {join(lost)}. "
        f"{_setting(points)}"
    )


def _setting(points: pd.DataFrame) -> str:
    """Seeds, ratio, loops and methods, in words."""
    seeds = sorted(int(seed) for seed in points["seed"].unique())
    picked = points[points["method"] != FULL]
    text = f"n = {len(seeds)} seeds ({', '.join(map(str, seeds))}), the same for every method"
    if len(picked):
        loops = picked["loops"].iloc[0]
        text += (
            f"; methods that select take {percent(picked['ratio'].iloc[0])} of the pool in each of "
            f"{loops} loops (multi-run; dotted lines, where drawn, mark a new selection)"
        )
    if FULL in set(points["method"]):
        text += f"; {method_name(FULL)} draws its batches from the whole pool"
    return text + "."
