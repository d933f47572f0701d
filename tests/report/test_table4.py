"""Table 4's arithmetic on invented costs."""

import io
import math
from typing import Any

import pandas as pd
import pytest

from vecaf_lib.errors import BadInput
from vecaf_lib.report.table4 import PARTS, table4, table4_markdown


def measured(**captioning: float | None) -> dict[str, Any]:
    costs = {
        "captioning": {"gflops": 3.0, "seconds": 0.5, "times": 100} | captioning,
        "text encoding": {"gflops": 0.5, "seconds": 0.01, "times": 80},
        "CEA": {"gflops": 2.0, "seconds": 0.1, "times": 3},
        "embedding passes": {"gflops": 1.0, "seconds": 0.02, "times": 300},
        "selection": {"gflops": 4.0, "seconds": 1.0, "times": 3},
        "finetuning": {"gflops": 30.0, "seconds": 0.6, "times": 36},
    }
    return {"parts": costs, "pool": 100, "loops": 3, "steps": 36, "batch_size": 10}


def by_cell(table: pd.DataFrame) -> pd.DataFrame:
    return table.set_index("cell")


def test_parts_times_their_number_add_up() -> None:
    table = by_cell(table4(measured(), batches=None))
    assert table.loc["table4/vecaf/captioning", "gflops"] == 300
    assert table.loc["table4/vecaf/text-encoding", "gflops"] == 40
    assert table.loc["table4/vecaf/embedding-passes", "seconds"] == pytest.approx(6)
    total = 300 + 40 + 6 + 300 + 12 + 36 * 30
    assert table.loc["table4/vecaf/total", "gflops"] == total
    assert table.loc["table4/vecaf/finetuning", "share"] == pytest.approx(100 * 1080 / total)
    assert table.loc["table4/vecaf_no_captioner/total", "gflops"] == total - 300
    assert "table4/vecaf_no_captioner/captioning" not in table.index
    assert table.loc["table4/full/total", "gflops"] == 1080
    assert table.loc["table4/full/total", "seconds"] == pytest.approx(21.6)
    for variant, lines in table.groupby("variant"):
        assert lines["share"].drop(f"table4/{variant}/total").sum() == pytest.approx(100)
    assert set(table["variant"]) == {"vecaf", "vecaf_no_captioner", "full"}


def test_to_a_target_only_loops_that_have_begun_are_paid_for() -> None:
    table = by_cell(table4(measured(), batches={"vecaf": 12.5, "full": 30.0}))
    assert table.loc["table4/vecaf_b2a/selection", "gflops"] == 8  # the second loop began at 12
    assert table.loc["table4/vecaf_b2a/cea", "gflops"] == 4
    assert table.loc["table4/vecaf_b2a/embedding-passes", "gflops"] == pytest.approx(200)
    assert table.loc["table4/vecaf_b2a/captioning", "gflops"] == 300
    assert table.loc["table4/vecaf_b2a/finetuning", "gflops"] == 375
    assert table.loc["table4/full_b2a/total", "gflops"] == 900
    first = by_cell(table4(measured(), batches={"vecaf": 12.0, "full": 36.0}))
    assert first.loc["table4/vecaf_b2a/selection", "gflops"] == 4


def test_what_was_not_counted_is_nan_and_said() -> None:
    table = table4(measured(gflops=None), batches=None)
    line = by_cell(table).loc["table4/vecaf/captioning"]
    assert math.isnan(line["gflops"])
    assert line["seconds"] == 50
    total = by_cell(table).loc["table4/vecaf/total"]
    assert total["gflops"] == 40 + 6 + 300 + 12 + 1080
    text = table4_markdown(table)
    assert "FLOPs of captioning could not be counted" in text
    assert "| captioning | not measured |  |  |".replace("|  |  |", "|") in text
    given = table4_markdown(table4(measured(gflops=None, seconds=None), batches=None))
    assert "Seconds of captioning were not measured" in given


def test_markdown_shows_every_part_and_the_ratios() -> None:
    table = table4(measured(), batches={"vecaf": 12.0, "full": 36.0})
    text = table4_markdown(table)
    for part in PARTS:
        assert f"| {part} |" in text
    assert "1.61 times the FLOPs" in text  # 1738 / 1080
    assert "1.33 and" in text  # 1438 / 1080
    # 1080 / (300 + 40 + 2 + 100 + 4 + 360)
    assert "1.34 times the FLOPs" in text
    assert "3.00 times the batches" in text
    assert "multiplication with its addition as 2" in text
    assert "](evidence.md#table4-vecaf-total)" in table4_markdown(table, "evidence.md")
    back = pd.read_csv(io.StringIO(table.to_csv(index=False)))
    assert table4_markdown(back) == text


def test_bad_input() -> None:
    with pytest.raises(BadInput, match="batches: full has nan"):
        table4(measured(), batches={"vecaf": 12.0})
    with pytest.raises(BadInput, match="at most 36"):
        table4(measured(), batches={"vecaf": 40.0, "full": 36.0})
