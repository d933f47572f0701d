"""The tables notebook on invented runs: each number is that of its run files."""

import json
import math
import re
from html import escape
from typing import Any

import pandas as pd
import pytest
from IPython.display import Markdown

from tests.names import HOSTILE
from tests.results.conftest import result_of
from vecaf_lib.results.compare import read_table
from vecaf_lib.results.runs import Run, RunStore

NOTEBOOK = "40_tables.ipynb"


@pytest.fixture
def tables(small: Any) -> dict[str, pd.DataFrame]:
    """The tables by name, each by cell."""
    small.train()
    small.execute(NOTEBOOK, output="out", metrics="out/metrics.json")
    return {
        path.stem: table.set_index("cell") if "cell" in table else table
        for path in (small.root / "out").glob("*.csv")
        for table in [read_table(path)]
    }


def mean_of(small: Any, runs: list[Run], *keys: str) -> float:
    values = []
    for run in runs:
        value: Any = RunStore(small.runs).load(run)["result"]
        for key in keys:
            value = value[key]
        values.append(value)
    return sum(values) / len(values)


def runs(method: str, ratio: float = 5.0, **more: Any) -> list[Run]:
    settings = {"multi_run": True, "loops": 3, "seeds": [0, 1, 2], **more}
    seeds = settings.pop("seeds")
    return [Run("digits", method, ratio=ratio, seed=seed, **settings) for seed in seeds]


@pytest.mark.parametrize(
    ("cell", "wanted", "keys"),
    [
        ("table1/vecaf/multi/r1", runs("vecaf", 1.0), ["test_accuracy"]),
        ("table1/activeft/single/r5", runs("activeft", multi_run=False), ["test_accuracy"]),
        ("table1/full/single/all", runs("full", 100.0, multi_run=False), ["test_accuracy"]),
        ("table1_by_class/random/multi/r5", runs("random"), ["test", "mean_class_accuracy"]),
        ("table2/vecaf/eight", runs("vecaf", target="eight"), ["test_accuracy"]),
        ("table3/activeft/snowy/mean", runs("activeft"), ["domains", "snowy", "mean"]),
        ("table3/vecaf/snowy/5", runs("vecaf"), ["domains", "snowy", "5"]),
        ("table6/vecaf_no_ods", runs("vecaf_no_ods"), ["test_accuracy"]),
        ("table7/l4", runs("vecaf", loops=4), ["test_accuracy"]),
        ("decisions/vecaf_tau", runs("vecaf_tau"), ["test_accuracy"]),
        ("replication/vecaf", runs("vecaf", seeds=[7, 8]), ["test_accuracy"]),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_cells_are_means_of_their_runs(
    tables: dict[str, pd.DataFrame], small: Any, cell: str, wanted: list[Run], keys: list[str]
) -> None:
    line = tables[cell.split("/", maxsplit=1)[0]].loc[cell]
    assert line["mean"] == pytest.approx(mean_of(small, wanted, *keys), abs=1e-4)
    assert line["runs"].split() == [run.file for run in wanted]
    assert line["n"] == len(wanted)


def test_classes_of_any_name_are_told_apart_up_to_the_claims(small: Any) -> None:
    small.sections["tables"]["table2"] |= {"targets": HOSTILE, "readings": ["selection"]}
    runs = {run.target: run for run in small.train() if run.target and run.method == "vecaf"}
    space = small.execute(NOTEBOOK, output="reports/small/tables", metrics="out/metrics.json")
    table = read_table(small.root / "reports" / "small" / "tables" / "table2.csv")
    assert table["cell"].is_unique
    assert table["cell"].str.fullmatch(r"table2/[a-z_]+/[a-z0-9_.~-]+/selection").all()
    for name in HOSTILE:
        (line,) = table[(table["target"] == name) & (table["method"] == "vecaf")].to_dict("records")
        assert runs[name].file in line["runs"].split()
    shown = space["page"](space["write"](table, "table2"), ["target"], "ActiveFT").data
    assert [name for name in HOSTILE if f"<td>{escape(name, quote=False)}</td>" not in shown] == []
    space = small.execute("55_claims.ipynb", output="reports/small/claims")
    (cells,) = space["claimed"].query("id == 'claims/section-4.2/one-versus-all'")["cells"]
    assert {*cells.split()} == {*table["cell"]}


def test_a_table_leads_to_the_runs_of_its_numbers(
    tables: dict[str, pd.DataFrame], small: Any
) -> None:
    texts = [shown.data for shown in small.displayed if isinstance(shown, Markdown)]
    found = [re.search(r"\((\S+\.csv)\).*`vecaf trace (\S+)`", text) for text in texts]
    files = [(small.root / "reports/small/notebooks" / link[1]).resolve() for link in found]
    assert {file.stem for file in files} >= {"table1", "table3", "table7", "decisions", "batches"}
    for file, link in zip(files, found, strict=True):
        assert read_table(file).set_index("cell").loc[link[2], "runs"].split()


def test_every_table_has_its_rows(tables: dict[str, pd.DataFrame], small: Any) -> None:
    first = tables["table1"]
    assert len(first) == 2 * 4 + 1  # random, ActiveFT twice and VeCAF at two ratios; full data
    assert set(tables["table2"]["target"]) == {"three", "eight"}
    absent = tables["table3"].loc["table3/clipstyler/snowy/mean"]
    assert absent["n"] == 0
    assert math.isnan(absent["mean"])
    parts = tables["table6"][["ods", "cea"]].agg(" ".join, axis="columns").tolist()
    assert parts == ["off off", "on off", "off on", "on on"]
    assert tables["decisions"]["change"].tolist() == ["as in Table 1", "tau 0.07 → 0.5"]
    assert "table5" not in tables
    assert tables["table3"].loc["table3/vecaf/snowy/mean", "prompt_move"] == pytest.approx(0.2)
    for table in tables.values():
        assert "labels_seen" in table or not {"n", "runs"} <= set(table)
    metrics = json.loads((small.root / "out" / "metrics.json").read_text())
    expected = first.loc["table1/vecaf/multi/r5", "mean"]
    assert metrics["table1"]["vecaf"]["r5"] == pytest.approx(expected, abs=1e-4)
    assert metrics["table1"]["full"].keys() == {"all"}


def test_references(tables: dict[str, pd.DataFrame]) -> None:
    first = tables["table1"]
    line = first.loc["table1/vecaf/multi/r5"]
    assert line["reference"] == "table1/activeft/multi/r5"
    rivals = {"": "activeft/multi/r5", "_random": "random/multi/r5", "_full": "full/single/all"}
    for end, rival in rivals.items():
        gap = line["mean"] - first.loc[f"table1/{rival}", "mean"]
        assert line[f"difference{end}"] == pytest.approx(gap, abs=2e-4)
    loops = tables["table7"]
    assert loops.loc["table7/l3", "reference"] == "table7/l2"


def test_the_papers_numbers_stand_beside(tables: dict[str, pd.DataFrame]) -> None:
    line = tables["table1"].loc["table1/vecaf/multi/r1"]
    assert line["paper_cifar10_accuracy"] == 93.57
    assert line["paper_caltech101_ratio"] == 2  # the nearest that the paper has
    assert tables["table1"].loc["table1/full/single/all", "paper_imagenet1k_accuracy"] == 57.53
    assert tables["table1"].loc["table1/random/multi/r5", "paper_cifar10_accuracy"] != 0
    assert math.isnan(tables["table1"].loc["table1/random/multi/r5", "paper_cifar10_accuracy"])
    assert tables["table7"].loc["table7/l4", "paper_cifar10_accuracy"] == 96.14


def test_cost(tables: dict[str, pd.DataFrame]) -> None:
    cost = tables["table4"]
    assert cost.loc["table4/vecaf/text-encoding", "gflops"] == 20
    assert cost.loc["table4/vecaf/total", "gflops"] == 20 + 3 + 15 + 12 + 120
    assert math.isnan(cost.loc["table4/vecaf/captioning", "gflops"])
    assert cost.loc["table4/full/total", "seconds"] == 24
    # To the target of 50 %: 8 of 12 batches, so that two of three loops have begun.
    assert cost.loc["table4/vecaf_b2a/finetuning", ["batches", "gflops"]].tolist() == [8, 80]
    assert cost.loc["table4/vecaf_b2a/selection", "gflops"] == pytest.approx(8)


def test_batches(tables: dict[str, pd.DataFrame]) -> None:
    batches = tables["batches"]
    assert batches.loc["batches/vecaf/50", ["mean", "reached"]].tolist() == [8, 3]
    to_full = tables["batches_to_full"].set_index(["method", "ratio"])
    assert set(to_full.index.get_level_values("method")) == {"activeft", "vecaf"}
    assert len(set(to_full["target"])) == 1


@pytest.mark.parametrize(
    ("at", "said"),
    [([-1], "far below its own best, 59.2 %"), ([0, 1, 2], "at their first evaluation")],
)
def test_full_data_that_has_not_learnt_is_no_target(small: Any, at: list[int], said: str) -> None:
    def fallen(run: Run) -> dict[str, Any]:
        result = result_of(run)
        for point in at if run.method == "full" else []:
            result["curve"][point]["validation_accuracy"] = 9.0
        return result

    small.train(fallen)
    shown = small.execute(NOTEBOOK, output="out", metrics="out/metrics.json")["told"]
    assert said in shown
    assert not (small.root / "out" / "batches_to_full.csv").exists()
    aim = small.execute("50_figures.ipynb", output="figures", plots="plots")["aim"]
    assert ("no target" in aim) == (at == [-1])


def broken(run: Run) -> dict[str, Any]:
    """LearnLoss has random's first set and learns less from it."""
    result = result_of(run)
    result["curve"][0]["validation_accuracy"] -= 9 * (run.method == "learnloss")
    return result


def test_kept_sets_both_readings_and_broken_training(small: Any) -> None:
    sections = small.sections
    sections["tables"]["table1"] |= {"sets": ["fresh", "kept"]}
    sections["tables"]["table1"]["methods"].append("learnloss")
    sections["tables"]["table2"]["readings"] = ["finetuning", "selection"]
    sections["figures"] |= {"sets": ["fresh", "kept"]}
    small.train(broken)
    small.execute(NOTEBOOK, output="out", metrics="out/metrics.json")
    first, second, batches = (
        read_table(small.root / "out" / f"{name}.csv").set_index("cell")
        for name in ("table1", "table2", "batches")
    )
    assert list(dict.fromkeys(first["sets"])) == ["fresh", "kept"]  # two groups
    kept = first.loc["table1/vecaf/multi/r5/kept"]
    assert kept["runs"].split() == [run.file for run in runs("vecaf", sets="kept")]
    assert kept["reference"] == "table1/activeft/multi/r5/kept"
    for rival, end in (("random/multi/r5/kept", "_random"), ("full/single/all", "_full")):
        gap = kept["mean"] - first.loc[f"table1/{rival}", "mean"]
        assert kept[f"difference{end}"] == pytest.approx(gap, abs=2e-4)
    assert math.isnan(kept["paper_cifar10_accuracy"])  # which are of fresh sets
    assert kept["empty_centroids"] == pytest.approx(0.02)  # 0.01, 0.02 and 0.03 in three loops
    assert not [cell for cell in first.index if "single" in cell and "kept" in cell]
    metrics = json.loads((small.root / "out" / "metrics.json").read_text())["table1"]
    assert metrics["vecaf"].keys() == {"r1", "r5", "r1/kept", "r5/kept"}
    assert batches.loc["batches/vecaf/50/kept", "n"] == 3

    wanted = runs("vecaf", target="eight", reading="selection")
    assert second.loc["table2/vecaf/eight/selection", "runs"].split() == [r.file for r in wanted]
    assert second.loc["table2/vecaf/eight/selection", "reference"].endswith("eight/selection")

    marked = first[first["training"] != ""]
    assert set(marked["method"]) == {"learnloss"}
    assert len(marked) == 4  # both ratios, fresh and kept
    assert marked["training"].iloc[0].startswith("broken: -")
    gaps = [f"{part}{end}" for part in ("difference", "low") for end in ("", "_random", "_full")]
    assert marked[gaps].isna().all(axis=None)
    assert marked["mean"].notna().all()
