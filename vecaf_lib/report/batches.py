"""Batches to a target accuracy as a table, which figure 5 draws."""

from collections.abc import Sequence

import pandas as pd

from vecaf_lib.report.frame import batches_to_target
from vecaf_lib.report.names import run_file


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
