"""Put the reports' tables into the README: ``python -m vecaf_lib.report.readme [FILE]``

A table stands between two comments, of which the first says what it is:

    <!-- table1 of caltech101-cpu, cifar10-cpu -->
    <!-- end -->

Each number comes from ``reports/PROFILE/tables``; nothing in between is written by hand.
"""

import argparse
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from vecaf_lib.errors import BadInput
from vecaf_lib.files import atomic_write
from vecaf_lib.pipeline import cli
from vecaf_lib.report.grid import accuracy_text, pipe_table, signed
from vecaf_lib.report.names import (
    BY_CLASS,
    FULL,
    VARIANT,
    method_name,
    percent,
    row_name,
)

REPORTS = Path("reports")
BLOCK = re.compile(r"<!-- (\w+) of ([\w, -]+?) -->\n.*?<!-- end -->\n", re.DOTALL)


class Kind(NamedTuple):
    """How a table is read.

    Attributes:
        reference: its differences are to this one.
        head: over the names of the rows.
        name: of a row.
    """

    reference: str
    head: str
    name: Callable[[pd.Series], str]


def _method(line: pd.Series, suffix: str = "") -> str:
    return method_name(line["method"].removesuffix(suffix))


def _change(line: pd.Series) -> str:
    return _method(line) if line["change"] == "as in Table 1" else line["change"]


def _row(line: pd.Series) -> str:
    return row_name(line["method"], line["selection"] == "multi")


KINDS = {
    "table1": Kind("activeft", "Table 1", _row),
    BY_CLASS: Kind("activeft", "Table 1 by class", _row),
    "table2": Kind("activeft", "Table 2", lambda line: f"{line['target']}: {_method(line)}"),
    "table3": Kind(
        "activeft",
        "Table 3, mean of the severities",
        lambda line: f"{line['domain']}: {_method(line, '_' + line['domain'])}",
    ),
    "table5": Kind("hashed", "Table 5", lambda line: f"text encoder {line['text']}"),
    "table6": Kind("neither", "Table 6", lambda line: f"ODS {line['ods']}, CEA {line['cea']}"),
    "table7": Kind("fewest_loops", "Table 7", lambda line: f"{line['loops']} loops"),
    "replication": Kind("activeft", "Other seeds", _method),
    "decisions": Kind("vecaf", "VeCAF, decided otherwise", _change),
    "variant": Kind(VARIANT, "Our self-paced variant, otherwise", _method),
}


def side_by_side(kind: str, profiles: Sequence[str], reports: Path = REPORTS) -> str:
    """One table of several reports as a pipe table, a column a profile and ratio.

    Args:
        kind: of ``KINDS``.
        profiles: whose reports.
        reports: the folder of reports.

    Returns:
        Accuracies with their standard errors in percent and, in brackets, the paired difference
        with its 95 % interval, bold where that excludes zero; n where it is not the table's most.

    Raises:
        BadInput: there is no such table.
    """
    if kind not in KINDS:
        raise BadInput(f"{kind!r} is no table; known are {', '.join(KINDS)}.")
    how, columns = KINDS[kind], dict[str, dict[str, str]]()
    for profile in profiles:
        path = reports / profile / "tables" / f"{kind}.csv"
        if not path.is_file():
            raise BadInput(f"{path} is missing; `dvc repro` with profile {profile} makes it.")
        table = pd.read_csv(path)
        if "severity" in table:
            table = table[table["severity"] == "mean"]
        most = table["n"].max()
        ratios = sorted(table.loc[table["method"] != FULL, "ratio"].dropna().unique())
        for ratio in ratios:
            cells = columns.setdefault(f"{profile}, {percent(ratio)}", {})
            for _, line in table.iterrows():
                if line["ratio"] == ratio or line["method"] == FULL:
                    again = line["method"] == FULL and ratio != ratios[0]
                    cells[how.name(line)] = "(the same)" if again else _cell(line, how, most)
    names = dict.fromkeys(name for cells in columns.values() for name in cells)
    lines = [[name, *(cells.get(name, "–") for cells in columns.values())] for name in names]
    return pipe_table([how.head, *columns], lines, words=1)


def _cell(line: pd.Series, how: Kind, most: int) -> str:
    text = accuracy_text(line["mean"], line["standard_error"])
    low, high = (float(line[f"minus_{how.reference}_{end}"]) for end in ("low", "high"))
    if pd.notna(low):
        difference = f"{signed(line[f'minus_{how.reference}'])} [{signed(low)}, {signed(high)}]"
        text += f" ({f'**{difference}**' if low > 0 or high < 0 else difference})"
    return text if line["n"] in (0, most) else f"{text}, n = {line['n']}"


def renewed(text: str, reports: Path = REPORTS) -> str:
    """The text with every table between its comments made anew."""

    def again(found: re.Match[str]) -> str:
        kind, profiles = found[1], [name.strip() for name in found[2].split(",")]
        table = side_by_side(kind, profiles, reports)
        return f"<!-- {kind} of {', '.join(profiles)} -->\n{table}<!-- end -->\n"

    return BLOCK.sub(again, text)


def main(arguments: Sequence[str]) -> None:
    """The command line; see the module's text."""
    parser = argparse.ArgumentParser(prog="python -m vecaf_lib.report.readme")
    parser.add_argument("file", nargs="?", type=Path, default=Path("README.md"), metavar="FILE")
    path = parser.parse_args(arguments).file
    atomic_write(path, renewed(path.read_text(encoding="utf-8")).encode())


if __name__ == "__main__":
    cli.run(main)
