"""What the numbers say, in words, by a rule: wins, losses and what stays open alike."""

import pandas as pd

from vecaf_lib.report.markdown import REFERENCES, difference
from vecaf_lib.report.names import join, method_name, percent
from vecaf_lib.report.stats import verdict

CLAUSES = {"higher": "is ahead", "lower": "is behind", "undecided": "cannot be told apart"}


def headline(table1: pd.DataFrame, method: str = "vecaf") -> str:
    """Sentences on a method, multi-run, against each of its rivals in Table 1.

    The rule: at each ratio the 95 % interval of the paired difference decides. Above zero is
    ahead, below zero is behind, and an interval that includes zero is said to decide nothing.

    Args:
        table1: from :func:`vecaf_lib.report.tables.table1`.

    Returns:
        A MyST list, one item a rival, every number linked to its evidence.
    """
    rows = table1[(table1["method"] == method) & (table1["selection"] == "multi")]
    items = [
        f"- **{compare(rows, name)}**\\\n  {_numbers(rows, name)}"
        for name in ("activeft", "random", "full")
        if len(rows) and rows[f"minus_{name}"].notna().any()
    ]
    return "\n".join(items) + "\n"


def compare(rows: pd.DataFrame, reference: str) -> str:
    """One sentence: at which ratios the rows' method is ahead, behind or neither."""
    found: dict[str, list[str]] = {"higher": [], "lower": [], "undecided": []}
    for _, row in rows.iterrows():
        name = f"minus_{reference}"
        if pd.notna(row[name]):
            found[verdict(row[f"{name}_low"], row[f"{name}_high"])].append(percent(row["ratio"]))
    kinds = {kind: at for kind, at in found.items() if at}
    rival = REFERENCES[reference]
    clauses: list[str] = []
    for kind, at in kinds.items():
        where = join(at)
        if len(kinds) == 1:
            words = {1: "the only ratio run", 2: "both ratios"}
            where = words.get(len(at), f"all {len(at)} ratios")
        clauses.append(f"{_clause(kind, rival, first=not clauses)} at {where}")
    return f"{method_name(rows['method'].iloc[0])} {join(clauses)}."


def _clause(kind: str, rival: str, *, first: bool) -> str:
    if kind == "undecided":
        return f"cannot be told apart from {rival if first else 'it'}"
    word = CLAUSES[kind]
    return f"{word} of {rival}" if kind == "higher" else f"{word} {rival if first else 'it'}"


def _numbers(rows: pd.DataFrame, reference: str) -> str:
    parts = [
        f"{percent(row['ratio'])}: {difference(row, reference)}"
        for _, row in rows.iterrows()
        if pd.notna(row[f"minus_{reference}"])
    ]
    return f"Mean paired difference in points, {rows['n'].iloc[0]} seeds: " + "; ".join(parts) + "."


def ablation(table6: pd.DataFrame) -> str:
    """One sentence on what each switch of Table 6 does against neither."""
    names = {("on", "off"): "ODS alone", ("off", "on"): "CEA alone", ("on", "on"): "both together"}
    parts = []
    for _, row in table6.iterrows():
        if (row["ods"], row["cea"]) in names:
            end = "" if (row["ods"], row["cea"]) == ("on", "on") else "s"  # both raise, one raises
            words = {
                "higher": f"raise{end} accuracy",
                "lower": f"lower{end} accuracy",
                "undecided": f"make{end} no difference that these seeds can show",
            }[verdict(row["minus_neither_low"], row["minus_neither_high"])]
            parts.append(f"{names[row['ods'], row['cea']]} {words}")
    return f"Against neither, {join(parts)}."


def loops(table7: pd.DataFrame) -> str:
    """One sentence on whether more loops than the fewest help in Table 7."""
    found: dict[str, list[str]] = {"higher": [], "lower": [], "undecided": []}
    for _, row in table7.iterrows():
        if pd.notna(row["minus_fewest_loops"]):
            low, high = row["minus_fewest_loops_low"], row["minus_fewest_loops_high"]
            found[verdict(low, high)].append(f"{row['loops']:g}")
    parts = [f"{kind} with {join(at)}" for kind, at in found.items() if at]
    if not parts:
        return ""
    parts[0] += " loops"
    return f"Against {table7['loops'].min():g} loops, accuracy is {join(parts)}."
