"""One cell of a table: its runs, their mean and standard error, its difference to other cells."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from vecaf_lib.report.frame import pick
from vecaf_lib.report.names import FULL, selection
from vecaf_lib.report.stats import paired_difference, summary


@dataclass(frozen=True)
class Row:
    """A row of Table 1: a method, how it selects, and which labels its selection may see.

    ``repetitions``: it has so many of the seeds, the first ones; None is all.
    """

    method: str
    multi_run: bool
    labels: str
    repetitions: int | None = None


@dataclass(frozen=True)
class Cell:
    """The runs behind one number.

    Attributes:
        id: such as ``table1/vecaf/multi/r5``.
        row: method, selection and label use.
        ratio: percent of the pool selected in a loop; NaN for full-data finetuning.
        loops: number of selection loops.
        accuracies: seed -> test accuracy after the last step, percent.
        runs: the run files, in the order of the seeds.
    """

    id: str
    row: Row
    ratio: float
    loops: int
    accuracies: dict[int, float]
    runs: tuple[str, ...]


def cell(
    runs: pd.DataFrame,
    *,
    id: str,
    row: Row,
    ratio: float,
    loops: int,
    seeds: Sequence[int],
    target: str = "",
) -> Cell:
    """Gather the runs of one cell.

    Args:
        runs: rows of :func:`vecaf_lib.report.frame.frame`.

    Raises:
        BadInput: a run is missing.
    """
    full = row.method == FULL
    picked = pick(
        runs,
        method=row.method,
        multi_run=row.multi_run,
        ratio=100.0 if full else ratio,
        loops=loops,
        seeds=seeds[: row.repetitions],
        target=target,
    )
    accuracies = {
        int(s): float(a) for s, a in zip(picked["seed"], picked["test_accuracy"], strict=True)
    }
    shown = float("nan") if full else ratio
    return Cell(id, row, shown, loops, accuracies, tuple(picked["run_file"]))


def record(
    cell: Cell, references: Mapping[str, Cell | None], paper: Mapping[str, Any]
) -> dict[str, Any]:
    """A cell as one tidy row.

    Args:
        references: name -> the cell it is compared with; ``None`` or itself leaves NaN.
        paper: columns of :func:`vecaf_lib.report.paper.nearest`.

    Returns:
        cell, method, selection, labels, ratio, loops, n, seeds, mean, standard_error; for each
        reference ``minus_<name>`` (mean paired difference, points), its 95 % interval
        ``..._low``, ``..._high`` and ``..._cell``; runs; the paper's columns.
    """
    own = summary(cell.accuracies)
    line: dict[str, Any] = {
        "cell": cell.id,
        "method": cell.row.method,
        "selection": selection(cell.row.multi_run),
        "labels": cell.row.labels,
        "ratio": cell.ratio,
        "loops": cell.loops,
        "n": own.n,
        "seeds": " ".join(str(seed) for seed in cell.accuracies),
        "mean": own.mean,
        "standard_error": own.standard_error,
    }
    for name, other in references.items():
        values: tuple[Any, ...] = (float("nan"),) * 3 + ("",)
        if other is not None and other.id != cell.id:
            paired = paired_difference(cell.accuracies, other.accuracies)
            values = (paired.mean, paired.low, paired.high, other.id)
        for suffix, value in zip(("", "_low", "_high", "_cell"), values, strict=True):
            line[f"minus_{name}{suffix}"] = value
    return line | {"runs": " ".join(cell.runs)} | dict(paper)
