"""Table 4: what VeCAF and full-data finetuning cost, part by part, in operations and in seconds."""

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from vecaf_lib.errors import BadInput
from vecaf_lib.report.grid import pipe_table
from vecaf_lib.report.names import slug

ONCE = ("captioning", "text encoding")  # before the first loop
BY_LOOP = ("CEA", "embedding passes", "selection")
FINETUNING, TOTAL = "finetuning", "total"
PARTS = ("captioning", "text encoding", "CEA", "embedding passes", "selection", FINETUNING)
NAMES = {
    "vecaf": "VeCAF",
    "vecaf_no_captioner": "VeCAF, captions given",
    "full": "Full-data FT",
    "vecaf_b2a": "VeCAF, to the target",
    "full_b2a": "Full-data FT, to the target",
}


def table4(measured: Mapping[str, Any], *, batches: Mapping[str, float] | None) -> pd.DataFrame:
    """Totals of a run from the measured parts and how often a run does them.

    At the profile's number of steps for VeCAF, for VeCAF without its captioner (the paper's Table
    4 leaves it out) and for full-data finetuning, whose step costs the same. With ``batches`` also
    up to a target accuracy; loops that had not begun by then cost nothing.

    Args:
        measured: from :func:`vecaf_lib.cost.measure_run`, of VeCAF.
        batches: mean batches to the target of ``vecaf`` and ``full``, where all runs reached it.

    Returns:
        Columns cell (``table4/<variant>/<part>``), variant, part, batches, gflops, seconds, share
        (percent of the variant's operations). NaN where a part was not counted or not timed; the
        total is of the others.

    Raises:
        BadInput: ``batches`` lacks a method or has more batches than the profile has steps.
    """
    steps = float(measured["steps"])
    wanted = {
        "vecaf": (PARTS, steps),
        "vecaf_no_captioner": (PARTS[1:], steps),
        "full": ((FINETUNING,), steps),
    }
    if batches is not None:
        for method, parts in (("vecaf", PARTS), ("full", (FINETUNING,))):
            number = batches.get(method, math.nan)
            if not 0 < number <= steps:
                raise BadInput(
                    f"batches: {method} has {number:g} to the target; it must be more than 0 and "
                    f"at most {steps:g}, the steps of a run."
                )
            wanted[f"{method}_b2a"] = (parts, float(number))
    lines = [
        line
        for variant, (parts, number) in wanted.items()
        for line in _variant(variant, parts, number, measured)
    ]
    return pd.DataFrame(lines)


def _variant(
    variant: str, parts: tuple[str, ...], batches: float, measured: Mapping[str, Any]
) -> list[dict[str, Any]]:
    begun = min(measured["loops"], math.ceil(batches * measured["loops"] / measured["steps"]))
    costs = {}
    for part in parts:
        told = measured["parts"][part]
        times = float(told["times"])
        if part == FINETUNING:
            times = batches
        elif part in BY_LOOP:
            times *= begun / measured["loops"]
        costs[part] = [
            math.nan if told[unit] is None else told[unit] * times for unit in ("gflops", "seconds")
        ]
    costs[TOTAL] = [math.fsum(c[i] for c in costs.values() if not math.isnan(c[i])) for i in (0, 1)]
    whole = costs[TOTAL][0]
    return [
        {
            "cell": f"table4/{variant}/{slug(part)}",
            "variant": variant,
            "part": part,
            "batches": batches,
            "gflops": gflops,
            "seconds": seconds,
            "share": 100 * gflops / whole if whole else math.nan,
        }
        for part, (gflops, seconds) in costs.items()
    ]


def table4_markdown(table: pd.DataFrame, evidence: str = "") -> str:
    """Parts down, variants across, operations with their share and then seconds; what is counted.

    Args:
        table: from :func:`table4` (or read back from its CSV file).
        evidence: the page with one section a cell, if there is one to link to.
    """
    variants = list(dict.fromkeys(table["variant"]))
    by_cell = {(line["variant"], line["part"]): line for _, line in table.iterrows()}
    header = ["Part"]
    for variant in variants:
        number = by_cell[variant, TOTAL]["batches"]
        header.append(f"{NAMES[variant]}, {number:g} batches")
    text = ""
    for unit, words in (("gflops", "GFLOPs (share)"), ("seconds", "Seconds")):
        rows = []
        for part in (*PARTS, TOTAL):
            cells = [_cell(by_cell.get((v, part)), unit, evidence) for v in variants]
            rows.append([f"**{part}**" if part == TOTAL else part, *cells])
        text += f"**{words}** of one run:\n\n{pipe_table(header, rows, words=1)}\n"
    return f"{text}{_sentences(table)}\n"


def _cell(line: pd.Series | None, unit: str, evidence: str) -> str:
    if line is None:
        return ""
    if pd.isna(line[unit]):
        return "not measured"
    text = f"{line[unit]:,.3g}" if line[unit] < 1000 else f"{line[unit]:,.0f}"
    if unit == "gflops" and pd.notna(line["share"]):
        text += f" ({line['share']:.1f} %)"
    return f"[{text}]({evidence}#{slug(line['cell'])})" if evidence else text


def _sentences(table: pd.DataFrame) -> str:
    """What is counted, and by how much the two differ."""
    total = {line["variant"]: line for _, line in table[table["part"] == TOTAL].iterrows()}

    def times(one: str, other: str, unit: str) -> str:
        below = total[other][unit]
        return f"{total[one][unit] / below:.2f}" if below else "–"

    text = (
        "FLOPs are those of torch's FlopCounterMode: matrix products, convolutions and attention, "
        "a multiplication with its addition as 2; backward, a grouped convolution counts as twice "
        "its forward pass, where torch's own count is too high. Element-wise work, linear solvers "
        "and what is not torch are in the seconds alone. A run's validation and test are in "
        "neither. At equal "
        f"numbers of batches VeCAF costs {times('vecaf', 'full', 'gflops')} times the FLOPs and "
        f"{times('vecaf', 'full', 'seconds')} times the seconds of full-data finetuning with its "
        f"captioner, {times('vecaf_no_captioner', 'full', 'gflops')} and "
        f"{times('vecaf_no_captioner', 'full', 'seconds')} times without (the paper's Table 4 "
        "leaves the captioner out)."
    )
    if "vecaf_b2a" in total:
        text += (
            " Up to the target accuracy full-data finetuning costs "
            f"{times('full_b2a', 'vecaf_b2a', 'gflops')} times the FLOPs and "
            f"{times('full_b2a', 'vecaf_b2a', 'seconds')} times the seconds of VeCAF, for "
            f"{times('full_b2a', 'vecaf_b2a', 'batches')} times the batches."
        )
    missing = sorted(set(table.loc[table["gflops"].isna(), "part"]))
    if missing:
        text += f" FLOPs of {' and '.join(missing)} could not be counted and are in no total."
    untimed = sorted(set(table.loc[table["seconds"].isna(), "part"]))
    if untimed:
        text += f" Seconds of {' and '.join(untimed)} were not measured and are in no total."
    return text
