"""The numbers that the paper prints, and arithmetic with them."""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from vecaf_lib.errors import BadInput

GENERAL = "general"


IMAGENET = "ImageNet-1K"  # of tables 3 and 4, which have no column of data sets
PRINTED = {"figures": "value", "table4": "gflops"}  # table -> column of numbers; else accuracy


class Paper:
    """The paper's printed numbers and the claims made of them.

    Args:
        folder: ``data/paper``.

    Raises:
        BadInput: a file is missing.
    """

    def __init__(self, folder: Path) -> None:
        self.tables: dict[str, pd.DataFrame] = {}
        for name in [*(f"table{n}" for n in range(1, 8)), "figures"]:
            path = folder / f"{name}.csv"
            if not path.is_file():
                raise BadInput(f"{path} is missing: it holds the paper's numbers; restore it.")
            texts = {"figure": str, "method": str}
            self.tables[name] = pd.read_csv(path, dtype=texts, keep_default_na=True)
        self.file = folder / "claims.yaml"
        if not self.file.is_file():
            raise BadInput(f"{self.file} is missing: it holds the paper's claims; restore it.")
        self.content = _parsed(self.file.read_text(encoding="utf-8"))

    def rows(self, selector: Mapping[str, Any], where: str) -> pd.DataFrame:
        """The rows of a table that have the selector's values in its columns.

        Raises:
            BadInput: there is no such table or column.
        """
        name = selector.get("table")
        if name not in self.tables:
            raise BadInput(f"{self.file}: {where} names the table {name!r}, which is not there.")
        rows = self.tables[str(name)]
        for column, value in selector.items():
            if column in ("table", "column", "count", "without", "take"):
                continue
            if column not in rows:
                known = ", ".join(map(str, rows.columns))
                raise BadInput(f"{self.file}: {where} asks {name} for {column}; it has {known}.")
            rows = rows[rows[column] == value]
        return rows

    def number(self, term: Any, where: str) -> tuple[float, str]:
        """A term's value and how it came about, e.g. ``58.31 − 55.67 = 2.64``.

        Args:
            term: a number; the columns of one row; ``plus`` and ``minus`` lists of such; ``of`` and
                ``by`` (and ``times``); or ``count``, a column whose values are counted.
            where: what is told if the term is wrong.

        Raises:
            BadInput: it picks no printed number, or more than one.
        """
        if isinstance(term, int | float):
            return float(term), f"{term:g}"
        if "plus" in term or "minus" in term:
            plus = [self.number(t, where)[0] for t in term.get("plus", ())]
            minus = [self.number(t, where)[0] for t in term.get("minus", ())]
            value = round(sum(plus) - sum(minus), 6)
            text = " + ".join(map(plain, plus)) + "".join(f" − {plain(m)}" for m in minus)
            return value, f"{text} = {plain(value)}"
        if "of" in term:
            of, by = self.number(term["of"], where)[0], self.number(term["by"], where)[0]
            times = term.get("times", 1)
            sign = f" × {times:g}" if times != 1 else ""
            return times * of / by, f"{plain(of)} / {plain(by)}{sign} = {times * of / by:.3g}"
        rows = self.rows(term, where)
        if "count" in term:
            found = rows[term["count"]].drop_duplicates()
            count = len(found[~found.isin(term.get("without", []))])
            return float(count), f"{count}"
        column = term.get("column") or PRINTED.get(term["table"], "accuracy")
        if len(rows) != 1 or pd.isna(rows[column].iloc[0]):
            raise BadInput(
                f"{self.file}: {where} picks {len(rows)} rows of {term['table']} by {dict(term)}; "
                "it must pick one printed number."
            )
        return float(rows[column].iloc[0]), plain(float(rows[column].iloc[0]))


@functools.lru_cache(maxsize=2)
def _parsed(text: str) -> dict[str, Any]:
    return dict(yaml.safe_load(text))


def holds(left: float, says: str, right: float) -> bool:
    """Whether what a sentence says of two numbers is true of them."""
    held = {
        "equal": same(left, right),
        "less": left < right,
        "more": left > right,
        "at most": left <= right,
        "at least": left >= right,
    }
    return held[says]


def same(found: float, printed: float) -> bool:
    """Whether a number rounds to the printed one, with the printed one's decimals."""
    decimals = len(plain(printed).partition(".")[2])
    return abs(found - printed) <= 0.5 * 10**-decimals + 1e-9


def filled(term: Any, fill: Mapping[str, Any]) -> Any:
    """A term with the columns of ``fill`` put into each of its selectors that lacks them."""
    if isinstance(term, list):
        return [filled(each, fill) for each in term]
    if not isinstance(term, dict):
        return term
    if "table" in term:
        return {**fill, **term}
    return {key: filled(value, fill) for key, value in term.items()}


def plain(value: float) -> str:
    """A number as it is printed."""
    return f"{value:.10g}"
