"""Tables from synthetic run files: values, comparisons, links, words and bytes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from vecaf_lib.errors import BadInput
from vecaf_lib.report.cells import Row
from vecaf_lib.report.frame import frame
from vecaf_lib.report.headline import ablation, headline, loops
from vecaf_lib.report.markdown import to_markdown
from vecaf_lib.report.names import slug
from vecaf_lib.report.pages import seeds_of
from vecaf_lib.report.paper import nearest, paper_markdown, read_paper
from vecaf_lib.report.tables import read_csv, table1, to_csv

Runs = list[dict[str, Any]]
Tables = dict[str, pd.DataFrame]


def small_table(
    make_run: Callable[..., dict[str, Any]], paper: pd.DataFrame, ours: list[float]
) -> pd.DataFrame:
    """Table 1 of VeCAF with the given accuracies against ActiveFT at 80, 82, 84."""
    theirs = [80.0, 82.0, 84.0]
    runs = [make_run("vecaf", True, 5.0, 3, s, a) for s, a in enumerate(ours)]
    runs += [make_run("activeft", True, 5.0, 3, s, a) for s, a in enumerate(theirs)]
    rows = [Row("activeft", True, "chosen only"), Row("vecaf", True, "all")]
    return table1(frame(runs), rows=rows, ratios=[5], seeds=[0, 1, 2], loops=3, paper=paper)


def test_table1_by_hand(make_run: Callable[..., dict[str, Any]], papers: Tables) -> None:
    table = small_table(make_run, papers["table1"], [81.0, 84.0, 87.0]).set_index("cell")
    ours = table.loc["table1/vecaf/multi/r5"]
    assert (ours["mean"], ours["standard_error"], ours["n"]) == (84.0, pytest.approx(3**0.5), 3)
    assert ours["minus_activeft"] == pytest.approx(2.0)  # differences 1, 2, 3
    assert ours["minus_activeft_high"] == pytest.approx(2 + 4.302652729911275 / 3**0.5)
    assert ours["minus_activeft_cell"] == "table1/activeft/multi/r5"
    assert ours["runs"].split()[0] == "vecaf/multi-r5-l3-s0.json.gz"
    assert (ours["paper_cifar10_ratio"], ours["paper_imagenet1k_ratio"]) == (5, 4)
    assert pd.isna(table.loc["table1/activeft/multi/r5", "minus_activeft"])
    assert ours[["minus_random", "minus_full"]].isna().all()


def test_a_method_may_have_fewer_seeds(
    make_run: Callable[..., dict[str, Any]], papers: Tables
) -> None:
    runs = [make_run("vecaf", True, 5.0, 3, s, 80.0 + s) for s in (0, 1)]
    runs += [make_run("activeft", True, 5.0, 3, s, 70.0 + 2 * s) for s in (0, 1, 2)]
    rows = [Row("activeft", True, "chosen only"), Row("vecaf", True, "all", repetitions=2)]
    setting = {"rows": rows, "ratios": [5], "loops": 3, "paper": papers["table1"]}
    table = table1(frame(runs), seeds=[0, 1, 2], **setting).set_index("cell")
    assert table["n"].to_dict() == {
        "table1/activeft/multi/r5": 3,
        "table1/vecaf/multi/r5": 2,
    }
    assert table.loc["table1/vecaf/multi/r5", "minus_activeft"] == pytest.approx(9.5)  # 10, 9
    assert seeds_of(table.reset_index()) == "n = 3 seeds (VeCAF 2)"
    few = pd.DataFrame({"method": ["vecaf", "paced_fresh", "paced_alone"], "n": [5, 3, 3]})
    assert seeds_of(few) == "n = 3 seeds (VeCAF 5)"
    with pytest.raises(BadInput, match=r"vecaf/multi-r5-l3-s1\.json"):
        table1(frame(runs[:1] + runs[2:]), seeds=[0, 1, 2], **setting)


def test_table1_by_class(tables: Tables) -> None:
    one, other = tables["table1"], tables["table1_by_class"]
    assert list(other["cell"]) == [
        cell.replace("table1/", "table1_by_class/", 1) for cell in one["cell"]
    ]
    assert other["mean"].to_numpy() == pytest.approx(one["mean"].to_numpy() - 3)


def test_table1_has_the_whole_grid(tables: Tables) -> None:
    cells = set(tables["table1"]["cell"])
    assert len(cells) == len(tables["table1"]) == 8 * 3 + 1
    assert {"table1/full/single/all", "table1/random/single/r2"} <= cells
    assert set(tables["table1"]["labels"]) == {"all", "chosen only"}


def test_tables_6_and_7(tables: Tables) -> None:
    sixth, seventh = tables["table6"], tables["table7"]
    assert list(zip(sixth["ods"], sixth["cea"], strict=True)) == [
        ("off", "off"),
        ("on", "off"),
        ("off", "on"),
        ("on", "on"),
    ]
    assert list(sixth["method"])[1] == "vecaf_no_cea"
    assert list(seventh["loops"]) == [2, 3, 4, 5]
    assert list(seventh["paper_cifar10_accuracy"]) == [12.5] * 4
    both = sixth.set_index("cell").loc["table6/vecaf"]
    first = tables["table1"].set_index("cell").loc["table1/vecaf/multi/r5"]
    assert (both["mean"], both["runs"]) == (first["mean"], first["runs"])


def test_missing_and_double_runs(runs: Runs, papers: Tables) -> None:
    rows = [Row("vecaf", True, "all")]
    settings = {"rows": rows, "ratios": [5.0], "loops": 3, "paper": papers["table1"]}
    with pytest.raises(BadInput, match=r"vecaf/multi-r5-l3-s7\.json"):
        table1(frame(runs), seeds=[0, 7], **settings)
    with pytest.raises(BadInput, match="given twice"):
        frame([*runs, runs[0]])
    with pytest.raises(BadInput, match="no run to report"):
        frame([])
    broken = {"run": runs[0]["run"], "result": {}}
    with pytest.raises(BadInput, match=r"result\.budget"):
        frame([broken])


def test_csv_is_byte_identical_and_reads_back(tables: Tables, tmp_path: Path) -> None:
    for name, table in tables.items():
        paths = [tmp_path / f"{name}-{i}.csv" for i in (1, 2)]
        to_csv(table, paths[0])
        to_csv(read_csv(paths[0]), paths[1])
        assert paths[0].read_bytes() == paths[1].read_bytes()
        assert to_markdown(read_csv(paths[0])) == to_markdown(table)


def test_csv_does_not_depend_on_the_order_of_runs(
    runs: Runs, papers: Tables, tables: Tables, tmp_path: Path
) -> None:
    rows = [Row("vecaf", True, "all"), Row("activeft", True, "chosen only")]
    settings = {"rows": rows, "ratios": [5.0], "seeds": [0, 1, 2], "loops": 3}
    for name, order in {"a": runs, "b": runs[::-1]}.items():
        to_csv(table1(frame(order), paper=papers["table1"], **settings), tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_every_cell_is_linked(tables: Tables) -> None:
    for table in tables.values():
        text = to_markdown(table)
        for line in table.itertuples():
            assert f"{line.mean:.2f} ± {line.standard_error:.2f}" in text
            assert f"](evidence.md#{slug(str(line.cell))})" in text


@pytest.mark.parametrize(
    ("ours", "words"),
    [
        ([85.0, 87.1, 89.0], "is ahead of multi-run ActiveFT at the only ratio run"),
        ([75.0, 77.1, 79.0], "is behind multi-run ActiveFT at the only ratio run"),
        ([81.0, 84.0, 87.0], "cannot be told apart from multi-run ActiveFT at the only ratio run"),
    ],
)
def test_headline_says_wins_and_losses_alike(
    make_run: Callable[..., dict[str, Any]], papers: Tables, ours: list[float], words: str
) -> None:
    text = headline(small_table(make_run, papers["table1"], ours))
    assert f"VeCAF {words}." in text
    assert "evidence.md#table1-vecaf-multi-r5" in text


def test_headline_groups_ratios(tables: Tables) -> None:
    table = tables["table1"].copy()
    ours = (table["method"] == "vecaf") & (table["selection"] == "multi")
    table.loc[ours, "minus_random_low"] = [0.5, -1.0, -3.0]
    table.loc[ours, "minus_random_high"] = [2.0, 1.0, -1.0]
    assert (
        "VeCAF is ahead of multi-run Random at 2 %, is behind it at 10 % and cannot be told apart "
        "from it at 5 %."
    ) in headline(table)


def test_sentences_of_tables_6_and_7(tables: Tables) -> None:
    sixth, seventh = tables["table6"].copy(), tables["table7"].copy()
    sixth["minus_neither_low"] = [float("nan"), -1.0, -3.0, 1.0]
    sixth["minus_neither_high"] = [float("nan"), 1.0, -1.0, 2.0]
    assert ablation(sixth) == (
        "Against neither, ODS alone makes no difference that these seeds can show, CEA alone "
        "lowers accuracy and both together raise accuracy."
    )
    seventh["minus_fewest_loops_low"] = [float("nan"), -1.0, 0.5, 1.0]
    seventh["minus_fewest_loops_high"] = [float("nan"), 1.0, 1.0, 2.0]
    assert loops(seventh) == (
        "Against 2 loops, accuracy is higher with 4 and 5 loops and undecided with 3."
    )


def test_papers_own_numbers(papers: Tables, tmp_path: Path) -> None:
    text = paper_markdown(papers["table1"])
    assert "CIFAR-10 1\u00a0% | CIFAR-10 5\u00a0% | ImageNet-1K 4\u00a0%" in text
    assert "| Full | single | 12.50 ± 0.25 | ← | 12.50 ± 0.25 |" in text
    assert "| ✓ | – | 12.50 ± 0.25 | 12.50 ± 0.25 |" in paper_markdown(papers["table6"])
    none = nearest(papers["table1"], {"method": "random", "selection": "multi"}, 5)
    assert pd.isna(none["paper_cifar10_accuracy"])
    with pytest.raises(BadInput, match="is missing"):
        read_paper(tmp_path / "table1.csv")
    (tmp_path / "table1.csv").write_text("dataset,ratio\nA,1\n")
    with pytest.raises(BadInput, match="no column accuracy"):
        read_paper(tmp_path / "table1.csv")


def test_one_seed_is_shown_without_error_and_interval(
    make_run: Callable[..., dict[str, Any]], papers: Tables, tmp_path: Path
) -> None:
    runs = [make_run("vecaf", True, 5.0, 3, 0, 81.0), make_run("activeft", True, 5.0, 3, 0, 80.0)]
    rows = [Row("activeft", True, "chosen only"), Row("vecaf", True, "all")]
    table = table1(frame(runs), rows=rows, ratios=[5], seeds=[0], loops=3, paper=papers["table1"])
    to_csv(table, tmp_path / "table1.csv")
    for shown in (table, read_csv(tmp_path / "table1.csv")):
        text = to_markdown(shown)
        assert "[81.00](evidence.md" in text or "[**81.00** ★](evidence.md" in text
        assert "[+1.00 [one seed]](evidence.md" in text
        assert "nan" not in text
        assert "cannot be told apart from multi-run ActiveFT" in headline(shown)
