"""One claim for each number that a table or figure of the paper prints."""

import math
import re
from collections.abc import Iterator, Mapping

import pandas as pd

from vecaf_lib.report import tables as report_tables
from vecaf_lib.report.claims.paper import IMAGENET, PRINTED, Paper, plain
from vecaf_lib.report.claims.statements import Claim
from vecaf_lib.report.grid import accuracy_text
from vecaf_lib.report.names import FULL, percent, slug
from vecaf_lib.report.verdicts import Number

CLAIMED = ("batches to target accuracy", "acceleration over full data")  # else a setting


def table_claims(paper: Paper) -> Iterator[Claim]:
    """One claim for each number that the paper's tables and figures print."""
    for name, table in paper.tables.items():
        for _, row in table.iterrows():
            value = row[PRINTED.get(name, "accuracy")]
            if pd.isna(value):
                continue  # the paper prints a dash
            id, words, ours, dataset = _printed_cell(name, row, paper.content["names"])
            unit = row.get("unit", "GFLOPs" if name == "table4" else "percent")
            setting = name == "figures" and row["quantity"] not in CLAIMED
            where = f"figure {row['figure']}" if name == "figures" else f"table {name[-1]}"
            text = accuracy_text(value, row.get("standard_error", math.nan))
            text = f"{text} %" if name not in PRINTED else f"{plain(value)} {unit}"
            yield Claim(
                f"claims/{id}",
                where,
                f"{words}: {text}.",
                Number(float(value), float(row.get("standard_error", math.nan))),
                unit,
                "setting" if setting else "value",
                dataset,
                ours,
            )
    batches = paper.tables["table4"].drop_duplicates("method")
    for _, row in batches.iterrows():
        count = float(row["training_batches"])
        words = f"{row['label']}, training batches: {plain(count)} batches."
        id = f"claims/table4/{row['method']}/batches"
        yield Claim(id, "table 4", words, Number(count), "batches", "value", IMAGENET)


def _printed_cell(name: str, row: pd.Series, names: Mapping[str, str]) -> tuple[str, str, str, str]:
    """Id without ``claims/``, words, our cell and data set of a printed number."""
    dataset = str(row.get("dataset", IMAGENET))
    data = re.sub("[^a-z0-9]", "", dataset.lower())
    label = str(row.get("label", "")).replace(" (ours)", "")
    if name == "table1":
        share = "all" if row["method"] == FULL else f"r{row['ratio']:g}"
        kind = f"{row['method']}/{row['selection']}"
        at = "all data" if share == "all" else percent(row["ratio"])
        words = f"{label}, {row['selection']}-run, {dataset}, {at}"
        return f"table1/{kind}/{data}/{share}", words, f"table1/{kind}/{share}", dataset
    if name == "table2":
        id = f"table2/{row['method']}/{row['target_class']}"
        return id, f"{label}, {row['target_class']} against all others, {dataset}", id, dataset
    if name == "table3":
        id = f"table3/{row['method']}/{row['corruption']}"
        return id, f"{label}, {row['corruption']} of ImageNet-C", f"{id}/mean", dataset
    if name == "table4":
        id = f"table4/{row['method']}/{slug(row['part'])}"
        return id, f"{label}, {row['part']}", f"{row['method']} {row['part']}", dataset
    if name == "table5":
        pair = (row["vision_model"], row["language_model"])
        ours = "/".join(["table5", *(f"{names[each]}*" for each in pair)])
        return "/".join(["table5", *map(slug, pair)]), f"{' with '.join(pair)}", ours, dataset
    if name == "table6":
        key = ("on" if row["ods"] else "off", "on" if row["cea"] else "off")
        method = next(m for m, switches in report_tables.ABLATION.items() if switches == key)
        words = f"ODS {key[0]}, CEA {key[1]}, {dataset}"
        return f"table6/{method}/{data}", words, f"table6/{method}", dataset
    if name == "table7":
        id = f"table7/l{row['loops']}"
        return id, f"{row['loops']} loops, {dataset}", id, dataset
    who = f"/{row['method']}" if pd.notna(row["method"]) else ""
    id = f"figure{row['figure']}/{data}{who}/{slug(row['quantity'])}"
    if row["quantity"] == "target accuracy":
        id += f"-{row['value']:g}"
    words = f"{dataset}{who.replace('/', ', ')}, {row['quantity']}"
    return id, words, "", dataset
