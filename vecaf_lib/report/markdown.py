"""Tables as MyST Markdown, every measured number a link to the section that proves it."""

import pandas as pd

from vecaf_lib.report.grid import accuracy_text, pipe_table, signed
from vecaf_lib.report.names import BY_CLASS, FULL, VARIANT, method_name, percent, slug
from vecaf_lib.report.stats import verdict

SIGNS = {"higher": "▲", "lower": "▼", "undecided": "○"}
SIGNS_EXPLAINED = (
    "▲ the whole 95 % interval lies above zero, ▼ below zero, ○ it includes zero. Each interval "
    "is a paired t interval over the seeds and stands alone: nothing is corrected for the number "
    "of comparisons."
)
REFERENCES = {
    "activeft": "multi-run ActiveFT",
    "random": "multi-run Random",
    "full": "Full-data FT",
    "neither": "VeCAF without both",
    "fewest_loops": "the fewest loops",
    "hashed": "text without meaning",
    "vecaf": "VeCAF as in Table 1",
    VARIANT: "VeCAF self-paced as in Table 1",
}
NOT_RUN = "needs CLIP weights"  # the only methods that a table may show without runs
SIDES = {  # table -> (columns that name a row, references)
    "table2": ({"target": "Class", "method": "Method"}, ("activeft",)),
    "table3": (
        {"domain": "Domain", "severity": "Severity", "method": "Method"},
        ("activeft", "full"),
    ),
    "table5": ({"vision": "Vision model", "text": "Text encoder"}, ("hashed",)),
    "decisions": ({"method": "Method", "change": "What is decided otherwise"}, ("vecaf",)),
    "replication": ({"method": "Method"}, ("activeft",)),
    "variant": ({"method": "Method", "change": "What is done otherwise"}, (VARIANT,)),
}


def to_markdown(table: pd.DataFrame, evidence: str = "evidence.md") -> str:
    """One table's accuracies and paired differences as MyST Markdown.

    Args:
        table: from table1, table6 or table7 (or read back from their CSV file).
        evidence: the page with one section a cell.

    Returns:
        MyST Markdown; accuracies are percent, differences percentage points.
    """
    kind = str(table["cell"].iloc[0]).partition("/")[0]
    if kind in ("table1", BY_CLASS):
        return f"{table1_accuracies(table, evidence)}\n{table1_differences(table, evidence)}"
    if kind in SIDES:
        return _compared(table, kind, evidence)
    return {"table6": _table6, "table7": _table7}[kind](table, evidence)


def accuracy(line: pd.Series, evidence: str = "evidence.md", *, best: bool = False) -> str:
    """``mean ± SE`` linked to its evidence; bold with a star if it is the best of its column."""
    text = accuracy_text(line["mean"], line["standard_error"])
    return _link(f"**{text}** ★" if best else text, line["cell"], evidence)


def difference(line: pd.Series, reference: str, evidence: str = "evidence.md") -> str:
    """``mean [low, high] sign`` linked to its evidence; a dash if there is nothing to compare."""
    name = f"minus_{reference}"
    if pd.isna(line[name]):
        return "–"
    low, high = line[f"{name}_low"], line[f"{name}_high"]
    interval = "one seed" if pd.isna(low) else f"{signed(low)}, {signed(high)}"
    text = f"{signed(line[name])} [{interval}]"
    return _link(text, line["cell"], evidence) + f"\u00a0{SIGNS[verdict(low, high)]}"


def table1_accuracies(table: pd.DataFrame, evidence: str = "evidence.md") -> str:
    """Table 1's accuracies: methods down, ratios across, full-data FT across all of them."""
    ratios = sorted(table["ratio"].dropna().unique())
    limited = table[table["method"] != FULL]
    best = set(limited.loc[limited.groupby("ratio")["mean"].idxmax(), "cell"])
    lines = []
    for keys, part in table.groupby(["method", "selection", "labels"], sort=False):
        method, kind, labels = map(str, keys)
        by_ratio = {row["ratio"]: row for _, row in part.iterrows()}
        if method == FULL:
            cells = [accuracy(part.iloc[0], evidence), *["←"] * (len(ratios) - 1)]
        else:
            cells = [
                accuracy(by_ratio[r], evidence, best=by_ratio[r]["cell"] in best)
                if r in by_ratio
                else "–"
                for r in ratios
            ]
        lines.append([method_name(method), "–" if method == FULL else kind, labels, *cells])
    header = ["Method", "Selection", "Labels seen by the selection", *map(percent, ratios)]
    note = "★ highest mean of its column among the methods that select; no test is implied."
    return f"{pipe_table(header, lines, words=3)}\n{note}\n"


def table1_differences(table: pd.DataFrame, evidence: str = "evidence.md") -> str:
    """Table 1's paired differences to multi-run ActiveFT, multi-run random and full-data FT."""
    ratios = sorted(table["ratio"].dropna().unique())
    limited = table[table["method"] != FULL]
    text = ""
    for name, words in REFERENCES.items():
        if table.get(f"minus_{name}", pd.Series(dtype=float)).notna().any():
            text += f"\n**Paired difference to {words}**, percentage points [95 % interval]:\n\n"
            text += _differences(limited, name, ratios, evidence)
    return f"{text}\n{SIGNS_EXPLAINED}\n"


def _differences(table: pd.DataFrame, name: str, ratios: list[float], evidence: str) -> str:
    lines = []
    for (method, kind), part in table.groupby(["method", "selection"], sort=False):
        shown = {row["ratio"]: difference(row, name, evidence) for _, row in part.iterrows()}
        cells = [shown.get(r, "–") for r in ratios]
        if set(cells) != {"–"}:
            lines.append([method_name(str(method)), str(kind), *cells])
    return pipe_table(["Method", "Selection", *map(percent, ratios)], lines, words=2)


def _compared(table: pd.DataFrame, kind: str, evidence: str) -> str:
    """Tables 2, 3, 5 and of decisions: what a row is, its accuracy, its differences."""
    columns, references = SIDES[kind]
    lines = [
        [
            *(_shown(row, key) for key in columns),
            row["labels"],
            accuracy(row, evidence) if row["n"] else NOT_RUN,
            *(difference(row, name, evidence) for name in references),
        ]
        for _, row in table.iterrows()
    ]
    header = [*columns.values(), "Labels seen by the selection", "Accuracy"]
    header += [f"Difference to {REFERENCES[name]}" for name in references]
    return pipe_table(header, lines, words=len(columns) + 1) + f"\n{SIGNS_EXPLAINED}\n"


def _shown(row: pd.Series, key: str) -> str:
    """A cell that names its row; the domain of Table 3 is not told twice."""
    if key != "method":
        return str(row[key])
    return method_name(row["method"].removesuffix(f"_{row.get('domain')}"))


def _table6(table: pd.DataFrame, evidence: str) -> str:
    marks = {"on": "✓", "off": "–"}
    lines = [
        [
            marks[row["ods"]],
            marks[row["cea"]],
            row["labels"],
            accuracy(row, evidence),
            difference(row, "neither", evidence),
        ]
        for _, row in table.iterrows()
    ]
    header = ["ODS", "CEA", "Labels seen by the selection", "Accuracy", "Difference to neither"]
    return pipe_table(header, lines, words=3) + f"\n{SIGNS_EXPLAINED}\n"


def _table7(table: pd.DataFrame, evidence: str) -> str:
    lines = [
        [f"{row['loops']:g}", accuracy(row, evidence), difference(row, "fewest_loops", evidence)]
        for _, row in table.iterrows()
    ]
    fewest = f"Difference to {table['loops'].min():g} loops"
    text = pipe_table(["Loops", "Accuracy", fewest], lines, words=1)
    return f"{text}\nLabels seen by the selection: {table['labels'].iloc[0]}. {SIGNS_EXPLAINED}\n"


def _link(text: str, cell: str, evidence: str) -> str:
    return f"[{text}]({evidence}#{slug(cell)})"
