"""The page behind the numbers: for each cell of each table its seeds, run files and notebook."""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from vecaf_lib.report.behind import Reached, behind
from vecaf_lib.report.grid import accuracy_text, pipe_table, signed
from vecaf_lib.report.markdown import REFERENCES
from vecaf_lib.report.names import BY_CLASS, percent, row_name, slug

TITLES = {
    "table1": "Table 1",
    BY_CLASS: "Table 1 by class",
    "table2": "Table 2",
    "table3": "Table 3",
    "table5": "Table 5",
    "table6": "Table 6",
    "table7": "Table 7",
    "decisions": "Decisions",
    "replication": "Once more, with other seeds",
    "variant": "Our variant, part by part",
}

WHERE = ("target", "domain", "severity", "vision", "text", "change")


def evidence_page(tables: Mapping[str, pd.DataFrame], runs_dir: Path, runs_link: str) -> str:
    """One anchored section a cell, with each seed's value and the files that made it.

    Args:
        tables: name -> table; of those in ``TITLES`` those there are.
        runs_dir: the folder of run files, ``<method>/<run>.json.gz``.
        runs_link: the way to it from the site's root.

    Returns:
        MyST Markdown. ``site:`` links are relative to the site's root.

    Raises:
        BadInput: a run file is missing, or a table is not the mean of its run files.
    """
    tables = {name: table[table["n"] > 0] for name, table in tables.items()}
    lines = {line["cell"]: line for table in tables.values() for _, line in table.iterrows()}
    values = {cell: behind(line, runs_dir) for cell, line in lines.items()}
    text = (
        "# Evidence\n\nEvery number of the tables, seed by seed. The run file holds the curve, the "
        "chosen images, the settings, the versions and the checksums of a run; the notebook is "
        "the executed one that made it. Means carry their standard error; differences are paired "
        "seed by seed, in percentage points, with a 95 % t interval.\n"
    )
    for name, table in tables.items():
        text += f"\n## {TITLES[name]}\n"
        for _, line in table.iterrows():
            text += _section(line, values, runs_link)
    return text


def _section(line: pd.Series, values: Mapping[str, Mapping[int, Reached]], runs_link: str) -> str:
    """One cell: heading, anchor, sentence, one row a seed."""
    own = values[line["cell"]]
    others = {
        name: str(line[f"minus_{name}_cell"])
        for name in REFERENCES
        if line.get(f"minus_{name}_cell")
    }
    ratio = "all data" if pd.isna(line["ratio"]) else percent(line["ratio"])
    loops = f"{line['loops']:g} loops"
    title = f"{row_name(line['method'], line['selection'] == 'multi')}, {ratio}, {loops}"
    title += "".join(f", {line[key]}" for key in WHERE if line.get(key))
    notebook = "[30_runs](notebooks/30_runs.ipynb)"
    text = (
        f"\n({slug(line['cell'])})=\n### {title[0].upper()}{title[1:]}\n\n"
        f"`{line['cell']}`, made by {notebook}; n = {line['n']} seeds; labels seen by the "
        f"selection: {line['labels']}.\n\n"
    )
    header = ["Seed", "Run file", "Test accuracy, %", "Validation accuracy, %"]
    header += [f"Minus [{REFERENCES[name]}](#{slug(cell)})" for name, cell in others.items()]
    rows = []
    for seed, run in own.items():
        differences = [
            signed(run.test - values[cell][seed].test) if seed in values[cell] else "–"
            for cell in others.values()
        ]
        link = f"[{Path(run.file).name}](site:{runs_link}/{run.file})"
        rows.append([str(seed), link, f"{run.test:.2f}", f"{run.validation:.2f}"])
        rows[-1] += differences
    mean = ["**mean**", "", f"**{accuracy_text(line['mean'], line['standard_error'])}**", ""]
    limits = ["95 % interval", "", "", ""]
    for name in others:
        low, high = signed(line[f"minus_{name}_low"]), signed(line[f"minus_{name}_high"])
        mean.append(f"**{signed(line[f'minus_{name}'])}**")
        limits.append(f"[{low}, {high}]")
    return text + pipe_table(header, [*rows, mean, *([limits] if others else [])], words=2)
