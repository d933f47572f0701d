"""The README's tables are those of the reports, to the last digit."""

from pathlib import Path

import pandas as pd
import pytest

from vecaf_lib.errors import BadInput
from vecaf_lib.report.readme import BLOCK, main, renewed, side_by_side

ROOT = Path(__file__).parents[2]
LINE = {"selection": "multi", "n": 5, "standard_error": 0.5}


@pytest.fixture
def reports(tmp_path: Path) -> Path:
    """One report with a table of three methods at two ratios."""
    folder = tmp_path / "small" / "tables"
    folder.mkdir(parents=True)
    lines = [
        {"method": "activeft", "ratio": 2.0, "mean": 50.0},
        {"method": "activeft", "ratio": 5.0, "mean": 60.0},
        {"method": "full", "ratio": 100.0, "mean": 70.0, "selection": "single"},
        {"method": "vecaf", "ratio": 2.0, "mean": 49.0, "n": 3, **difference(-1.0, -3.0, 1.0)},
        {"method": "vecaf", "ratio": 5.0, "mean": 58.0, **difference(-2.0, -3.0, -1.0)},
    ]
    pd.DataFrame([LINE | line for line in lines]).to_csv(folder / "table1.csv", index=False)
    return tmp_path


def difference(mean: float, low: float, high: float) -> dict[str, float]:
    """Of a line to ActiveFT, with its interval."""
    return {
        "minus_activeft": mean,
        "minus_activeft_low": low,
        "minus_activeft_high": high,
    }


def test_a_table_by_hand(reports: Path) -> None:
    assert side_by_side("table1", ["small"], reports).splitlines() == [
        "| Table 1 | small, 2 % | small, 5 % |",
        "| :-- | --: | --: |",
        "| multi-run ActiveFT | 50.00 ± 0.50 | 60.00 ± 0.50 |",
        "| Full-data FT | 70.00 ± 0.50 | (the same) |",
        "| multi-run VeCAF | 49.00 ± 0.50 (−1.00 [−3.00, +1.00]), n = 3 "
        "| 58.00 ± 0.50 (**−2.00 [−3.00, −1.00]**) |",
    ]


def test_what_is_outside_the_comments_stays(reports: Path) -> None:
    text = "before\n<!-- table1 of small -->\nold\n<!-- end -->\nafter\n"
    new = renewed(text, reports)
    assert new.startswith("before\n<!-- table1 of small -->\n| Table 1 |")
    assert new.endswith("|\n<!-- end -->\nafter\n")
    assert "old" not in new
    assert renewed(new, reports) == new


def test_what_is_wrong_is_said(reports: Path) -> None:
    with pytest.raises(BadInput, match="'table9' is no table; known are table1"):
        side_by_side("table9", ["small"], reports)
    with pytest.raises(BadInput, match="dvc repro` with profile large makes it"):
        side_by_side("table1", ["large"], reports)


def test_the_readme_is_up_to_date(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(BLOCK.findall(text)) >= 3
    monkeypatch.chdir(ROOT)
    copy = tmp_path / "README.md"
    copy.write_text(text, encoding="utf-8")
    main([str(copy)])
    assert copy.read_text(encoding="utf-8") == text
