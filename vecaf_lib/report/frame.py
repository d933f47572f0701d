"""Run files as data frames: one row a run, one row an evaluation, one row a training step."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from vecaf_lib.errors import BadInput
from vecaf_lib.report.names import row_name, run_file

KEYS = ["method", "multi_run", "ratio", "loops", "seed", "target"]
RESULTS = ["budget", "steps", "batch_size", "test_accuracy", "validation_accuracy"]


def frame(runs: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """One row a run file, in the order of method, selection, ratio, loops and seed.

    Args:
        runs: run files as read from JSON (format ``vecaf-run-1``).

    Returns:
        Columns dataset, method, multi_run, ratio (percent), loops, seed, budget (images a loop),
        steps (optimiser steps), batch_size, test_accuracy and validation_accuracy (percent, after
        the last step), run_file (path below the folder of run files).

    Raises:
        BadInput: no run, a field missing, or the same run given twice.
    """
    rows = [
        {"dataset": run["run"]["dataset"]}
        | _keys(run)
        | {name: run["result"][name] for name in RESULTS}
        | {"run_file": run_file(run["run"])}
        for run in map(_checked, runs)
    ]
    table = _sorted(rows)
    twice = table[table.duplicated(KEYS)]
    if len(twice):
        raise BadInput(f"Run {twice['run_file'].iloc[0]} is given twice; pass each run once.")
    return table


def in_domain(runs: Iterable[Mapping[str, Any]], domain: str, severity: str) -> pd.DataFrame:
    """As :func:`frame`, of the runs tested in a target domain, with that accuracy as theirs.

    Args:
        domain: such as ``snowy``.
        severity: ``1`` to ``5``, or ``mean``.
    """
    tested = [
        {
            **run,
            "result": {
                **run["result"],
                "test_accuracy": run["result"]["domains"][domain][severity],
            },
        }
        for run in runs
        if domain in run["result"].get("domains", {})
    ]
    return frame(tested)


def by_class(runs: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """As :func:`frame`, with the mean test accuracy per class as the accuracy."""
    return frame(
        {
            **run,
            "result": {
                **run["result"],
                "test_accuracy": run["result"]["test"]["mean_class_accuracy"],
            },
        }
        for run in runs
        if not run["run"]["target"]
    )


def curves(runs: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """Validation accuracy by step: one row an evaluation.

    Returns:
        Columns method, multi_run, ratio, loops, seed, steps (the run's total), step,
        validation_accuracy (percent).
    """
    return _sorted(
        [
            _keys(run) | {"steps": run["result"]["steps"]} | point
            for run in map(_checked, runs)
            for point in run["result"]["curve"]
        ]
    )


def losses(runs: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """Training loss by step, counted from 1: one row an optimiser step.

    Returns:
        Columns method, multi_run, ratio, loops, seed, steps (the run's total), step, train_loss.
    """
    return _sorted(
        [
            _keys(run) | {"steps": run["result"]["steps"], "step": step, "train_loss": loss}
            for run in map(_checked, runs)
            for step, loss in enumerate(run["result"]["train_loss"], start=1)
        ]
    )


def pick(
    table: pd.DataFrame,
    *,
    method: str,
    multi_run: bool,
    ratio: float,
    loops: int,
    seeds: Sequence[int],
    target: str = "",
) -> pd.DataFrame:
    """The rows of one method at one setting, for exactly the seeds asked for.

    Args:
        target: class of the 1-vs-all objective; empty for runs that tell all classes apart.

    Raises:
        BadInput: a seed is missing, named with the run file that would hold it.
    """
    rows = table[
        (table["method"] == method)
        & (table["multi_run"] == multi_run)
        & (table["ratio"] == ratio)
        & (table["loops"] == loops)
        & (table["target"] == target)
        & table["seed"].isin(list(seeds))
    ]
    missing = sorted(set(seeds) - set(rows["seed"]))
    if missing:
        run = {"method": method, "multi_run": multi_run, "ratio": ratio, "loops": loops}
        run["target"] = target
        raise BadInput(
            f"{row_name(method, multi_run)} has no run {run_file(run | {'seed': missing[0]})}; "
            "add it to the profile's grid or run `dvc repro`."
        )
    return rows


def batches_to_target(points: pd.DataFrame, target: float) -> pd.DataFrame:
    """First evaluated step whose validation accuracy is at least ``target`` (B2A, figure 5).

    Args:
        points: rows of :func:`curves`.
        target: validation accuracy in percent.

    Returns:
        One row a run: method, multi_run, ratio, loops, seed, batches, reached. A run that never
        gets there keeps its row: reached is False and batches its total number of steps, a lower
        bound.
    """
    rows = []
    for keys, run in points.groupby(KEYS, sort=True):
        hits = run.loc[run["validation_accuracy"] >= target, "step"]
        batches = hits.min() if len(hits) else run["steps"].iloc[0]
        rows.append(
            {
                **dict(zip(KEYS, keys, strict=True)),
                "batches": int(batches),
                "reached": len(hits) > 0,
            }
        )
    return pd.DataFrame(rows)


def _keys(run: Mapping[str, Any]) -> dict[str, Any]:
    return {name: run["run"][name] for name in KEYS} | {"ratio": float(run["run"]["ratio"])}


def _checked(run: Mapping[str, Any]) -> Mapping[str, Any]:
    needed = {"run": ["dataset", *KEYS], "result": [*RESULTS, "curve", "train_loss"]}
    for section, fields in needed.items():
        for field in fields:
            if field not in run.get(section, {}):
                name = run.get("run", "unnamed")
                raise BadInput(f"The run file of {name} has no field {section}.{field}.")
    return run


def _sorted(rows: list[dict[str, Any]]) -> pd.DataFrame:
    if not rows:
        raise BadInput("There is no run to report on; run `dvc repro` to make the run files.")
    order = [*KEYS, "step"] if "step" in rows[0] else KEYS
    return pd.DataFrame(rows).sort_values(order, kind="stable", ignore_index=True)
