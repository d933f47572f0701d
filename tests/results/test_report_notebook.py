"""The front page says first what a reader must know before any ranking."""

from typing import Any

import pytest

from tests.results.conftest import result_of
from vecaf_lib.results.compare import read_table


def page(small: Any, result: Any = result_of, *more: str, **parameters: str) -> tuple[str, str]:
    """What stands before the front page's first heading, and what came out."""
    table1 = small.sections["tables"]["table1"]
    table1["methods"] = ["random", "full", "activeft", "vecaf", "probe", "learnloss", *more]
    table1["sets"] = ["fresh", "kept"]
    small.train(result)
    tables = "reports/small/tables"
    small.execute("40_tables.ipynb", output=tables, metrics="out/metrics.json")
    small.execute("60_report.ipynb", output="out/README.md", **parameters)
    text = (small.root / "out" / "README.md").read_text(encoding="utf-8")
    first, _, rest = text.partition("\n## What came out\n")
    return first, rest.partition("\n## Figures\n")[0]


def invented(**changes: Any) -> Any:
    """Results of which one method's differ."""

    def result(run: Any) -> dict[str, Any]:
        base = result_of(run)
        if run.method in changes:
            changes[run.method](base)
        return base

    return result


def test_rows_below_the_probe_are_counted_first(small: Any) -> None:
    probe = invented(probe=lambda result: result.update(test_accuracy=80.5))
    first, came_out = page(small, probe)
    table = read_table(small.root / "reports" / "small" / "tables" / "table1.csv")
    finetuned = table[~table["method"].isin(["probe", "full"])]
    below = [80.5 - mean for mean in finetuned["mean"] if mean < 80.5]
    assert 0 < len(below) < len(finetuned) == 18
    assert f"**{len(below)} of 18 finetuned rows of Table 1 lie below a ridge probe" in first
    assert (
        f"by {sum(below) / len(below):.2f} points in the mean and up to {max(below):.2f}" in first
    )
    assert "| Probe on frozen features |" in came_out
    low = invented(probe=lambda result: result.update(test_accuracy=10.0))
    assert "ridge probe" not in page(small, low)[0]


def test_empty_centroids_and_broken_training_are_named_first(small: Any) -> None:
    def empty(result: dict[str, Any]) -> None:
        for loop in result["loops"]:
            loop["selection"]["empty_centroids"] = 0.5

    def broken(result: dict[str, Any]) -> None:
        result["curve"][0]["validation_accuracy"] -= 20

    first, came_out = page(small, invented(vecaf=empty, learnloss=broken))
    assert "centroids attract no image**" in first
    assert "worst row: VeCAF 50%." in first
    assert "**LearnLoss is not ranked**: its training is broken: -" in first
    assert "(training broken)" in came_out
    assert "LearnLoss against" not in came_out


def test_the_findings_are_those_of_the_numbers(small: Any) -> None:
    small.sections["tables"]["table1"] |= {"ratios": [5.0]}
    high = invented(
        topk_loss=lambda result: result.update(test_accuracy=95.0, labels_seen="all"),
        vecaf_no_cea=lambda result: result.update(test_accuracy=10.0),
    )
    _, came_out = page(small, high, "topk_loss", "vecaf_no_cea")
    tables = small.root / "reports" / "small" / "tables"
    line = read_table(tables / "table1.csv").set_index("cell").loc
    best, ours = line["table1/topk_loss/multi/r5"], line["table1/vecaf/multi/r5/kept"]
    assert best["printed"] == "95.00 ± 0.00 (n = 3)"
    assert f"fresh sets, 5 %: Top-K loss {best['printed']}; kept sets" in came_out
    (against,) = [x for x in came_out.splitlines() if "VeCAF against multi-run ActiveFT**" in x]
    assert f"kept sets, 5 %: {ours['printed_difference']}" in against
    assert "of 2, *is ahead* in 2" in against
    (rival,) = [x for x in came_out.splitlines() if "looks at labels of the whole pool too" in x]
    assert "too, Top-K loss**: of 2, *is behind* in 2." in rival
    assert f"fresh sets, 5 %: \u2212{best['difference_vecaf']:.2f} [" in rival
    assert "VeCAF with CEA against VeCAF without**: of 2, *is ahead* in 2." in came_out
    assert "| *labels of the whole pool* |" in came_out
    assert "**95.00 ± 0.00**" in came_out  # bold, and n in the heading
    assert "| Accuracy, %, n = 3 | fresh sets, 5 % | kept sets, 5 % | all data |" in came_out
    assert "](tables/table1.png)" in came_out
    assert (tables / "table1.png").stat().st_size > 10_000


@pytest.mark.parametrize("notice", ["", "Older."])
def test_older_evidence_has_no_verdict(small: Any, notice: str) -> None:
    first, came_out = page(small, notice=notice)
    assert ("\n\nOlder.\n\n" in first) == bool(notice)
    assert ("is ahead" in came_out) != bool(notice)
    assert ("No verdict is drawn" in came_out) == bool(notice)


def test_a_look_says_what_it_was_tested_on(small: Any) -> None:
    small.sections["dataset"]["blind"] = True
    assert "the validation split stands in for the test split" in page(small)[0]
