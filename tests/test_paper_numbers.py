"""The paper's numbers in data/paper: complete, well formed, and consistent with its own text."""

from pathlib import Path

import pandas as pd
import pytest
import yaml

from vecaf_lib.pipeline.settings import change, checked, read_yaml

PAPER = Path(__file__).parents[1] / "data" / "paper"
RATIOS = {"CIFAR-10": [1, 2, 5], "Caltech-101": [2, 5, 10], "ImageNet-1K": [1, 2, 4]}


def table(number: int) -> pd.DataFrame:
    return pd.read_csv(PAPER / f"table{number}.csv")


def accuracy(rows: pd.DataFrame, **where: object) -> float:
    """The one accuracy that the given columns pick."""
    for column, value in where.items():
        rows = rows[rows[column] == value]
    assert len(rows) == 1
    return float(rows["accuracy"].iloc[0])


def test_table_1_has_every_cell() -> None:
    rows = table(1)
    runs = [(name, kind) for name in ("learnloss", "ta_vaal", "alfa_mix", "activeft")
            for kind in ("single", "multi")]  # fmt: skip
    expected = [
        (*run, dataset, ratio)
        for run in [*runs, ("vecaf", "multi")]
        for dataset, ratios in RATIOS.items()
        for ratio in ratios
    ] + [("full", "single", dataset, 100) for dataset in RATIOS]
    found = rows[["method", "selection", "dataset", "ratio"]].itertuples(index=False, name=None)
    assert sorted(found) == sorted(expected)
    assert set(rows.loc[rows["labels_used"] == "all", "method"]) == {"vecaf", "full"}


def test_table_1_not_available() -> None:
    rows = table(1)
    missing = rows[rows["accuracy"].isna()]
    assert set(missing["method"]) == {"ta_vaal", "alfa_mix"}
    assert set(missing["dataset"]) == {"ImageNet-1K"}
    assert sorted(missing["ratio"]) == [1] * 4 + [2] * 4
    assert (rows["accuracy"].isna() == rows["standard_error"].isna()).all()


@pytest.mark.parametrize(
    ("method", "selection", "dataset", "ratio", "value"),
    [
        ("learnloss", "single", "CIFAR-10", 1, 85.93),
        ("ta_vaal", "multi", "ImageNet-1K", 4, 64.32),
        ("alfa_mix", "single", "Caltech-101", 10, 67.36),
        ("activeft", "multi", "ImageNet-1K", 1, 55.67),
        ("full", "single", "Caltech-101", 100, 62.08),
        ("vecaf", "multi", "CIFAR-10", 5, 96.24),
    ],
)
def test_table_1_values(
    method: str, selection: str, dataset: str, ratio: int, value: float
) -> None:
    where = {"method": method, "selection": selection, "dataset": dataset, "ratio": ratio}
    assert accuracy(table(1), **where) == value


def test_multi_run_beats_single_run_and_vecaf_beats_all() -> None:
    """Section 4.2 says so; a slip in copying a number would often break it."""
    wide = table(1).query("method != 'full'").pivot_table(
        "accuracy", ["dataset", "ratio"], ["method", "selection"]
    )  # fmt: skip
    for method in ("learnloss", "ta_vaal", "alfa_mix", "activeft"):
        assert (wide[method, "multi"].dropna() > wide[method, "single"].dropna()).all()
    assert (wide.max(axis="columns") == wide["vecaf", "multi"]).all()


@pytest.mark.parametrize("number", range(1, 8))
def test_numbers_are_in_range(number: int) -> None:
    rows = table(number)
    assert not rows.duplicated().any()
    if "accuracy" in rows:
        assert rows["accuracy"].dropna().between(30, 100).all()
        assert rows["standard_error"].dropna().between(0.01, 0.5).all()


def test_tables_agree_with_each_other() -> None:
    main, ablation = table(1), table(6)
    for dataset, ratio in (("CIFAR-10", 1), ("Caltech-101", 5), ("ImageNet-1K", 1)):
        where = {"dataset": dataset, "ratio": ratio}
        both = accuracy(ablation, ods=True, cea=True, **where)
        assert both == accuracy(main, method="vecaf", **where)
        selection = "single" if dataset == "Caltech-101" else "multi"  # the paper's own mixture
        neither = accuracy(ablation, ods=False, cea=False, **where)
        assert neither == accuracy(main, method="activeft", selection=selection, **where)
    clip = accuracy(table(5), vision_model="DeiT-B", language_model="CLIP")
    assert clip == accuracy(main, method="vecaf", dataset="ImageNet-1K", ratio=1)


def test_the_other_tables() -> None:
    assert accuracy(table(2), method="topk_loss", target_class="cat") == 75.72
    assert len(table(2)) == 12
    assert accuracy(table(3), method="vecaf", corruption="snow") == 42.33
    assert accuracy(table(3), method="clipstyler", corruption="fog") == 46.25
    assert len(table(3)) == 8
    flops = table(4).query("method == 'vecaf'").set_index("part")["gflops"]
    assert flops.drop("ALL").sum() == pytest.approx(flops["ALL"], rel=0.005)
    assert table(4)["gflops"].isna().sum() == 2
    models = ("DeiT-S", "DeiT-B", "SwinT-S", "SwinT-B", "XciT-M", "XciT-L")
    assert table(5).groupby("vision_model").size().to_dict() == dict.fromkeys(models, 4)
    assert table(7).set_index("loops")["accuracy"].to_dict() == {
        2: 95.89, 3: 96.01, 4: 96.14, 5: 96.24
    }  # fmt: skip


def test_figures() -> None:
    rows = pd.read_csv(PAPER / "figures.csv", dtype={"figure": str})
    batches = rows[rows["quantity"] == "batches to target accuracy"].set_index("method")["value"]
    assert batches.to_dict() == {"vecaf": 3075, "full": 10250}
    faster = rows.loc[rows["quantity"] == "acceleration over full data", "value"].item()
    assert batches["full"] / batches["vecaf"] == pytest.approx(faster, abs=0.05)
    targets = rows[rows["quantity"] == "target accuracy"].groupby("dataset")["value"].apply(sorted)
    assert targets.to_dict() == {"CIFAR-10": [90], "Caltech-101": [65], "ImageNet-1K": [45, 50]}


def test_departures_of_released_code_are_settings_and_not_the_default() -> None:
    smoke = read_yaml(PAPER.parents[1] / "profiles" / "smoke.yaml")
    for setting in pd.read_csv(PAPER / "departures.csv")["setting"]:
        path, value = setting.split(": ", 1)
        changed = checked(change(smoke, {path: yaml.safe_load(value)}), "")
        assert (changed == checked(smoke, "")) == ("vecaf_official" in path), setting
