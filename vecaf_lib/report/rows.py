"""Which rows Table 1 has: read off the settings, so that describing a method adds it."""

from collections.abc import Mapping, Sequence
from typing import Any

from vecaf_lib.report.cells import Row
from vecaf_lib.report.names import FULL


def table1_rows(
    runs: Sequence[Mapping[str, Any]],
    methods: Mapping[str, Any],
    *,
    ratios: Sequence[float],
    loops: int,
) -> list[Row]:
    """One row for each method, single-run and multi-run, whose grid has every ratio of the table.

    Args:
        runs: run files; they say which labels a method's selection saw.
        methods: section ``methods`` of the settings, the methods that are run.
        ratios: percent, the table's columns. Full-data finetuning needs none of them.
        loops: of every run in the table.
    """
    labels = label_use(runs)
    rows = []
    for name, method in methods.items():
        for multi_run in (False, True):
            blocks = [
                block
                for block in method["grid"]
                if multi_run in block["multi_run"] and loops in block["loops"]
            ]
            there = {ratio for block in blocks for ratio in block["ratios"]}
            if there and (name == FULL or set(ratios) <= there):
                rows.append(Row(name, multi_run, labels[name], method.get("repetitions")))
    return rows


def label_use(runs: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Method -> which labels its selection saw, as its run files have it."""
    return {run["run"]["method"]: run["result"]["labels_seen"] for run in runs}
