"""The report's own pages as MyST Markdown: front page, settings, list of notebooks."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from vecaf_lib.report import headline
from vecaf_lib.report.markdown import table1_accuracies, table1_differences, to_markdown
from vecaf_lib.report.names import BY_CLASS, join, method_name
from vecaf_lib.report.paper import paper_markdown

SECTIONS = {
    "table1": ("Table 1: accuracy at a fixed number of batches", "Test accuracy in percent"),
    BY_CLASS: (
        "Table 1 by class: mean accuracy per class",
        "Mean over the classes of test accuracy in percent, so that each class counts the same",
    ),
    "table2": (
        "Table 2: one class against all others",
        "Mean of recall and specificity on the test split in percent, multi-run",
    ),
    "table3": (
        "Table 3: other domains",
        "Test accuracy in percent on corrupted images, by severity, multi-run; corruptions are "
        "generated here unless the profile names ImageNet-C",
    ),
    "table5": (
        "Table 5: vision models and text encoders",
        "Test accuracy of VeCAF in percent, multi-run; `hashed` is a control without meaning",
    ),
    "table6": ("Table 6: ODS and CEA on and off", "Test accuracy in percent, multi-run"),
    "table7": ("Table 7: number of selection loops", "Test accuracy in percent, multi-run"),
    "decisions": (
        "What the paper leaves open",
        "Test accuracy in percent, multi-run, with one decision of ours changed at a time",
    ),
    "replication": (
        "Once more, with other seeds",
        "Test accuracy in percent, multi-run, on seeds that no other table has",
    ),
    "variant": (
        "Our variant, part by part",
        "Test accuracy in percent, multi-run, of self-paced VeCAF with these settings changed",
    ),
}


def index_page(
    *,
    title: str,
    about: str,
    tables: Mapping[str, pd.DataFrame],
    papers: Mapping[str, pd.DataFrame],
    figures: Mapping[str, str],
    run: Mapping[str, Any],
    further: Sequence[str] = (),
) -> str:
    """The front page: what this is, what came out, tables, figures, how to check a number.

    Args:
        about: MyST paragraphs of the profile: its data, its model, what it cannot show.
        tables: name -> our table; those of ``SECTIONS`` that there are.
        papers: the same -> the paper's table, where it has one of the same layout.
        figures: stem -> caption.
        run: any run file, for the facts all runs share.
        further: names of pages that this profile has besides.
    """
    first = tables["table1"]
    result, dataset = run["result"], run["run"]["dataset"]
    text = f"# {title}\n\n{about.strip()}\n\n"
    text += "## What came out\n\n" + headline.headline(first)
    text += (
        "\nThis wording is generated from Table 1: a method is *ahead* or *behind* only where the "
        "whole 95 % interval of the paired difference lies on one side of zero; otherwise the two "
        "*cannot be told apart*, whatever the means say. ▲, ▼ and ○ mark the three cases. "
        "Full-data FT spends the same number of batches on the whole pool.\n"
    )
    text += (
        f"\n## How to read the numbers\n\nEach run finetunes for exactly {result['steps']} "
        f"batches of {result['batch_size']} images of *{dataset}*; accuracy is measured once, "
        "after the last batch, on images that no choice was made on. Numbers are mean ± standard "
        f"error over {seeds_of(first)}, "
        "the same seeds for every method, so differences are taken seed by seed. *Single* selects "
        "once, *multi* selects afresh at the start of each loop. Methods differ in the labels "
        "their selection may see; each table says which. **Every number is a link** to its "
        "seeds, run files and executed notebook ([all evidence](evidence.md)).\n"
    )
    sentences = {"table6": headline.ablation, "table7": headline.loops}
    for name, (heading, unit) in SECTIONS.items():
        if name not in tables:
            continue
        text += f"\n## {heading}\n\n"
        if name in sentences:
            text += f"{sentences[name](tables[name])}\n\n"
        ours = table1_accuracies(first) if name == "table1" else to_markdown(tables[name])
        text += f"{_what(tables[name], unit)}\n\n{ours}\n"
        if name in papers:
            text += _papers_own(heading.partition(":")[0], papers[name])
        if name == "table1":
            text += f"\n### Differences behind Table 1\n\n{table1_differences(first)}"
    text += "\n## Figures\n"
    for stem, caption in figures.items():
        text += _figure(stem, caption)
    text += (
        "\n## Files\n\n"
        + ", ".join(f"[{name}.csv](site:tables/{name}.csv)" for name in tables)
        + "; run files and executed notebooks are linked from [Evidence](evidence.md); the "
        "[settings](settings.md) are those of every run here.\n"
    )
    pages = "\n".join([*further, "evidence", "settings", "notebooks"])
    return f"{text}\n```{{toctree}}\n:hidden:\n\n{pages}\n```\n"


def settings_page(params: str, run: Mapping[str, Any]) -> str:
    """The active params.yaml as it is, and the versions a run file recorded."""
    text = f"# Settings\n\nThe active `params.yaml`:\n\n```yaml\n{params.rstrip()}\n```\n"
    versions = run.get("provenance", {}).get("versions", {})
    if versions:
        text += (
            "\n## Versions\n\nAs recorded in the run files:\n\n| Package | Version |\n|:--|:--|\n"
        )
        text += "".join(f"| {name} | {versions[name]} |\n" for name in sorted(versions))
    return text


def notebooks_page(notebooks: Sequence[Path]) -> str:
    """The list of executed notebooks, in the order of their numbers."""
    names = [path.stem for path in notebooks]
    entries = "\n".join(f"{name} <notebooks/{name}>" for name in names)
    return (
        "# Notebooks\n\nThe executed notebooks, as they ran, in the order of the pipeline.\n\n"
        f"```{{toctree}}\n:maxdepth: 1\n\n{entries}\n```\n"
    )


def _what(table: pd.DataFrame, unit: str) -> str:
    seeds = seeds_of(table)
    ratios = table["ratio"].dropna().unique()
    at = f", {ratios[0]:g} % of the pool selected in each loop" if len(ratios) == 1 else ""
    return f"{unit}, mean ± standard error, {seeds}{at}. **Our measurement:**"


def seeds_of(table: pd.DataFrame) -> str:
    """``n = 5 seeds``, and which rows have others: ``n = 5 seeds (LearnLoss and Top-K loss 3)``."""
    rows = table[table["n"] > 0]
    usual = int(rows["n"].mode().max())
    told = [
        f"{join(list(dict.fromkeys(map(method_name, part['method']))))} {n:g}"
        for n, part in rows[rows["n"] != usual].groupby("n")
    ]
    return f"n = {usual} seeds" + (f" ({'; '.join(told)})" if told else "")


def _papers_own(name: str, paper: pd.DataFrame) -> str:
    return (
        f"\n:::{{admonition}} {name} as the paper prints it: other data, other model, other scale\n"
        f":class: paper\n\n{paper_markdown(paper)}\n"
        "Top-1 accuracy in percent, standard error of 3 repetitions. Shown for its layout and its "
        "order of methods; the values are not comparable with ours.\n:::\n"
    )


def _figure(stem: str, caption: str) -> str:
    alt = caption.partition(".")[0]
    name = stem.replace("figure", "Figure ")
    return (
        f"\n:::{{figure}} figures/{stem}.png\n:name: {stem}\n:alt: {alt}\n:class: plot\n\n"
        f"**{name}.** {caption.strip()} ([PDF](site:figures/{stem}.pdf))\n:::\n"
    )
