"""Diagnostics of selections against values worked out by hand."""

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from vecaf_lib.errors import BadInput
from vecaf_lib.report.out_of_fold import margins, out_of_fold
from vecaf_lib.report.selections import (
    UNITS,
    Yardsticks,
    class_entropy,
    diagnose,
    distance,
    jaccard,
    of_one_set,
    yardsticks,
)
from vecaf_lib.report.selections_page import SECTIONS, selections_page

IDS = [f"image-{at}" for at in range(60)]


def clusters(mislabelled: tuple[int, ...] = ()) -> tuple[Tensor, Tensor]:
    """Three tight clusters of 20 in 3 dimensions; some labels set to the next class."""
    noise = 0.05 * torch.randn(60, 3, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(60) % 3
    embeddings = torch.eye(3)[labels] + noise
    at = torch.tensor(mislabelled, dtype=torch.int64)
    labels[at] = (labels[at] + 1) % 3
    return embeddings, labels


def run_of(method: str, seed: int, loops: list[list[int]], **spec: Any) -> dict[str, Any]:
    told = {"method": method, "seed": seed, "ratio": 5.0, "loops": len(loops), "multi_run": True}
    chosen = [{"loop": n, "chosen": [IDS[at] for at in loop]} for n, loop in enumerate(loops, 1)]
    return {"run": told | spec, "result": {"loops": chosen}}


def measured(runs: list[dict[str, Any]]) -> pd.DataFrame:
    embeddings, labels = clusters()
    table = diagnose(
        runs,
        ids=IDS,
        labels=labels,
        embeddings=embeddings,
        probabilities=out_of_fold(embeddings, labels),
        classes=3,
    )
    return table.set_index("cell")


def test_overlap_by_hand() -> None:
    assert jaccard(np.array([1, 2, 3]), np.array([3, 4, 5])) == pytest.approx(20)
    assert jaccard(np.array([1, 2]), np.array([2, 1])) == 100
    assert jaccard(np.array([1]), np.array([2])) == 0


def test_overlaps_are_means_over_loops_then_over_common_seeds() -> None:
    table = measured(
        [
            run_of("activeft", 0, [[0, 1, 2], [0, 1, 2]]),
            run_of("activeft", 1, [[0, 1, 2], [3, 4, 5]]),
            run_of("vecaf", 0, [[0, 1, 2], [2, 3, 4]]),  # 100 and 20 %
            run_of("vecaf", 1, [[0, 7, 8], [6, 7, 8]]),  # 20 and 0 %
            run_of("vecaf", 2, [[0, 1, 2], [0, 1, 2]]),  # no partner
        ]
    )
    pair = table.loc["selections/overlap/activeft/vecaf"]
    assert pair["mean"] == pytest.approx((60 + 10) / 2)
    assert pair["standard_error"] == pytest.approx(25)  # of 60 and 10
    assert (pair["n"], pair["other"], pair["unit"]) == (2, "vecaf", "%")
    within = table.loc["selections/overlap_between_loops/vecaf"]
    assert within["mean"] == pytest.approx((20 + 50 + 100) / 3)
    assert table.loc["selections/overlap_between_loops/activeft", "mean"] == pytest.approx(50)
    assert table.loc["selections/overlap/chance", "mean"] == pytest.approx(300 / (2 * 60 - 3))


def test_entropy_and_missed_classes_by_hand() -> None:
    assert class_entropy(np.array([0, 1, 2]), 3) == pytest.approx(1)
    assert class_entropy(np.array([1, 1, 1]), 3) == 0
    quarter = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25)) / math.log(4)
    assert class_entropy(np.array([0, 0, 0, 3]), 4) == pytest.approx(quarter)
    table = measured([run_of("vecaf", 0, [[0, 3, 6], [0, 1, 2]])])  # classes 0 0 0, then 0 1 2
    assert table.loc["selections/classes_missed/vecaf", "mean"] == 1  # of 2 and 0
    assert table.loc["selections/class_entropy/vecaf", "mean"] == pytest.approx(0.5)
    assert table.loc["selections/class_entropy/pool", "mean"] == pytest.approx(1)


def test_a_mislabelled_sample_is_found_and_ranked_among_the_hardest() -> None:
    embeddings, labels = clusters(mislabelled=(7, 20))
    pool = yardsticks(embeddings, labels, out_of_fold(embeddings, labels), classes=3)
    assert np.flatnonzero(pool.doubted).tolist() == [7, 20]
    assert set(np.argsort(pool.rank)[-2:]) == {7, 20}
    told = of_one_set(np.array([7, 0]), pool)
    assert told["label_doubted"] == 50
    assert told["probe_loss_top_decile"] >= 50
    assert of_one_set(np.arange(60), pool)["probe_loss_rank"] == pytest.approx(50)


def test_out_of_fold_predictions_are_not_those_of_a_model_that_saw_the_label() -> None:
    torch_stream = torch.Generator().manual_seed(1)
    noise = torch.randn(60, 40, generator=torch_stream)  # separable if one may look
    labels = torch.arange(60) % 2
    right = (out_of_fold(noise, labels).argmax(1) == labels.numpy()).mean()
    assert right < 0.75
    assert np.array_equal(out_of_fold(noise, labels), out_of_fold(noise, labels))


def test_margin_is_top_1_minus_top_2() -> None:
    two = margins(np.array([[0.5, 0.2, 0.3], [0.1, 0.1, 0.8]]))
    assert two == pytest.approx([0.2, 0.7])


def test_coverage_by_hand() -> None:
    unit = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8], [-1.0, 0.0]])
    # nearest of rows 0 and 1: cosines 1, 1, 0.8 and 0 (with row 1)
    assert distance(unit, np.array([0, 1])) == pytest.approx((0 + 0 + 0.2 + 1) / 4, abs=1e-6)
    assert distance(unit, np.arange(4)) == pytest.approx(0, abs=1e-6)


def test_rank_and_decile_by_hand() -> None:
    rank = (np.arange(20) + 0.5) / 20
    pool = Yardsticks(
        np.zeros(20, dtype=np.int64), 2, torch.ones(20, 1), rank, np.zeros(20, dtype=bool)
    )
    told = of_one_set(np.array([0, 17, 18, 19]), pool)
    assert told["probe_loss_top_decile"] == 50  # the two largest of twenty
    assert told["probe_loss_rank"] == pytest.approx(100 * (0.5 + 17.5 + 18.5 + 19.5) / 80)


def test_full_data_finetuning_is_left_out_and_bad_input_is_named() -> None:
    good = run_of("vecaf", 0, [[0, 1, 2]])
    full = run_of("full", 0, [[0, 1, 2]], ratio=100.0)
    assert "full" not in set(measured([good, full])["method"])
    with pytest.raises(BadInput, match="vecaf is given twice for seed 0"):
        measured([good, good])
    with pytest.raises(BadInput, match="2 % with 1 loops, 5 % with 1 loops"):
        measured([good, run_of("random", 0, [[0]], ratio=2.0)])
    with pytest.raises(BadInput, match="not of none"):
        measured([full])
    stranger = run_of("vecaf", 0, [[0]])
    stranger["result"]["loops"][0]["chosen"] = ["elsewhere"]
    with pytest.raises(BadInput, match="'elsewhere'"):
        measured([stranger])
    with pytest.raises(BadInput, match="at least two classes of two"):
        out_of_fold(torch.ones(3, 2), torch.tensor([0, 0, 1]))


def test_the_page_has_a_section_and_the_numbers_of_every_measure() -> None:
    runs = [run_of(m, s, [[0, 1, 2], [s, 4, 5]]) for m in ("random", "vecaf") for s in (0, 1)]
    table = measured(runs).reset_index()
    assert set(SECTIONS) == set(UNITS) == set(table["measure"])
    page = selections_page(table)
    for heading, words in SECTIONS.values():
        assert f"## {heading}\n\n{words}" in page
    common = table.set_index("cell").loc["selections/overlap/random/vecaf"]
    text = f"{common['mean']:.1f} ± {common['standard_error']:.1f}"
    assert "| Method | Random | VeCAF |" in page
    assert f"| Random | – | {text} |" in page
    assert f"| VeCAF | {text} | – |" in page
    mean = table.set_index("cell").loc["selections/class_entropy/vecaf"]
    assert f"| VeCAF | {mean['mean']:.4f} ± {mean['standard_error']:.4f} | 2 |" in page
    linked = selections_page(table, "evidence.md")
    assert "](evidence.md#selections-class-entropy-vecaf)" in linked
