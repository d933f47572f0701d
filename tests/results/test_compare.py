"""Means, standard errors and paired intervals, by hand and against scipy; pairing on seeds."""

import math
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, get_font
from scipy.stats import ttest_rel

from tests.names import HOSTILE
from vecaf_lib.errors import BadInput
from vecaf_lib.results.compare import compare, difference, fonts, number, read_table, write_table

ROOT = Path(__file__).parents[2]


def frame_of(**methods: dict[int, float]) -> pd.DataFrame:
    """One row a seed of each method."""
    return pd.DataFrame(
        [
            {"method": name, "seed": seed, "accuracy": value, "file": f"{name}/s{seed}"}
            for name, values in methods.items()
            for seed, value in values.items()
        ]
    )


def row(frame: pd.DataFrame, method: str, reference: str | None = None) -> Any:
    where = {"method": reference} if reference else None
    table = compare(frame, ["method"], reference=where, cell="table/{method}")
    return table.set_index("method").loc[method]


def test_mean_standard_error_and_paired_difference_by_hand() -> None:
    found = row(frame_of(a={0: 80.0, 1: 82.0, 2: 87.0}), "a")
    # deviations -3, -1, 4: variance (9 + 1 + 16) / 2 = 13, standard error sqrt(13 / 3)
    assert (found["mean"], found["n"]) == (pytest.approx(83.0), 3)
    assert found["standard_error"] == pytest.approx(math.sqrt(13 / 3))
    assert (found["cell"], found["seeds"], found["runs"]) == ("table/a", "0 1 2", "a/s0 a/s1 a/s2")
    assert (found["reference"], found["n_pairs"]) == ("", 0)
    assert math.isnan(found["difference"])
    found = row(frame_of(a={0: 3.0, 1: 5.0, 2: 10.0}, b={2: 7.0, 1: 3.0, 0: 2.0}), "a", "b")
    # differences 1, 2, 3: mean 2, standard error 1 / sqrt(3), t(0.975, 2) = 4.302653
    reach = 4.302652729911275 / math.sqrt(3)
    assert (found["difference"], found["n_pairs"]) == (pytest.approx(2.0), 3)
    assert (found["low"], found["high"]) == (pytest.approx(2 - reach), pytest.approx(2 + reach))
    assert found["reference"] == "table/b"


@given(st.lists(st.tuples(st.floats(0, 100), st.floats(0, 100)), min_size=3, max_size=8))
def test_the_interval_is_that_of_scipy(pairs: list[tuple[float, float]]) -> None:
    first, second = ([pair[at] for pair in pairs] for at in (0, 1))
    gaps = [a - b for a, b in pairs]
    if max(gaps) - min(gaps) < 1e-3:
        return  # scipy has no interval for equal differences
    found = row(frame_of(a=dict(enumerate(first)), b=dict(enumerate(second))), "a", "b")
    interval = ttest_rel(first, second).confidence_interval(0.95)
    assert found["low"] == pytest.approx(interval.low, abs=1e-9)
    assert found["high"] == pytest.approx(interval.high, abs=1e-9)


def test_only_common_seeds_are_compared() -> None:
    found = row(frame_of(a={0: 1.0, 1: 2.0, 2: 9.0}, b={0: 0.0, 1: 1.0}), "a", "b")
    assert (found["n"], found["n_pairs"], found["difference"]) == (3, 2, 1.0)
    assert (found["low"], found["high"]) == (1.0, 1.0)  # of equal differences
    with pytest.raises(BadInput, match="do not pair up"):
        row(frame_of(a={0: 1.0, 1: 2.0}, b={0: 1.0, 2: 2.0}), "a", "b")


def test_one_seed_has_a_mean_but_neither_error_nor_interval() -> None:
    found = row(frame_of(a={3: 71.5}, b={3: 70.0}), "a", "b")
    assert (found["mean"], found["difference"], found["n"]) == (71.5, 1.5, 1)
    assert found[["standard_error", "low", "high"]].isna().all()


def test_seeds_are_never_pooled_and_values_are_finite() -> None:
    twice = pd.concat([frame_of(a={0: 1.0}), frame_of(a={0: 2.0})])
    with pytest.raises(BadInput, match="one seed"):
        compare(twice, ["method"])
    with pytest.raises(BadInput, match="not finite"):
        compare(frame_of(a={0: 1.0, 1: math.nan}), ["method"])


def test_a_group_is_compared_with_the_one_at_its_own_place() -> None:
    frame = pd.concat(
        [
            frame_of(a={0: 1.0, 1: 2.0}, b={0: 0.0, 1: 0.0}).assign(ratio=2.0),
            frame_of(a={0: 5.0, 1: 9.0}, b={0: 4.0, 1: 6.0}).assign(ratio=5.0),
            frame_of(full={0: 9.0, 1: 9.0}).assign(ratio=100.0),
        ]
    )
    table = compare(
        frame,
        ["method", "ratio"],
        reference={"method": "b"},
        full={"method": "full", "ratio": 100.0},
    ).set_index(["method", "ratio"])
    assert table["difference"].dropna().to_dict() == {("a", 2.0): 1.5, ("a", 5.0): 2.0}
    assert table.loc[("b", 2.0), "difference_full"] == -9.0
    assert math.isnan(table.loc[("full", 100.0), "difference_full"])


def test_kept_sets_are_compared_with_kept_sets_and_their_ids_say_so() -> None:
    fresh = frame_of(a={0: 1.0, 1: 2.0}, b={0: 0.0, 1: 0.0}).assign(sets="fresh")
    kept = frame_of(a={0: 5.0, 1: 9.0}, b={0: 4.0, 1: 6.0}).assign(sets="kept")
    frame = pd.concat([fresh, kept])
    table = compare(frame, ["sets", "method"], reference={"method": "b"}, cell="t/{method}")
    table = table.set_index("cell")
    assert table["difference"].dropna().to_dict() == {"t/a": 1.5, "t/a/kept": 2.0}
    assert table.loc["t/a/kept", ["sets", "reference"]].tolist() == ["kept", "t/b/kept"]
    with pytest.raises(BadInput, match="one seed"):  # the two are never pooled
        compare(frame, ["method"])


def test_numbers_as_they_are_printed() -> None:
    assert number(93.5671, 0.0249, 3) == "93.57 ± 0.02 (n = 3)"
    assert number(71.5) == "71.50"
    assert number(math.nan, 0.1, 3) == "–"
    assert difference(1.4, 0.1, 2.7).endswith("▲")
    assert difference(-1.4, -2.7, -0.1).endswith("▼")
    assert difference(-0.001, -2.7, 0.1).startswith("0.00 [")
    assert "○" in difference(0.5, math.nan, math.nan)
    assert difference(math.nan, math.nan, math.nan) == "–"


def test_a_table_is_read_back(tmp_path: Path) -> None:
    table = compare(frame_of(a={0: 1.0, 1: 2.0}, b={0: 0.0}), ["method"], reference={"method": "b"})
    write_table(table, tmp_path / "a.csv")
    again = read_table(tmp_path / "a.csv")
    assert again["reference"].tolist() == table["reference"].tolist()
    assert again["seeds"].tolist() == ["0 1", "0"]
    write_table(again, tmp_path / "b.csv")
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()
    with pytest.raises(BadInput, match=r"c\.csv"):
        read_table(tmp_path / "c.csv")


def test_names_come_back_from_a_table(tmp_path: Path) -> None:
    write_table(pd.DataFrame({"target": HOSTILE, "mean": 1.0}), tmp_path / "table.csv")
    assert list(read_table(tmp_path / "table.csv")["target"]) == HOSTILE


@pytest.mark.filterwarnings("ignore:Glyph .* missing")  # of scripts that no font here may have
@pytest.mark.parametrize("name", HOSTILE)
def test_names_in_figures_are_no_formulas(name: str) -> None:
    with plt.style.context(ROOT / "notebooks" / "figures.mplstyle"):
        figure = Figure()
        text = figure.text(0.5, 0.5, name)
        figure.canvas.draw()
    assert text._preprocess_math(name)[1] is False


@pytest.mark.filterwarnings("error:Glyph .* missing")
def test_letters_are_drawn_in_a_font_that_has_them() -> None:
    own, other = (get_font(findfont(name)).get_charmap() for name in ("DejaVu Sans", "STIXGeneral"))
    letters = "".join(map(chr, sorted(other.keys() - own.keys())[:3]))
    assert letters
    assert fonts("Ünï\n") == ["DejaVu Sans"]
    with plt.rc_context({"font.family": fonts(letters)}):
        figure = Figure()
        figure.text(0.5, 0.5, letters)
        figure.canvas.draw()
