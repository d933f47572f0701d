"""Batches to a target accuracy (figure 5), and to that of full-data finetuning."""

from collections.abc import Sequence

import pandas as pd

from vecaf_lib.report.frame import batches_to_target, pick
from vecaf_lib.report.names import FULL, run_file


def batches_table(points: pd.DataFrame, targets: Sequence[float]) -> pd.DataFrame:
    """One row a method and target.

    Args:
        points: from :func:`vecaf_lib.report.figures.choose` on validation curves.
        targets: validation accuracies in percent.

    Returns:
        Columns cell (``batches/<method>/<target>``), method, target, mean (batches; a run that
        never arrives counts with all of its, so the mean is then a lower bound), standard_error, n
        (runs), reached (runs that arrived), runs.
    """
    lines = []
    for target in targets:
        for method, found in batches_to_target(points, target).groupby("method", sort=False):
            lines.append(
                {
                    "cell": f"batches/{method}/{target:g}",
                    "method": method,
                    "target": target,
                    "mean": found["batches"].mean(),
                    "standard_error": found["batches"].sem(),
                    "n": len(found),
                    "reached": int(found["reached"].sum()),
                    "runs": " ".join(run_file(dict(run)) for _, run in found.iterrows()),
                }
            )
    return pd.DataFrame(lines)


def batches_to_full(
    points: pd.DataFrame,
    methods: Sequence[str],
    *,
    ratios: Sequence[float],
    loops: int,
    seeds: Sequence[int],
) -> pd.DataFrame:
    """When the mean curve of each method reaches what full-data finetuning has at its end.

    Means over the seeds, not single runs, since full data's own end differs from seed to seed.

    Args:
        points: from :func:`vecaf_lib.report.frame.curves`.
        methods: those to show, full-data finetuning among them.
        ratios: percent; a method without runs at a ratio has no line there.
        loops: of selection.
        seeds: of all curves.

    Returns:
        Columns method, ratio, target (full data's last mean validation accuracy, percent), batches
        (the first evaluated step of the method's mean curve that reaches it; NaN if none does),
        share (of the budget, percent), n.
    """
    whole = pick(points, method=FULL, multi_run=False, ratio=100.0, loops=loops, seeds=seeds)
    target = whole.groupby("step")["validation_accuracy"].mean().iloc[-1]
    lines = []
    for ratio in ratios:
        for method in methods:
            own = points[(points["method"] == method) & (points["ratio"] == ratio)]
            if own[own["multi_run"]].empty:
                continue
            found = pick(
                points, method=method, multi_run=True, ratio=ratio, loops=loops, seeds=seeds
            )
            curve = found.groupby("step")["validation_accuracy"].mean()
            hits = curve.index[curve >= target]
            batches = float(hits[0]) if len(hits) else float("nan")
            line = {"method": method, "ratio": ratio, "target": target, "batches": batches}
            lines.append(line | {"share": 100 * batches / curve.index[-1], "n": len(seeds)})
    return pd.DataFrame(lines)
