"""The paper's own numbers, read from data/paper/, shown beside ours, never compared."""

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from vecaf_lib.errors import BadInput
from vecaf_lib.report.grid import accuracy_text, pipe_table
from vecaf_lib.report.names import FULL

TICKS = {"True": "✓", "False": "–"}


def read_paper(path: Path) -> pd.DataFrame:
    """Read one of the paper's tables, one row a printed number.

    Returns:
        Columns dataset, accuracy (percent, NaN where the paper prints a dash), standard_error and
        what identifies the row: method, label, selection, ratio, ods, cea or loops.

    Raises:
        BadInput: the file is missing or lacks a column.
    """
    if not path.is_file():
        raise BadInput(f"{path} is missing: it holds the paper's numbers and is in the repository.")
    table = pd.read_csv(path)
    for column in ("dataset", "ratio", "accuracy", "standard_error"):
        if column not in table:
            raise BadInput(f"{path} has no column {column}, only {', '.join(table.columns)}.")
    return table


def nearest(
    paper: pd.DataFrame, match: Mapping[str, Any], ratio: float | None = None
) -> dict[str, float]:
    """The paper's numbers for the cell most like one of ours, dataset by dataset.

    Args:
        paper: a table from :func:`read_paper`.
        match: column -> value that must agree.
        ratio: ours in percent; of each dataset the paper's nearest ratio with a number is taken.

    Returns:
        ``paper_<dataset>_ratio``, ``..._accuracy`` and ``..._standard_error`` for each dataset, all
        NaN where the paper has no such cell.
    """
    rows = paper.dropna(subset=["accuracy"])
    for column, value in match.items():
        rows = rows[rows[column] == value]
    found: dict[str, float] = {}
    for dataset in paper["dataset"].unique():
        part = rows[rows["dataset"] == dataset]
        if len(part) and ratio is not None:
            part = part.loc[[(part["ratio"] - ratio).abs().idxmin()]]
        name = re.sub("[^a-z0-9]", "", dataset.lower())
        for column in ("ratio", "accuracy", "standard_error"):
            found[f"paper_{name}_{column}"] = float(part[column].iloc[0]) if len(part) else math.nan
    return found


def paper_markdown(paper: pd.DataFrame) -> str:
    """One of the paper's tables as printed: datasets and ratios across, the rest down.

    ``←`` marks a number that spans the columns to its right.
    """
    parts = paper[paper["ratio"] < 100]
    columns = list(dict.fromkeys(zip(parts["dataset"], parts["ratio"], strict=True)))
    down = [name for name in ("label", "selection", "ods", "cea", "loops") if name in paper]
    lines = []
    for keys, rows in paper.groupby(down, sort=False):
        printed = {
            (row["dataset"], row["ratio"]): accuracy_text(row["accuracy"], row["standard_error"])
            for _, row in rows.iterrows()
        }
        full = "method" in rows and rows["method"].iloc[0] == FULL
        cells, before = [], ""
        for dataset, ratio in columns:
            if full:
                cells.append("←" if dataset == before else printed[dataset, 100])
            else:
                cells.append(printed.get((dataset, ratio), "–"))
            before = dataset
        lines.append([TICKS[str(key)] if str(key) in TICKS else str(key) for key in keys] + cells)
    titles = {"label": "Method", "selection": "Selection", "ods": "ODS", "cea": "CEA"}
    header = [titles.get(name, "Loops") for name in down]
    header += [f"{dataset} {ratio:g}\u00a0%" for dataset, ratio in columns]
    return pipe_table(header, lines, words=len(down))
