"""Fill the tables of README.md and docs/RESULTS.md: ``python docs/results.py``, in seconds.

A table stands between ``<!-- results: NAME -->`` and ``<!-- end -->``; ``tables`` has the names.
Numbers come from the committed tables of ``reports/``, those of smoke from its reference. A test
fails where a page is not what this makes of it.
"""

import re
from collections.abc import Mapping
from math import nan
from pathlib import Path
from typing import Any

import pandas as pd

from vecaf_lib.files import atomic_write, read_json
from vecaf_lib.results.compare import difference, number, read_table
from vecaf_lib.results.frame import GROUPS, LABELS

ROOT = Path(__file__).resolve().parents[1]
PAGES = "README.md", "docs/RESULTS.md"
BEST = ["random", "activeft", "maxherding", "uherding", "class_herding", "vecaf_no_cea", "vecaf"]
NAMES = LABELS | {  # methods that no profile has any more
    "vecaf_accumulated": "VeCAF that keeps its sets",
    "activeft_accumulated": "ActiveFT that keeps its sets",
    "paced_fresh": "Self-paced, fresh sets alone",
}
Columns = Mapping[str, tuple[str, Mapping[str, Any]]]  # heading -> a table, and values in its lines


def smoke() -> pd.DataFrame:
    """Table 1 of smoke's reference."""
    lines = []
    for cell, (mean, error) in read_json(ROOT / "profiles/reference/smoke.json")["table1"].items():
        _, method, selection, _, *kept = cell.split("/")
        line = {"method": method, "selection": selection, "sets": "kept" if kept else "fresh"}
        n, error = (1, nan) if error is None else (2, error)
        lines.append(line | {"mean": mean, "standard_error": error, "n": n})
    return pd.DataFrame(lines)


def lines_of(table: str, where: Mapping[str, Any]) -> pd.DataFrame:
    """The lines that have these values (None: none), with names to print."""
    lines = smoke() if table == "smoke" else read_table(ROOT / f"reports/{table}.csv")
    for column, value in where.items():
        lines = lines[lines[column].isna() if value is None else lines[column] == value]
    names = lines["method"].map(NAMES)
    if "selection" in lines:
        alone = (lines["selection"] == "single") & (lines["method"] != "full")
        names += alone.map({True: ", single-run", False: ""})
    looks = lines["labels_seen"].map(GROUPS) if "labels_seen" in lines else ""
    return lines.assign(label=names, looks=looks)


def cell(line: Mapping[str, Any], reference: str, n: int, gap_alone: bool) -> str:
    """Mean ± standard error, with n where it is another, and the difference to the reference."""
    names = [f"{end}{reference and '_'}{reference}" for end in ("difference", "low", "high")]
    if names[0] not in line:  # as tables of older commits name them
        names = [f"minus_{reference}{end}" for end in ("", "_low", "_high")]
    gap = difference(*(line.get(name, nan) for name in names))
    text = line.get("printed") or number(line["mean"], line["standard_error"], line["n"])
    text = text.removesuffix(f" (n = {n})")
    return gap if gap_alone else text if gap == "–" else f"{text}; {gap}"


def table(
    head: str,
    columns: Columns,
    row: str = "{label}",
    reference: str = "",
    n: int = 5,
    gap_alone: bool = False,
    methods: list[str] | None = None,
) -> str:
    """Markdown: a row for each text that ``row`` makes of a line."""
    rows: dict[str, dict[str, str]] = {}
    for heading, place in columns.items():
        for line in lines_of(*place).to_dict("records"):
            if not methods or line["method"] in methods:
                text = cell(line, reference, n, gap_alone)
                rows.setdefault(row.format(**line), {})[heading] = text
    body = ([name, *(cells.get(at, "–") for at in columns)] for name, cells in rows.items())
    first, *rest = (f"| {' | '.join(cells)} |" for cells in [[head, *columns], *body])
    return "\n".join([first, "| :-- " + "| --: " * (first.count("|") - 2) + "|", *rest])


def tables() -> dict[str, str]:
    """Name -> table."""
    path = "caltech101-gpu/tables/table1"
    four: Columns = {
        f"{sets} sets, {ratio:g} %": (path, {"sets": sets, "ratio": ratio})
        for sets in ("fresh", "kept")
        for ratio in (2.0, 5.0)
    }

    def ratios(path: str, *percents: float) -> Columns:
        """A column a ratio, and one of full data."""
        found: Columns = {f"{percent:g} %": (path, {"ratio": percent}) for percent in percents}
        return {**found, "all data": (path, {"ratio": None})}

    def weak(name: str, **where: Any) -> Columns:
        """A column for each data set that has such a table."""
        paths = {"Caltech-101": f"caltech101-cpu/{name}", "CIFAR-10": f"cifar10-cpu/{name}"}
        there = {title: (ROOT / f"reports/{path}.csv").is_file() for title, path in paths.items()}
        return {title: (path, where) for title, path in paths.items() if there[title]}

    sets = {f"{kind} sets": ("smoke", {"sets": kind}) for kind in ("fresh", "kept")}
    first, to = "accuracy, %; to ActiveFT, points", "activeft"
    return {
        "readme": table(
            f"{first} | its selection looks at", four, "{label} | {looks}", methods=BEST
        ),
        "gpu": table(first, four),
        "gpu-vecaf": table("to VeCAF, points", four, reference="vecaf", gap_alone=True),
        "caltech": table(first, ratios("caltech101-cpu/tables/table1", 2, 5, 10), reference=to),
        "cifar": table(first, ratios("cifar10-cpu/tables/table1", 1, 5), reference=to),
        "by-class": table(
            first, ratios("caltech101-cpu/tables/table1_by_class", 2, 5, 10), reference=to
        ),
        "seeds": table(first, weak("tables/replication"), reference=to, n=10),
        "table2": table("Table 2", weak("tables/table2"), "{target}: {label}", to),
        "table3": table("Table 3", weak("tables/table3", severity="mean"), "{domain}: {label}", to),
        "table5": table("Table 5", weak("tables/table5"), "text encoder {text}", "hashed"),
        "table6": table("Table 6", weak("tables/table6"), "ODS {ods}, CEA {cea}", "neither"),
        "table7": table("Table 7", weak("tables/table7"), "{loops} loops", "fewest_loops"),
        "decisions": table("to VeCAF, points", weak("tables/decisions"), "{change}", "vecaf"),
        "variant": table(
            "to self-paced VeCAF, points", weak("tables/variant"), reference="vecaf_self_paced"
        ),
        "longer": table("validation accuracy, %", weak("search", round="longer"), n=4),
        "smoke": table("accuracy, %", sets, n=2),
    }


def fill(page: str) -> str:
    """The page with its tables made anew."""
    made = tables()
    return re.sub(
        r"(<!-- results: ([\w-]+) -->\n).*?(<!-- end -->)",
        lambda block: f"{block[1]}{made[block[2]]}\n{block[3]}",
        page,
        flags=re.S,
    )


if __name__ == "__main__":
    for name in PAGES:
        atomic_write(ROOT / name, fill((ROOT / name).read_text(encoding="utf-8")).encode())
