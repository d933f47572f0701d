"""Synthetic run files: invented numbers that exist only inside these tests."""

import math
import random
from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest

from vecaf_lib.report.cells import Row
from vecaf_lib.report.frame import by_class, frame
from vecaf_lib.report.names import BY_CLASS
from vecaf_lib.report.tables import table1, table6, table7

SEEDS, RATIOS = (0, 1, 2), (2.0, 5.0, 10.0)
LABELS = {
    "random": "chosen only",
    "activeft": "chosen only",
    "topk_loss": "all",
    "full": "all",
    "vecaf": "all",
    "vecaf_no_ods": "chosen only",
    "vecaf_no_cea": "all",
    "vecaf_neither": "chosen only",
}
ROWS = [
    *(Row(m, multi, LABELS[m]) for m in ("random", "activeft", "topk_loss") for multi in (0, 1)),
    Row("full", False, "all"),
    Row("vecaf", False, "all"),
    Row("vecaf", True, "all"),
]
LEVEL = {"random": 70, "topk_loss": 55, "full": 84, "vecaf_no_ods": 75, "vecaf_no_cea": 77}


def synthetic_run(
    method: str, multi_run: bool, ratio: float, loops: int, seed: int, accuracy: float | None = None
) -> dict[str, Any]:
    """One run file in the format of the pipeline, with a smooth invented curve."""
    noise = random.Random(f"{method} {multi_run} {ratio} {loops} {seed}")
    if accuracy is None:
        level = LEVEL.get(method, 74) + (4 if method == "vecaf" else 0) + 3 * multi_run
        accuracy = level + min(ratio, 10) + 0.5 * loops + 0.6 * seed + noise.uniform(-1, 1)
    reach = [accuracy * (1 - math.exp(-step / 14)) for step in range(6, 61, 6)]
    curve = [
        {"step": 6 * i, "validation_accuracy": round(a + noise.uniform(-1, 1), 2)}
        for i, a in enumerate(reach, start=1)
    ]
    return {
        "format": "vecaf-run-1",
        "run": {
            "dataset": "digits",
            "method": method,
            "multi_run": multi_run,
            "ratio": ratio,
            "loops": loops,
            "seed": seed,
            "target": "",
        },
        "result": {
            "budget": round(10 * ratio),
            "steps": 60,
            "batch_size": 16,
            "test_accuracy": round(accuracy, 1),
            "test": {"accuracy": round(accuracy, 1), "mean_class_accuracy": round(accuracy - 3, 1)},
            "validation_accuracy": curve[-1]["validation_accuracy"],
            "curve": curve,
            "train_loss": [
                2.3 * math.exp(-s / (8 + LEVEL.get(method, 80) / 4)) + noise.uniform(0, 0.3)
                for s in range(60)
            ],
            "loops": [],
        },
        "provenance": {"versions": {"torch": "2.13.0", "timm": "1.0.31"}},
        "checksum": "",
    }


@pytest.fixture
def make_run() -> Callable[..., dict[str, Any]]:
    """The builder of one synthetic run file."""
    return synthetic_run


@pytest.fixture(scope="session")
def runs() -> list[dict[str, Any]]:
    """Run files for tables 1, 6 and 7."""
    grid = [
        (row.method, bool(row.multi_run), ratio, 3)
        for row in ROWS
        for ratio in ((100.0,) if row.method == "full" else RATIOS)
    ]
    grid += [("vecaf", True, 5.0, loops) for loops in (2, 4, 5)]
    grid += [(m, True, 5.0, 3) for m in ("vecaf_no_ods", "vecaf_no_cea", "vecaf_neither")]
    return [synthetic_run(*setting, seed) for setting in grid for seed in SEEDS]


@pytest.fixture(scope="session")
def papers() -> dict[str, pd.DataFrame]:
    """Small tables in the form of data/paper/, with invented numbers."""
    numbers = {"accuracy": 12.5, "standard_error": 0.25}
    sets = [("CIFAR-10", 1), ("CIFAR-10", 5), ("ImageNet-1K", 4)]
    first = [
        {"method": m, "label": m, "selection": s, "dataset": d, "ratio": r, **numbers}
        for m in ("activeft", "vecaf")
        for s in ("single", "multi")
        for d, r in sets
    ]
    first += [
        {"method": "full", "label": "Full", "selection": "single", "dataset": d, "ratio": 100}
        | numbers
        for d in ("CIFAR-10", "ImageNet-1K")
    ]
    sixth = [
        {"ods": o, "cea": c, "dataset": d, "ratio": r, **numbers}
        for o in (False, True)
        for c in (False, True)
        for d, r in sets[1:]
    ]
    seventh = [{"loops": n, "dataset": "CIFAR-10", "ratio": 5, **numbers} for n in (2, 3, 4, 5)]
    return {
        name: pd.DataFrame(lines)
        for name, lines in {"table1": first, "table6": sixth, "table7": seventh}.items()
    }


@pytest.fixture(scope="session")
def tables(runs: list[dict[str, Any]], papers: dict[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """Tables 1, 6 and 7 of the synthetic runs."""
    table = frame(runs)
    first = {"rows": ROWS, "ratios": RATIOS, "seeds": SEEDS, "loops": 3, "paper": papers["table1"]}
    return {
        "table1": table1(table, **first),
        BY_CLASS: table1(by_class(runs), **first, name=BY_CLASS),
        "table6": table6(
            table, ratio=5, seeds=SEEDS, loops=3, labels=LABELS, paper=papers["table6"]
        ),
        "table7": table7(
            table, ratio=5, loops=[2, 3, 4, 5], seeds=SEEDS, labels="all", paper=papers["table7"]
        ),
    }
