"""Batches until full-data finetuning's accuracy: by the mean curve, counted at evaluated steps."""

import pandas as pd
import pytest

from vecaf_lib.errors import BadInput
from vecaf_lib.report.batches import batches_to_full

CURVES = {  # (method, ratio, seed): accuracies after 10, 20 and 30 steps
    ("full", 100.0, 0): (10, 30, 40),
    ("full", 100.0, 1): (20, 40, 60),  # 50 at the end, on average
    ("vecaf", 2.0, 0): (30, 80, 80),
    ("vecaf", 2.0, 1): (20, 20, 70),  # 50 on average after 20 steps
    ("vecaf", 5.0, 0): (60, 60, 60),
    ("vecaf", 5.0, 1): (39, 41, 41),  # 49.5 after 10 steps
    ("random", 2.0, 0): (90, 20, 20),
    ("random", 2.0, 1): (0, 20, 20),
}


def points() -> pd.DataFrame:
    return pd.DataFrame(
        [
            {
                "method": method,
                "multi_run": method != "full",
                "ratio": ratio,
                "loops": 3,
                "seed": seed,
                "target": "",
                "step": step,
                "validation_accuracy": value,
            }
            for (method, ratio, seed), values in CURVES.items()
            for step, value in zip((10, 20, 30), values, strict=True)
        ]
    )


def found(methods: list[str], seeds: tuple[int, ...] = (0, 1)) -> pd.DataFrame:
    return batches_to_full(points(), methods, ratios=[2.0, 5.0], loops=3, seeds=seeds)


def test_the_mean_curve_decides() -> None:
    table = found(["full", "vecaf", "random"])
    assert (table["target"] == 50).all()
    assert table["method"].tolist() == ["vecaf", "random", "vecaf"]
    assert table["batches"].fillna(0).tolist() == [20, 0, 20]
    assert table["share"].round(1).fillna(0).tolist() == [66.7, 0, 66.7]


def test_a_missing_seed_is_named() -> None:
    with pytest.raises(BadInput, match="full/single-r100-l3-s2"):
        found(["vecaf"], seeds=(0, 1, 2))
