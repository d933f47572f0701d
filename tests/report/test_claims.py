"""The ledger: every printed number has its row, contradictions are computed, ours are looked up."""

import re
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from vecaf_lib.errors import BadInput
from vecaf_lib.report import site_files
from vecaf_lib.report.behind import behind
from vecaf_lib.report.claims import COLUMNS, Paper, ledger, read_csv, to_csv
from vecaf_lib.report.claims_page import claims_page
from vecaf_lib.report.names import run_file, slug
from vecaf_lib.report.verdicts import (
    CONTRADICTS,
    DIRECTION,
    NOT,
    NOT_RUN,
    REPRODUCED,
    SETTING,
    VERDICTS,
)
from vecaf_lib.run_files import write_run

PAPER = Path(__file__).parents[2] / "data" / "paper"
Tables = dict[str, pd.DataFrame]
CIFAR = {"dataset": "CIFAR-10", "full": True}
IMAGENET = {"dataset": "ImageNet-1K", "full": True}


def made(tables: Tables, stands_for: Any = None, paper: Path = PAPER, **more: Any) -> pd.DataFrame:
    """The ledger by id."""
    settings = {"profile": "test", "seeds": [0, 1, 2], "setting": "digits, 36 steps of 12"} | more
    found = ledger(tables, paper, stands_for=stands_for, **settings)
    return found.set_index("id", drop=False)


def line(cell: str, mean: float, error: float = 0.01, n: int = 3, **more: Any) -> dict[str, Any]:
    """One row of a table of ours."""
    runs = " ".join(f"{cell.replace('/', '_')}/s{seed}.json" for seed in range(n))
    return {"cell": cell, "mean": mean, "standard_error": error, "n": n, "runs": runs} | more


def minus(name: str, cell: str, mean: float, low: float, high: float) -> dict[str, Any]:
    keys = ("", "_low", "_high", "_cell")
    return {f"minus_{name}{k}": v for k, v in zip(keys, (mean, low, high, cell), strict=True)}


@pytest.fixture(scope="module")
def empty() -> pd.DataFrame:
    return made({})


@pytest.fixture
def changed(tmp_path: Path) -> Any:
    """A copy of data/paper with one entry of claims.yaml changed."""

    def change(section: str, name: str, values: dict[str, Any]) -> Path:
        folder = tmp_path / "paper"
        shutil.copytree(PAPER, folder, dirs_exist_ok=True)
        content = yaml.safe_load((PAPER / "claims.yaml").read_text(encoding="utf-8"))
        (entry,) = [e for e in content[section] if e["id"].endswith(f"/{name}")]
        entry.update(values)
        (folder / "claims.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
        return folder

    return change


def test_every_printed_number_has_a_row(empty: pd.DataFrame) -> None:
    for name, column in {
        **{f"table{n}": "accuracy" for n in (1, 2, 3, 5, 6, 7)},
        "table4": "gflops",
        "figures": "value",
    }.items():
        printed = pd.read_csv(PAPER / f"{name}.csv")[column].dropna()
        kinds = empty["kind"].isin(["value", "setting"])
        pattern = r"claims/figure\d\w?/" if name == "figures" else f"claims/{name}/"
        rows = empty[empty["id"].str.match(pattern) & kinds]
        rows = rows[rows["unit"] != "batches"] if name == "table4" else rows
        assert sorted(rows["paper_value"]) == sorted(printed), name
    counts = empty[empty["id"].str.endswith("/batches")]["paper_value"]
    assert sorted(counts) == [3000, 10000]  # table 4's, which stand in every row of a method
    where = empty.loc["claims/table1/vecaf/multi/cifar10/r1"]
    assert where["statement"] == "VeCAF, multi-run, CIFAR-10, 1 %: 93.57 ± 0.02 %."
    assert (where["paper_value"], where["paper_standard_error"]) == (93.57, 0.02)


def test_form(empty: pd.DataFrame) -> None:
    assert list(empty.columns) == COLUMNS
    assert empty["id"].is_unique
    assert empty["id"].map(slug).is_unique
    assert set(empty["verdict"]) == {NOT_RUN, CONTRADICTS, SETTING}  # nothing of ours is there
    assert set(empty["verdict"]) <= set(VERDICTS)
    assert empty["our_value"].isna().all()
    data = {"CIFAR-10", "Caltech-101", "ImageNet-1K"}
    assert set(empty.loc[empty["kind"] != "contradiction", "scope"]) == {*data, "general"}
    far = empty.loc["claims/table6/vecaf/caltech101", "distance"]
    assert far == (
        "Ours: digits, 36 steps of 12, 3 seeds; the paper's: Caltech-101, DeiT-B pretrained with "
        "DINO, 1500 batches of 256."
    )


def test_bytes_are_the_same_and_read_back(tmp_path: Path, tables: Tables) -> None:
    found = made(tables).reset_index(drop=True)
    to_csv(found, tmp_path / "a.csv")
    again = read_csv(tmp_path / "a.csv")
    to_csv(again, tmp_path / "b.csv")
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()
    assert claims_page(again).count("\n") == claims_page(found).count("\n")
    with pytest.raises(BadInput, match="is missing"):
        read_csv(tmp_path / "c.csv")


def test_contradictions_are_computed(empty: pd.DataFrame, tmp_path: Path) -> None:
    rows = empty[empty["kind"] == "contradiction"]
    assert set(rows["verdict"]) == {CONTRADICTS}
    texts = rows["statement"]
    assert "58.31 − 55.67 = 2.64 ≠ 2.7" in texts["claims/contradictions/imagenet-gain"]
    assert "42.33 − 36.36 = 5.97 ≤ 6" in texts["claims/contradictions/over-six"]
    assert "5.97 > 4.2" in texts["claims/contradictions/up-to-4.2"]
    assert "96.24 ≠ 96.01" in texts["claims/contradictions/cifar10-three-loops"]
    assert "60.55 ≠ 61.97" in texts["claims/contradictions/ablation-caltech"]
    assert texts["claims/contradictions/caltech-falls"].count("<") == 9
    assert "= 320 <" in texts["claims/contradictions/captions-cost-nothing"]
    for entry in yaml.safe_load((PAPER / "claims.yaml").read_text())["contradictions"]:
        for computed in (r"58\.31", r"55\.67", r"2\.64", r"5\.97", r"61\.97", r"96\.01"):
            assert not re.search(computed, str(entry)), "typed, not looked up"

    folder = tmp_path / "paper"
    shutil.copytree(PAPER, folder)
    table = (folder / "table1.csv").read_text()

    def gain(accuracy: str) -> str:
        changed = table.replace("ImageNet-1K,1,58.31", f"ImageNet-1K,1,{accuracy}")
        (folder / "table1.csv").write_text(changed)
        return made({}, paper=folder).loc["claims/contradictions/imagenet-gain", "statement"]

    assert "58.51 − 55.67 = 2.84 ≠ 2.7" in gain("58.51")
    with pytest.raises(BadInput, match="imagenet-gain is no contradiction"):
        gain("58.41")  # 2.74 rounds to 2.7


@pytest.mark.parametrize(
    ("section", "id", "values", "words"),
    [
        ("contradictions", "imagenet-gain", {"right": 2.6}, "is no contradiction"),
        ("contradictions", "imagenet-gain", {"says": "less"}, "is no contradiction"),
        ("contradictions", "over-six", {"right": 5.5}, "holds for 1 of 2"),
        ("contradictions", "three-baselines", {"right": 4}, "is no contradiction"),
        ("contradictions", "over-six", {"says": "about"}, "not one of equal"),
        ("contradictions", "imagenet-gain", {"left": {"table": "table9"}}, "not there"),
        ("contradictions", "imagenet-gain", {"left": {"table": "table1", "seed": 1}}, "asks"),
        ("contradictions", "imagenet-gain", {"left": {"table": "table1"}}, "picks 84 rows"),
        ("claims", "section-4.2/flops-ratio", {"value": 3.18}, "says 3.18, but"),
        ("claims", "section-4.2/overhead-of-cea", {"value": 4.6}, "9530 / 211000 × 100 = 4.52"),
        ("claims", "section-4.2/flops-ratio", {"id": "claims/table7/l2"}, "there twice"),
        ("claims", "section-4.3/ods-helps", {"test": {"sum": {}}}, "'sum', which is unknown"),
    ],
)
def test_wrong_arithmetic_is_refused(
    changed: Any, section: str, id: str, values: dict[str, Any], words: str
) -> None:
    with pytest.raises(BadInput, match=re.escape(words)):
        made({}, paper=changed(section, id, values))


def test_missing_files(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"table1\.csv is missing"):
        Paper(tmp_path)
    for path in PAPER.glob("*.csv"):
        shutil.copy(path, tmp_path)
    with pytest.raises(BadInput, match=r"claims\.yaml is missing"):
        Paper(tmp_path)


def test_our_numbers_are_shown_but_not_judged_in_another_setting(tables: Tables) -> None:
    for stands_for in (None, {"dataset": "CIFAR-10", "full": False}, IMAGENET):
        row = made(tables, stands_for).loc["claims/table1/vecaf/multi/cifar10/r2"]
        ours = tables["table1"].set_index("cell").loc["table1/vecaf/multi/r2"]
        assert row["verdict"] == NOT_RUN
        assert row["our_value"] == ours["mean"]
        assert (row["cells"], row["n"]) == ("table1/vecaf/multi/r2", 3)
        assert row["runs"] == ours["runs"]
        assert row["link"] == "evidence.md#table1-vecaf-multi-r2"
    assert made(tables).loc["claims/table1/vecaf/multi/cifar10/r1", "cells"] == ""


def test_printed_numbers_in_the_papers_setting() -> None:
    first = [line("table1/vecaf/multi/r1", 93.3), line("table1/vecaf/multi/r2", 96.0)]
    fifth = [line("table5/vit_base_patch16_224.dino/clip_vit_l", 58.4)]
    tables = {"table1": pd.DataFrame(first), "table5": pd.DataFrame(fifth)}
    found = made(tables, CIFAR)
    assert found.loc["claims/table1/vecaf/multi/cifar10/r1", "verdict"] == REPRODUCED
    assert found.loc["claims/table1/vecaf/multi/cifar10/r2", "verdict"] == NOT
    assert found.loc["claims/table1/vecaf/multi/cifar10/r5", "verdict"] == NOT_RUN
    assert found.loc["claims/table1/vecaf/multi/imagenet1k/r1", "verdict"] == NOT_RUN
    assert "the paper's setting" in found.loc["claims/table1/vecaf/multi/cifar10/r1", "distance"]
    table5 = made(tables, IMAGENET).loc["claims/table5/deit-b/clip"]
    assert (table5["verdict"], table5["our_value"]) == (REPRODUCED, 58.4)


def ablation(mean: float, low: float, high: float) -> Tables:
    neither = line("table6/vecaf_neither", 92.8, **minus("neither", "", *[float("nan")] * 3))
    ods = line(
        "table6/vecaf_no_cea", 93.3, **minus("neither", "table6/vecaf_neither", mean, low, high)
    )
    return {"table6": pd.DataFrame([neither, ods])}


def test_general_directions() -> None:
    id = "claims/section-4.3/ods-helps"
    assert made(ablation(0.5, 0.1, 0.9)).loc[id, "verdict"] == DIRECTION
    assert made(ablation(0.5, -0.1, 0.9)).loc[id, "verdict"] == NOT
    assert made(ablation(0.5, 0.1, 0.9), CIFAR).loc[id, "verdict"] == REPRODUCED  # paper: 0.48
    assert made(ablation(0.7, 0.6, 0.9), CIFAR).loc[id, "verdict"] == DIRECTION
    assert made(ablation(0.5, 0.1, 0.9), IMAGENET).loc[id, "verdict"] == DIRECTION  # paper: 2.06
    row = made(ablation(0.5, 0.1, 0.9)).loc[id]
    assert (row["our_value"], row["our_low"], row["our_high"]) == (0.5, 0.1, 0.9)
    assert row["cells"] == "table6/vecaf_no_cea table6/vecaf_neither"
    assert made({}).loc[id, "verdict"] == NOT_RUN


def test_a_claim_speaks_of_every_ratio_and_shows_the_weakest(tables: Tables) -> None:
    first = tables["table1"].copy()
    rivals = ["learnloss", "ta_vaal", "alfa_mix"]
    for rival in rivals:
        part = first[first["method"] == "activeft"].copy()
        part["cell"] = part["cell"].str.replace("activeft", rival)
        first = pd.concat([first, part], ignore_index=True)
    id = "claims/section-4.2/ahead-at-every-ratio"
    row = made({"table1": first}).loc[id]
    assert row["verdict"] == NOT_RUN  # no paired difference without run files
    assert "the runs of table1/vecaf/multi/r2 and table1/learnloss/multi/r2" in row["rule"]
    ours = (first["method"] == "vecaf") & (first["selection"] == "multi")
    for number, rival in enumerate(rivals):
        first.loc[ours, f"minus_{rival}"] = 2.0
        first.loc[ours, f"minus_{rival}_low"] = [1.0, 0.5 - 0.1 * number, 1.0]
        first.loc[ours, f"minus_{rival}_high"] = 3.0
        first.loc[ours, f"minus_{rival}_cell"] = [f"table1/{rival}/multi/r{r}" for r in (2, 5, 10)]
    first.loc[ours, ["minus_activeft_low", "minus_activeft_high"]] = [1.0, 3.0]
    row = made({"table1": first}).loc[id]
    assert (row["verdict"], row["our_low"]) == (DIRECTION, 0.3)
    assert row["rule"] == "4: 12 of 12 intervals on the claimed side"
    assert row["cells"].split()[:2] == ["table1/vecaf/multi/r5", "table1/alfa_mix/multi/r5"]
    first.loc[ours, "minus_alfa_mix_low"] = [1.0, 0.3, -0.1]
    row = made({"table1": first}).loc[id]
    assert (row["verdict"], row["our_low"]) == (NOT, -0.1)


def test_a_difference_is_turned_round_where_the_table_has_it_the_other_way(
    tables: Tables, runs: list[dict[str, Any]], tmp_path: Path
) -> None:
    for run in runs:
        write_run(tmp_path / run_file(run["run"]), run)
    first = tables["table1"].set_index("cell", drop=False)
    single = first.loc["table1/activeft/single/r5"]
    id = "claims/section-4.1/multi-run-helps"
    with_files = made(tables, runs_dir=tmp_path).loc[id]
    assert with_files["verdict"] == NOT_RUN  # learnloss and others are not there
    assert with_files["our_value"] > 0
    weakest = first[(first["method"] == "activeft") & (first["selection"] == "single")]
    turned = -weakest["minus_activeft_high"].max()
    assert with_files["our_low"] == pytest.approx(turned)
    assert behind(single, tmp_path).keys() == {0, 1, 2}
    wrong = single.copy()
    wrong["mean"] += 1
    with pytest.raises(BadInput, match="but its run files give"):
        behind(wrong, tmp_path)
    cea = made(tables, runs_dir=tmp_path).loc["claims/section-4.3/cea-helps-further"]
    both, ods = (tables["table6"].set_index("cell").loc[c] for c in cea["cells"].split())
    assert cea["our_value"] == pytest.approx(both["mean"] - ods["mean"])


def test_values_in_a_domain_are_read_from_there(tmp_path: Path) -> None:
    domains = {"snow": {"mean": 5.0}}
    result = {"test_accuracy": 9.0, "validation_accuracy": 7.0, "domains": domains}
    run = {"run": {"seed": 4}, "result": result}
    write_run(tmp_path / "vecaf/a.json.gz", run)
    cell = {"cell": "table3/vecaf/snow/mean", "domain": "snow", "severity": "mean"}
    row = pd.Series(cell | {"mean": 5.0, "runs": "vecaf/a.json.gz"})
    assert behind(row, tmp_path) == {4: ("vecaf/a.json.gz", 5.0, 7.0)}


def batches(full: tuple[float, int], vecaf: tuple[float, int]) -> Tables:
    rows = [
        {"method": name, "target": "50.0000", "mean": mean, "standard_error": 10.0, "n": 3}
        | {"reached": reached, "runs": f"{name}/a.json"}
        for name, (mean, reached) in {"full": full, "vecaf": vecaf}.items()
    ]
    return {"batches": pd.DataFrame(rows)}


def test_batches_to_a_target() -> None:
    id = "claims/abstract/fewer-batches"
    paper = {"dataset": "ImageNet-1K", "full": True}

    def told(full: tuple[float, int], vecaf: tuple[float, int]) -> pd.Series:
        tables = batches(full, vecaf)
        at45 = tables["batches"].assign(target="45.0000")
        return made({"batches": pd.concat([tables["batches"], at45])}, paper).loc[id]

    assert told((3300, 3), (1000, 3))["verdict"] == REPRODUCED
    assert told((3300, 3), (1000, 3))["our_value"] == pytest.approx(3.3)
    assert told((2000, 3), (1000, 3))["verdict"] == DIRECTION
    assert told((1010, 3), (1000, 3))["verdict"] == NOT
    assert told((2000, 0), (1000, 3))["verdict"] in (DIRECTION, REPRODUCED)  # a lower bound
    assert told((2000, 3), (1000, 2))["verdict"] == NOT
    assert told((2000, 0), (1000, 0))["verdict"] == NOT_RUN
    row = made(batches((3300, 3), (1000, 3))).loc[id]
    assert (row["verdict"], row["cells"]) == (NOT_RUN, "batches/full/50 batches/vecaf/50")
    assert row["link"] == "site:tables/batches.csv"


def test_cost() -> None:
    parts = {"captioning": 9e6, "text encoding": 9000.0, "CEA": 500.0, "selection": 100.0}
    parts |= {"finetuning": 211000.0, "total": 9e6}
    rows = [
        {"cell": f"table4/{v}/{slug(p)}", "variant": v, "part": p, "gflops": g}
        for v in ("vecaf", "vecaf_b2a")
        for p, g in parts.items()
    ]
    rows[0]["gflops"] = float("nan")  # the captioner, which the paper leaves out
    found = made({"table4": pd.DataFrame(rows)}, IMAGENET)
    assert found.loc["claims/section-4.2/overhead-of-cea", "verdict"] == REPRODUCED
    assert found.loc["claims/table4/vecaf/cea", "verdict"] == REPRODUCED
    assert found.loc["claims/table4/vecaf/ods-ds", "verdict"] == NOT
    assert found.loc["claims/table4/vecaf/all", "our_value"] == 220600
    assert found.loc["claims/section-4.2/flops-ratio", "verdict"] == NOT_RUN
    full = {"cell": "table4/full_b2a/finetuning", "variant": "full_b2a", "part": "finetuning"}
    more = [*rows, {**full, "gflops": 3.17 * 220600}]
    found = made({"table4": pd.DataFrame(more)}, IMAGENET)
    assert found.loc["claims/section-4.2/flops-ratio", "verdict"] == REPRODUCED
    assert found.loc["claims/table4/full/all", "cells"] == "table4/full_b2a/finetuning"
    rows[7]["gflops"] = float("nan")  # the text encoder was not counted
    found = made({"table4": pd.DataFrame(rows)}, IMAGENET)
    assert found.loc["claims/table4/vecaf/cea", "verdict"] == NOT_RUN


def test_the_page(tables: Tables) -> None:
    found = made({**tables, **batches((3300, 3), (1000, 3))}).reset_index(drop=True)
    text = claims_page(found)
    for id in found["id"]:
        assert text.count(f"({slug(id)})=\n") == 1
    for row in found[found["our_value"].notna()].itertuples():
        assert f"]({row.link})" in text
    assert "[**" not in text
    assert "(another setting)" in text
    assert "](site:tables/batches.csv)" in text
    order = ["## The rule", "## Claims of abstract", "## Numbers of the tables", "## Contradict"]
    assert [text.index(part) for part in order] == sorted(text.index(part) for part in order)
    counts = re.search(r"\| not run at this size \|(.*)\|\n", text)
    assert counts is not None
    assert sum(map(int, counts[1].split("|"))) == (found["verdict"] == NOT_RUN).sum()


@pytest.mark.xdist_group("site")
def test_the_page_builds(tables: Tables, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    cells = [cell for table in tables.values() for cell in table["cell"]]
    evidence = "".join(f"\n({slug(cell)})=\n## {cell}\n\nRuns.\n" for cell in cells)
    index = "# Index\n\n```{toctree}\nevidence\nclaims\n```\n\n[one](#claims-table7-l3)\n"
    found = made(tables)
    pages = {"index": index, "evidence": f"# Evidence\n{evidence}", "claims": claims_page(found)}
    for name, text in pages.items():
        (source / f"{name}.md").write_text(text, encoding="utf-8")
    site_files.sphinx(source, tmp_path / "made", tmp_path / "trees", "Test", "banner")
    html = (tmp_path / "made" / "claims.html").read_text(encoding="utf-8")
    for id in found["id"]:
        assert f'id="{slug(id)}"' in html
    assert 'href="evidence.html#table1-vecaf-multi-r5"' in html
