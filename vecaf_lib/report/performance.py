"""The page on the speed of selection, from what the benchmarks left in reports/performance."""

import json
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from vecaf_lib.report.figures import STYLE
from vecaf_lib.report.grid import accuracy_text, pipe_table, signed

LINES, TABLE, GROWTH = "selection.jsonl", "engine.csv", "growth"
OBJECTIVE = "objective.csv"
OPENING = """# Performance of selection

What `make bench` measured on one machine, each line in a process of its own. Times are that
machine's; the ratios stand beside a plain implementation in the same run.
"""


def read_lines(path: Path) -> pd.DataFrame:
    """The measurements at scale; the last one of its kind counts.

    Column ``one_pass_seconds`` is the N x K product at the rate measured beside it.
    """
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    table = pd.DataFrame(lines).drop_duplicates(["measurement", "n", "k", "ensemble"], keep="last")
    product = 2e-9 * table["n"] * table["k"] * table["d"]
    return table.assign(one_pass_seconds=(product / table["gflops"]).astype(float))


def exponent(lines: pd.DataFrame, column: str = "seconds") -> float:
    """b of seconds = a N^b, least squares on logarithms."""
    return float(np.polyfit(np.log(lines["n"]), np.log(lines[column]), 1)[0])


def growing(lines: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The two series of growth; a whole single member belongs to that of K = 1 %."""
    series = {}
    for name in ("growth, K = 1,000", "growth, K = 1 %"):
        wanted = [name, "member"] if name.endswith("%") else [name]
        part = lines[lines["measurement"].isin(wanted)].sort_values("n")
        if len(part) > 1:
            series[name.removeprefix("growth, ")] = part
    return series


def growth_figure(lines: pd.DataFrame) -> Figure:
    """Seconds against N on logarithmic axes, beside one pass of the N x K product."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(7.6, 3.4))
        axes = figure.subplots(1, 2, sharey=True)
        for panel, (name, part) in zip(axes, growing(lines).items(), strict=False):
            shown = f"selection, N$^{{{exponent(part):.2f}}}$"
            panel.loglog(part["n"], part["seconds"], "o-", label=shown)
            label = f"one pass, N$^{{{exponent(part, 'one_pass_seconds'):.2f}}}$"
            panel.loglog(part["n"], part["one_pass_seconds"], "s--", label=label)
            panel.set_title(name, loc="left")
            panel.set_xlabel("N, samples")
            panel.legend()
        axes[0].set_ylabel("seconds")
    return figure


def performance_page(folder: Path) -> str:
    """MyST Markdown of what there is in the folder."""
    text = OPENING
    if (folder / TABLE).is_file():
        table = pd.read_csv(folder / TABLE)
        rows = [[str(value) for value in line] for line in table.itertuples(index=False)]
        text += "\n## Beside plain autograd\n\nN 50,000, d 384, K 500; CIFAR-10: 45,000.\n\n"
        text += pipe_table(["Measure", "Found", "Goal", "In detail"], rows, words=1)
    if (folder / OBJECTIVE).is_file():
        text += _objective(pd.read_csv(folder / OBJECTIVE))
    if (folder / LINES).is_file():
        lines = read_lines(folder / LINES)
        rows = [
            [
                line["measurement"],
                f"{line['n']:,}",
                f"{line['k']:,}",
                f"{line['ensemble']}",
                f"{line['seconds']:,.1f}",
                f"{line['peak_gib']:.2f}",
                f"{line['one_pass_seconds']:,.1f}",
                line["commit"],
            ]
            for _, line in lines.iterrows()
        ]
        last = lines.iloc[-1]
        text += (
            f"\n## At scale\n\nd {last['d']}, float16, memory-mapped; {last['threads']} threads. "
            "The last column but one is the time of a single pass of the N x K product at the "
            "rate measured in the same process, in the product that the engine uses. Up to 10^9 "
            "pairs of sample and centroid every renewal looks at the whole pool; beyond, all but "
            "the last look at a draw of 16 K samples, so that a larger pool may take less time.\n\n"
        )
        header = [
            "Measurement",
            "N",
            "K",
            "Members",
            "Seconds",
            "Peak GiB",
            "One pass, s",
            "Commit",
        ]
        text += pipe_table(header, rows, words=1)
        if growing(lines):
            text += (
                "\n```{figure} performance/growth.png\n:class: plot\n\nTime of a complete "
                "selection against the size of the pool, with the fitted exponent.\n```\n"
            )
    return text


def _objective(table: pd.DataFrame) -> str:
    """Objective and accuracy side by side: what a lower objective is worth."""
    rows = [
        [
            line["selection"],
            "–" if pd.isna(line["objective"]) else f"{line['objective']:.3f}".replace("-", "−"),
            accuracy_text(line["accuracy"], line["standard_error"]),
        ]
        for _, line in table.iterrows()
    ]
    both = table.dropna()
    rank = signed(float(both["objective"].corr(both["accuracy"], method="spearman")))
    return (
        "\n## What a lower objective is worth\n\nThe same CIFAR-10 images, p_L from losses; the "
        "objective that is minimised, and the accuracy of a linear probe on what is chosen. Their "
        f"rank correlation is {rank}: above zero, better minimisers choose worse images. "
        f"n = {table['n'].iloc[0]} seeds (`python benchmarks/objective_accuracy.py`).\n\n"
        + pipe_table(["Selection", "Objective", "Accuracy, %"], rows, words=1)
    )
