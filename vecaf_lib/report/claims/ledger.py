"""Every claim of the paper with our number and a verdict."""

import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from vecaf_lib.errors import BadInput
from vecaf_lib.report import tables as report_tables
from vecaf_lib.report.claims.found import Found
from vecaf_lib.report.claims.ours import Ours
from vecaf_lib.report.claims.paper import GENERAL, Paper
from vecaf_lib.report.claims.printed import table_claims
from vecaf_lib.report.claims.statements import Claim, contradictions, text_claims
from vecaf_lib.report.names import slug
from vecaf_lib.report.verdicts import Effect, Expect, Number, verdict

COLUMNS = [
    *("id", "where", "statement", "paper_value", "paper_standard_error", "unit", "kind", "scope"),
    *("our_value", "our_standard_error", "our_low", "our_high", "n", "cells", "runs"),
    *("distance", "verdict", "rule", "link"),
]


def ledger(
    tables: Mapping[str, pd.DataFrame],
    paper_dir: Path,
    *,
    profile: str,
    stands_for: Mapping[str, Any] | None,
    seeds: Sequence[int],
    setting: str,
    runs_dir: Path | None = None,
) -> pd.DataFrame:
    """Every claim of the paper with our number and the verdict on it.

    Args:
        tables: name -> our table, as ``vecaf_lib.report.tables.read_csv`` reads it: those of
            ``table1`` to ``table7`` and ``batches`` that there are.
        paper_dir: the paper's numbers and ``claims.yaml``.
        profile: the active profile.
        stands_for: the paper's data set that the profile is about, and ``full`` if in the paper's
            whole setting; None if about none.
        seeds: of the profile.
        setting: ours in words, e.g. ``digits at 32 px, tf_efficientnet_lite0, 36 steps of 12``.
        runs_dir: run files, for the paired differences that the tables do not hold; without it the
            claims that need one are said to be not run.

    Returns:
        One row a claim, columns ``COLUMNS``: text claims, cells of the tables, contradictions.

    Raises:
        BadInput: claims.yaml is wrong: a row is not there, its arithmetic does not come out, or
            what it calls a contradiction is none.
    """
    paper, ours = Paper(paper_dir), Ours(tables, runs_dir)
    claims = [*text_claims(paper), *table_claims(paper), *contradictions(paper)]
    ids = [claim.id for claim in claims]
    if twice := next((id for id in ids if ids.count(id) > 1), None):
        raise BadInput(f"{paper.file}: the claim {twice} is there twice; name each once.")
    theirs = {scope: _papers(paper, scope) for scope in {claim.scope for claim in claims}}
    printed = {(c.scope, c.ours): c.number.value for c in claims if c.ours}
    full = bool(stands_for and stands_for.get("full"))
    about = stands_for["dataset"] if stands_for else None
    lines = []
    for claim in claims:
        general = claim.scope == GENERAL
        met = full and (general or claim.scope == about)
        sizes = {cell: v for (scope, cell), v in printed.items() if scope == about} if met else {}
        found = ours.look(claim, paper, sizes, about if met else None)
        told = verdict(
            claim.kind,
            paper_setting=met,
            general=general,
            ours=found.ours,
            theirs=claim.number,
            percent=claim.unit in ("percent", "points"),
            effects=found.effects,
            missing=found.missing,
            expect=found.expect,
            up_to=found.up_to,
        )
        n = f"{len(seeds)} seed{'s' if len(seeds) != 1 else ''}"
        distance = (
            ""
            if claim.kind in ("contradiction", "setting")
            else f"Profile {profile} has the paper's setting as far as it is printed, with {n}."
            if met
            else f"Ours: {setting}, {n}; the paper's: {theirs[claim.scope]}."
        )
        lines.append(_line(claim, found) | {"distance": distance, "verdict": told.text})
        lines[-1]["rule"] = told.rule
    return pd.DataFrame(lines, columns=COLUMNS).astype({"n": "Int64"})


def to_csv(table: pd.DataFrame, path: Path) -> None:
    """Write a ledger: equal ledgers are equal bytes."""
    report_tables.to_csv(table, path)


def read_csv(path: Path) -> pd.DataFrame:
    """Read a ledger as :func:`to_csv` wrote it.

    Raises:
        BadInput: the file is missing.
    """
    if not path.is_file():
        raise BadInput(f"{path} is missing; `dvc repro` makes it.")
    numbers = [c for c in COLUMNS if c.startswith(("paper_", "our_"))] + ["n"]
    texts = [name for name in COLUMNS if name not in numbers]
    table = pd.read_csv(path, dtype=dict.fromkeys(texts, str))
    return table.fillna(dict.fromkeys(texts, "")).astype({"n": "Int64"})


def link(cell: str) -> str:
    """Where the report shows a cell: its evidence, or the file of a table that has no runs."""
    table = cell.partition("/")[0]
    anchored = table.startswith("table") and table != "table4"
    return f"evidence.md#{slug(cell)}" if anchored else f"site:tables/{table}.csv"


def _line(claim: Claim, found: Found) -> dict[str, Any]:
    """The row of a claim; of several comparisons the weakest is shown."""
    shown = Number(math.nan) if found.ours is None else found.ours
    low = high = math.nan
    n, order = shown.n, list(found.cells)
    if found.effects:
        number = _weakest(found.effects, found.expect)
        weak = found.effects[number]
        shown, low, high, n = Number(weak.mean), weak.low, weak.high, weak.n
        order = [order[number], *order[:number], *order[number + 1 :]]
    cells = list(dict.fromkeys(itertools.chain(*order)))
    return {
        "id": claim.id,
        "where": claim.where,
        "statement": claim.statement,
        "paper_value": claim.number.value,
        "paper_standard_error": claim.number.standard_error,
        "unit": claim.unit,
        "kind": claim.kind,
        "scope": claim.scope,
        "our_value": shown.value,
        "our_standard_error": shown.standard_error,
        "our_low": low,
        "our_high": high,
        "n": n,
        "cells": " ".join(cells),
        "runs": " ".join(found.runs),
        "link": link(cells[0]) if cells else "",
    }


def _papers(paper: Paper, scope: str) -> str:
    """The paper's setting in words."""
    setting, asked = paper.content["setting"], {"table": "figures", "quantity": "total batches"}
    batches = dict(setting["batches"])
    for _, row in paper.rows(asked, "setting").iterrows():
        batches.setdefault(row["dataset"], f"{row['value']:g}")
    counts = list(batches.values()) if scope == GENERAL else [batches.get(scope, "?")]
    data = ", ".join(batches) if scope == GENERAL else scope
    steps = f"{', '.join(map(str, counts))} batches of {setting['batch_size']}"
    return f"{data}, {setting['model']}, {steps}"


def _weakest(effects: Sequence[Effect], expect: Expect) -> int:
    """Which comparison supports the claim least; one without an interval does so."""
    ends = [effect.low if expect == "higher" else -effect.high for effect in effects]
    return min(range(len(ends)), key=lambda i: (not math.isnan(ends[i]), ends[i]))
