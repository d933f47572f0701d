"""Tables 1, 6 and 7 of the paper in our numbers: small tidy tables, one row a cell."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from vecaf_lib.errors import BadInput
from vecaf_lib.files import atomic_write
from vecaf_lib.report.cells import Cell, Row, cell, record
from vecaf_lib.report.names import FULL, selection
from vecaf_lib.report.paper import nearest

ABLATION = {  # Table 6: method -> (ODS, CEA)
    "vecaf_neither": ("off", "off"),
    "vecaf_no_cea": ("on", "off"),
    "vecaf_no_ods": ("off", "on"),
    "vecaf": ("on", "on"),
}


def table1(
    runs: pd.DataFrame,
    *,
    rows: Sequence[Row],
    ratios: Sequence[float],
    seeds: Sequence[int],
    loops: int,
    paper: pd.DataFrame,
    name: str = "table1",
) -> pd.DataFrame:
    """Table 1: test accuracy by method, selection and ratio at the same number of batches.

    Each cell is compared, seed by seed, with multi-run ActiveFT and multi-run random selection at
    the same ratio and with full-data finetuning, which has one cell for all ratios.

    Args:
        runs: rows of :func:`vecaf_lib.report.frame.frame`, or of its ``by_class``.
        rows: the table's rows from top to bottom.
        ratios: percent of the pool selected in a loop.
        seeds: the paired seeds; with one there are no standard errors and no intervals.
        loops: selection loops of every run in this table.
        paper: the paper's table 1.
        name: begins the cells' ids.

    Returns:
        The columns of :func:`vecaf_lib.report.cells.record`.

    Raises:
        BadInput: a run of the grid is missing.
    """
    cells: dict[tuple[str, str, float | None], Cell] = {}
    for row in rows:
        kind = selection(row.multi_run)
        for ratio in [None] if row.method == FULL else ratios:
            where = "all" if ratio is None else f"r{ratio:g}"
            cells[row.method, kind, ratio] = cell(
                runs,
                id=f"{name}/{row.method}/{kind}/{where}",
                row=row,
                ratio=100.0 if ratio is None else float(ratio),
                loops=loops,
                seeds=seeds,
            )
    full = next((own for (method, _, _), own in cells.items() if method == FULL), None)
    return pd.DataFrame(
        [
            record(
                own,
                {
                    "activeft": cells.get(("activeft", "multi", ratio)),
                    "random": cells.get(("random", "multi", ratio)),
                    "full": full,
                },
                nearest(paper, {"method": method, "selection": kind}, ratio),
            )
            for (method, kind, ratio), own in cells.items()
        ]
    )


def table6(
    runs: pd.DataFrame,
    *,
    ratio: float,
    seeds: Sequence[int],
    loops: int,
    labels: Mapping[str, str],
    paper: pd.DataFrame,
) -> pd.DataFrame:
    """Table 6: ODS and CEA on and off, multi-run; each row is compared with neither.

    Args:
        labels: method -> which labels its selection may see.

    Returns:
        The columns of :func:`vecaf_lib.report.cells.record` after ``ods`` and ``cea`` (on, off).
    """
    cells = {
        method: cell(
            runs,
            id=f"table6/{method}",
            row=Row(method, True, labels[method]),
            ratio=float(ratio),
            loops=loops,
            seeds=seeds,
        )
        for method in ABLATION
    }
    neither = cells["vecaf_neither"]
    lines = []
    for method, (ods, cea) in ABLATION.items():
        theirs = nearest(paper, {"ods": ods == "on", "cea": cea == "on"}, ratio)
        line = record(cells[method], {"neither": neither}, theirs)
        lines.append({"cell": line.pop("cell"), "ods": ods, "cea": cea} | line)
    return pd.DataFrame(lines)


def table7(
    runs: pd.DataFrame,
    *,
    ratio: float,
    loops: Sequence[int],
    seeds: Sequence[int],
    labels: str,
    paper: pd.DataFrame,
    method: str = "vecaf",
) -> pd.DataFrame:
    """Table 7: the number of selection loops at one total number of batches, multi-run.

    Each row is compared with the fewest loops.

    Args:
        labels: which labels the method's selection may see.

    Returns:
        The columns of :func:`vecaf_lib.report.cells.record`.
    """
    if not loops:
        raise BadInput("Table 7 needs at least one number of loops, for example [2, 3, 4, 5].")
    cells = [
        cell(
            runs,
            id=f"table7/l{count}",
            row=Row(method, True, labels),
            ratio=float(ratio),
            loops=count,
            seeds=seeds,
        )
        for count in sorted(loops)
    ]
    return pd.DataFrame(
        [
            record(own, {"fewest_loops": cells[0]}, nearest(paper, {"loops": own.loops}, ratio))
            for own in cells
        ]
    )


def to_csv(table: pd.DataFrame, path: Path) -> None:
    """Write a table with four decimals: equal tables are equal bytes."""
    text = table.to_csv(index=False, float_format="%.4f", lineterminator="\n")
    atomic_write(path, text.encode())


def read_csv(path: Path) -> pd.DataFrame:
    """Read a table back as :func:`to_csv` wrote it.

    Raises:
        BadInput: the file is missing.
    """
    if not path.is_file():
        raise BadInput(f"{path} is missing; `dvc repro` makes it.")
    texts = (
        "cell",
        "method",
        "selection",
        "labels",
        "seeds",
        "runs",
        "ods",
        "cea",
        "target",
        "domain",
        "severity",
        "vision",
        "text",
        "change",
    )
    table = pd.read_csv(path, dtype=dict.fromkeys(texts, str))
    for name in [
        *texts,
        *(c for c in map(str, table) if c.startswith("minus_") and c.endswith("_cell")),
    ]:
        if name in table:
            table[name] = table[name].fillna("").astype(str)
    return table
