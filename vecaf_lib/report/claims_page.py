"""The ledger of claims as a page of the report."""

import itertools
import math
import re
from collections.abc import Hashable, Mapping
from typing import Any

import pandas as pd

from vecaf_lib.report.claims import link
from vecaf_lib.report.grid import accuracy_text, pipe_table, signed
from vecaf_lib.report.names import slug
from vecaf_lib.report.verdicts import CONTRADICTS, NOT_RUN, VERDICTS, rule

SHOWN_CELLS = 12  # links to the cells of a claim; the rest are counted


def claims_page(ledger: pd.DataFrame) -> str:
    """The page: counts, the rule, text claims, printed numbers, contradictions.

    Args:
        ledger: from :func:`vecaf_lib.report.claims.ledger`, or read back from its file.

    Returns:
        MyST Markdown. Each claim has the anchor ``slug(id)``; each of our numbers links to its
        evidence, or to the table it stands in.
    """
    printed = ledger["id"].str.match(r"claims/(table|figure)\d\w?/")
    printed &= ledger["kind"].isin(["value", "setting"])
    against = ledger["verdict"] == CONTRADICTS
    text = (
        "# Claims\n\nEvery number and every comparison of numbers that the paper prints, in our "
        "words, with our own number and a verdict. `make trace ID=claims/...` follows one to its "
        f"run files.\n\n{_counts(ledger, printed, against)}"
        f"\n## The rule\n\n{rule()}\n"
        "\n## Claims of abstract, text and figures\n\nOf a claim about several comparisons, the "
        "one that supports it least is shown.\n"
    )
    for _, row in ledger[~printed & ~against].iterrows():
        text += _claim(row)
    text += "\n## Numbers of the tables and figures\n"
    for title, rows in itertools.groupby(ledger[printed].to_dict("records"), key=_table):
        text += f"\n### {title}\n"
        text += _numbers(pd.DataFrame(list(rows)))
    text += "\n## Contradictions inside the paper\n\nComputed from the printed numbers.\n"
    for _, row in ledger[against].iterrows():
        text += f"\n({slug(row['id'])})=\n{row['statement']} *({row['where']})*\n"
    return text


def _counts(ledger: pd.DataFrame, printed: pd.Series, against: pd.Series) -> str:
    lines = []
    for name in VERDICTS:
        hits = ledger["verdict"] == name
        parts = (~printed & ~against, printed, against)
        lines.append([name, *(str(int((hits & part).sum())) for part in parts)])
    header = ["Verdict", "Claims in words", "Printed numbers", "Contradictions"]
    return pipe_table(header, lines, words=1)


def _claim(row: pd.Series) -> str:
    """One claim of the text as a paragraph with an anchor."""
    text = f"\n({slug(row['id'])})=\n**{row['statement']}** *({row['where']})*\\\n"
    text += f"{row['verdict'].capitalize()}; rule {row['rule']}.\\\n"
    ours = our_number(row)
    if ours != "–":
        text += f"Ours: {ours}, {_unit(row)}{_mark(row)}.\\\n"
    if cells := row["cells"].split():
        more = f" and {len(cells) - SHOWN_CELLS} more" if len(cells) > SHOWN_CELLS else ""
        text += f"Cells: {', '.join(f'[{c}]({link(c)})' for c in cells[:SHOWN_CELLS])}{more}.\\\n"
    return f"{text}{row['distance']}\n"


def _numbers(rows: pd.DataFrame) -> str:
    """The printed numbers of one table: a grid a group, the anchors of its rows before it."""
    text = ""
    for distance in rows["distance"].drop_duplicates():
        text += f"\n{distance}\n" if distance else ""
    rows = rows.assign(group=rows["id"].map(_group))
    for _, part in rows.groupby("group", sort=False):
        text += "\n" + "".join(f"({slug(id)})=\n" for id in part["id"])
        lines = [
            [
                row["statement"].rpartition(":")[0],
                f"{_paper(row)} {_unit(row)}",
                our_number(row) + _mark(row),
                row["verdict"],
                row["rule"],
            ]
            for _, row in part.iterrows()
        ]
        header = ["Number", "Paper", "Ours", "Verdict", "Rule"]
        text += "\n" + pipe_table(header, lines, words=1)
    return text


def our_number(row: pd.Series) -> str:
    """Our number with its interval or standard error, linked; a dash if there is none."""
    if pd.isna(row["our_value"]):
        return "–"
    if pd.notna(row["our_low"]):
        ends = [row["our_low"], row["our_high"]]
        if row["unit"] == "points":
            shown = [signed(x) for x in (row["our_value"], *ends)]
        else:
            shown = ["no limit" if math.isinf(x) else f"{x:.2f}" for x in (row["our_value"], *ends)]
        text = f"{shown[0]} [{shown[1]}, {shown[2]}]"
    elif row["unit"] == "percent" and pd.notna(row["our_standard_error"]):
        text = accuracy_text(row["our_value"], row["our_standard_error"])
    else:
        text = f"{row['our_value']:.4g}"
    return f"[{text}]({row['link']})"


def _paper(row: pd.Series) -> str:
    if row["unit"] == "percent":
        return accuracy_text(row["paper_value"], row["paper_standard_error"])
    return f"{row['paper_value']:.10g}"


def _unit(row: pd.Series) -> str:
    return "%" if row["unit"] == "percent" else str(row["unit"])


def _mark(row: pd.Series) -> str:
    another = row["verdict"] == NOT_RUN and pd.notna(row["our_value"])
    return " (another setting)" if another and row["rule"].startswith("2") else ""


def _table(row: Mapping[Hashable, Any]) -> str:
    return re.sub(r"^[a-z]+", r"\g<0> ", row["id"].split("/")[1]).capitalize()


def _group(id: str) -> str:
    """Table 1 has a grid a method, the others one."""
    parts = id.split("/")
    return "/".join(parts[1:3] if parts[1] == "table1" else parts[1:2])
