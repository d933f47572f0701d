"""Groups of runs as the rows of a table: mean, standard error, paired difference to a reference."""

import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, fontManager, get_font
from scipy import stats

from vecaf_lib.errors import BadInput
from vecaf_lib.files import atomic_write

# columns that may be empty
TEXTS = ["reference", "seeds", "reading", "domain", "severity", "training", "cells", "runs"]


def compare(
    frame: pd.DataFrame,
    by: Sequence[str],
    value: str = "accuracy",
    reference: Mapping[str, Any] | None = None,
    cell: str = "",
    **others: Mapping[str, Any],
) -> pd.DataFrame:
    """One row a group of runs, in the order of the frame.

    The interval of a difference is that of the paired t-test over common seeds, mean +-
    t_{n-1}(0.975) * standard error; nothing is corrected for the number of comparisons.

    Args:
        frame: one row a run; ``by``: columns that tell one group from another.
        reference: column -> value. Each group is compared with the one whose ``by`` columns have
            these values and are its own otherwise.
        cell: pattern of the rows' ids, e.g. ``table2/{method}/{target}``; an id of kept sets ends
            in ``/kept``.
        others: further references; their names end the names of their columns.

    Returns:
        Columns cell; ``by`` and, of the group's first run, what describes it; n, seeds; reference
        (its cell; empty without one); mean, standard_error (ddof 1); n_pairs; difference, low and
        high (95 %); difference_NAME, low_NAME and high_NAME of each other; runs (files). NaN where
        a number needs more seeds than there are.

    Raises:
        BadInput: a group has a seed twice or a value that is not finite, or seeds do not pair up.
    """
    groups = {
        key: rows.set_index("seed").sort_index()
        for key, rows in frame.groupby(list(by), sort=False, dropna=False)
    }
    lines = []
    for key, rows in groups.items():
        mine, place = _finite(rows[value], key), _place(rows, by, key)
        line = (
            {"cell": _cell(cell, place), **place, "n": len(mine)}
            | {"seeds": " ".join(map(str, mine.index)), "reference": ""}
            | {"mean": mine.mean(), "standard_error": mine.sem(), "n_pairs": 0}
        )
        for name, where in {"": reference or {}, **others}.items():
            other = tuple({**place, **where}[column] for column in by)
            pairs = mine.iloc[:0]
            if other != key and other in groups:
                theirs = _finite(groups[other][value], other)
                common = mine.index.intersection(theirs.index)
                if len(common) < min(len(mine), len(theirs)):
                    raise BadInput(
                        f"Seeds do not pair up: {list(mine.index)} on one side and "
                        f"{list(theirs.index)} on the other; run both methods with the same seeds."
                    )
                pairs = mine[common] - theirs[common]
                if not name:
                    line["reference"] = _cell(cell, _place(groups[other], by, other))
                    line["n_pairs"] = len(pairs)
            reach = stats.t.ppf(0.975, max(len(pairs) - 1, 1)) * pairs.sem()  # NaN for one pair
            ends = (pairs.mean(), pairs.mean() - reach, pairs.mean() + reach)
            columns = (f"{column}{name and '_'}{name}" for column in ("difference", "low", "high"))
            line |= dict(zip(columns, ends, strict=True))
        lines.append(line | {"runs": " ".join(rows["file"])})
    return pd.DataFrame(lines)


def number(mean: float, standard_error: float = float("nan"), n: int | None = None) -> str:
    """``93.57 ± 0.02 (n = 3)``; a dash where there is no number."""
    if pd.isna(mean):
        return "–"
    text = f"{mean:.2f}" + ("" if pd.isna(standard_error) else f" ± {standard_error:.2f}")
    return text if n is None else f"{text} (n = {n})"


def difference(mean: float, low: float, high: float) -> str:
    """``+1.40 [−7.80, +10.60] ○``: ▲ the interval lies above zero, ▼ below, ○ it has zero in it."""
    if pd.isna(mean):
        return "–"
    signed = [
        f"{x:+.2f}".replace("-", "\u2212") if round(x, 2) else "0.00" for x in (mean, low, high)
    ]
    interval = "one seed" if pd.isna(low) else f"{signed[1]}, {signed[2]}"
    return f"{signed[0]} [{interval}] {'▲' if low > 0 else '▼' if high < 0 else '○'}"


def plain(text: str) -> str:
    """Text from anyone, such as a prompt or a name, as Markdown that is never markup."""
    return re.sub(r"([\\`*_{}\[\]<>|$&#~!@])", r"\\\1", " ".join(text.split()))


def fonts(text: str) -> list[str]:
    """Names of fonts that have the letters of ``text``, as far as any installed one has them."""
    names, missing = ["DejaVu Sans"], {ord(letter) for letter in text if letter.isprintable()}
    missing -= get_font(findfont(names[0])).get_charmap().keys()
    for font in sorted(fontManager.ttflist, key=lambda font: (font.name, font.fname)):
        if missing and missing & (has := get_font(font.fname).get_charmap().keys()):
            names, missing = [*names, font.name], missing - has
    return names


def write_table(table: pd.DataFrame, path: Path) -> None:
    """Write a CSV file with four decimals: equal tables are equal bytes."""
    atomic_write(path, table.to_csv(index=False, float_format="%.4f", lineterminator="\n").encode())


def read_table(path: Path) -> pd.DataFrame:
    """Read a file of :func:`write_table`, empty texts as ``""``; BadInput if it is missing."""
    if not path.is_file():
        raise BadInput(f"{path} is missing; `dvc repro` makes it.")
    # a class may be called NA or null
    texts = dict.fromkeys(TEXTS, str)
    table = pd.read_csv(path, dtype=texts, keep_default_na=False, na_values=[""])
    return table.fillna(dict.fromkeys(table.select_dtypes(exclude="number"), ""))


def save(figure: Figure, stem: Path, caption: str) -> None:
    """Write ``stem``.png (150 dpi), .pdf and, the caption, .txt; equal figures, equal bytes."""
    drawings = {"png": {"Software": None}, "pdf": {"CreationDate": None, "Producer": None}}
    for ending, metadata in drawings.items():
        buffer = io.BytesIO()
        figure.savefig(buffer, format=ending, dpi=150, metadata=metadata)
        atomic_write(stem.with_name(f"{stem.name}.{ending}"), buffer.getvalue())
    atomic_write(stem.with_name(f"{stem.name}.txt"), f"{caption}\n".encode())


def _place(rows: pd.DataFrame, by: Sequence[str], key: tuple[Any, ...]) -> dict[str, Any]:
    described = ("method", "label", "selection", "sets", "labels_seen", "ratio", "loops")
    return dict(zip(by, key, strict=True)) | {n: rows[n].iloc[0] for n in described if n in rows}


def _cell(pattern: str, place: Mapping[str, Any]) -> str:
    return pattern.format(**place) + "/kept" * (place.get("sets") == "kept")


def _finite(values: pd.Series, key: tuple[Any, ...]) -> pd.Series:
    if not values.index.is_unique:
        raise BadInput(f"Several runs of {key} have one seed; group by what tells them apart, too.")
    if not np.isfinite(values.astype(float)).all():
        raise BadInput(f"{values.name} of {key} is not finite: {values.to_dict()}.")
    return values
