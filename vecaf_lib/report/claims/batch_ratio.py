"""How many times the batches of one method another needs to reach an accuracy."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from scipy import stats

from vecaf_lib.report.claims.found import Found
from vecaf_lib.report.verdicts import Effect


def batch_ratios(
    table: pd.DataFrame, spec: Mapping[str, Any], targets: Sequence[float] | None
) -> Found:
    """Quotients of batches to a target accuracy, with an interval on the log scale.

    Runs that never reach the target count with all their batches, a lower bound: good enough
    on top of the quotient; below, the interval is open. A target that neither method reaches
    in any run is missing.

    Args:
        table: ``batches.csv``.
        spec: the test of the claim: ``first``, methods, each over ``second``.
        targets: accuracies in percent; None for all of the table.
    """
    table = table.assign(target=pd.to_numeric(table["target"]))
    effects, missing, cells, runs = [], [], [], []
    for target in sorted(table["target"].unique()) if targets is None else targets:
        rows = {line["method"]: line for _, line in table[table["target"] == target].iterrows()}
        for rival in spec["first"]:
            if absent := [name for name in (rival, spec["second"]) if name not in rows]:
                missing += [f"batches/{name}/{target:g}" for name in absent]
                continue
            one, other = rows[rival], rows[spec["second"]]
            if not (int(one["reached"]) or int(other["reached"])):
                missing.append(f"a run that reaches {target:g} %")
                continue
            effects.append(_quotient(one, other))
            cells.append(tuple(f"batches/{n}/{target:g}" for n in (rival, spec["second"])))
            runs += [run for line in (one, other) for run in str(line["runs"]).split()]
    return Found(
        None,
        tuple(effects),
        tuple(dict.fromkeys(missing)),
        "higher",
        spec.get("up_to", False),
        tuple(cells),
        tuple(dict.fromkeys(runs)),
    )


def _quotient(one: pd.Series, other: pd.Series) -> Effect:
    """Batches of one method divided by those of another (delta method on the logarithm)."""
    n = int(min(one["n"], other["n"]))
    mean = float(one["mean"]) / float(other["mean"])
    error = math.hypot(*(float(x["standard_error"]) / float(x["mean"]) for x in (one, other)))
    reach = float(stats.t.ppf(0.975, max(n - 1, 1))) * error
    low, high = mean * math.exp(-reach), mean * math.exp(reach)
    if int(one["reached"]) < int(one["n"]):
        high = math.inf
    if int(other["reached"]) < int(other["n"]):
        low = 0.0
    return Effect(mean, low, high, n, neutral=1.0)
