"""Tables 2, 3 and 5 and of decisions: which runs a cell takes, what it is compared with."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from vecaf_lib.errors import BadInput
from vecaf_lib.report.comparisons import Grid, changed, decisions, table2, table3, table5
from vecaf_lib.report.evidence import evidence_page
from vecaf_lib.report.markdown import to_markdown
from vecaf_lib.report.names import run_file
from vecaf_lib.report.tables import read_csv, to_csv
from vecaf_lib.run_files import write_run

SEEDS = (0, 1, 2)
PAPER = pd.DataFrame(
    {
        "method": ["vecaf"],
        "dataset": ["CIFAR-10"],
        "target_class": ["cat"],
        "ratio": [2.0],
        "accuracy": [86.41],
        "standard_error": [0.03],
    }
)


def method(**others: Any) -> dict[str, Any]:
    grid = [{"ratios": [5.0], "loops": [3], "multi_run": [True], "targets": ["cat", "dog"]}]
    empty = {"select": "ods", "vision": None, "text": None, "domain": None, "domains": []}
    return (
        empty
        | {"options": {"tau": 0.07, "lambda_": 1.0}, "cea": {"eta": 0.2}, "grid": grid}
        | others
    )


METHODS = {
    "activeft": method(select="activeft"),
    "full": method(select="full"),
    "vecaf": method(),
    "vecaf_snowy": method(domain="snowy"),
    "vecaf_hashed": method(text={"name": "hashed"}),
    "vecaf_tau": method(options={"tau": 0.5, "lambda_": 1.0}),
}
DOMAINS = {
    "snowy": {"prompt": "It's a snowy day.", "severities": [1, 5]},
    "foggy": {"prompt": "It's a foggy day.", "severities": [3]},
}


@pytest.fixture
def make_grid(make_run: Callable[..., dict[str, Any]]) -> Callable[..., Grid]:
    """Runs whose accuracy is told by method, target and domain, plus the seed."""

    def make(methods: Any = METHODS, seeds: Any = SEEDS) -> Grid:
        runs = []
        for place, name in enumerate(methods):
            for target in ("", "cat", "dog"):
                for seed in seeds:
                    level = 10.0 * place + {"": 0, "cat": 1, "dog": 2}[target]
                    full = name == "full"
                    run = make_run(name, not full, 100.0 if full else 5.0, 3, seed, level + seed)
                    run["run"]["target"] = target
                    if not target:
                        snow = {"1": level + 3, "5": level + 5 + seed, "mean": level + 4}
                        fog = {"3": level + 6, "mean": level + 6}
                        run["result"]["domains"] = {"snowy": snow, "foggy": fog}
                    runs.append(run)
        labels = dict.fromkeys(methods, "all")
        return Grid(runs, methods, labels=labels, ratio=5.0, loops=3, seeds=seeds)

    return make


def means(table: pd.DataFrame) -> dict[str, float]:
    return dict(zip(table["cell"], table["mean"].round(6), strict=True))


def test_table_2_takes_the_runs_of_each_class(make_grid: Callable[..., Grid]) -> None:
    table = table2(make_grid(), ["activeft", "vecaf"], PAPER)
    assert means(table) == {
        "table2/activeft/cat": 2,  # 0 + 1, and seeds 0, 1, 2
        "table2/vecaf/cat": 22,
        "table2/activeft/dog": 3,
        "table2/vecaf/dog": 23,
    }
    vecaf = table.set_index("cell").loc["table2/vecaf/cat"]
    assert (vecaf["minus_activeft"], vecaf["minus_activeft_cell"]) == (20, "table2/activeft/cat")
    assert (vecaf["minus_activeft_low"], vecaf["minus_activeft_high"]) == (20, 20)
    assert vecaf["paper_cifar10_accuracy"] == 86.41
    assert "-tcat.json.gz" in vecaf["runs"]


def test_table_3_shows_a_prompted_method_in_its_own_domain(make_grid: Callable[..., Grid]) -> None:
    table = table3(make_grid(), ["full", "activeft", "vecaf_snowy"], DOMAINS)
    found = means(table)
    assert found["table3/vecaf/snowy/5"] == 30 + 5 + 1
    assert found["table3/vecaf/snowy/mean"] == 34
    assert found["table3/full/foggy/3"] == 16
    assert not any(cell.startswith("table3/vecaf/foggy") for cell in found)
    row = table.set_index("cell").loc["table3/vecaf/snowy/1"]
    assert (row["minus_full"], row["minus_activeft"]) == (20, 30)
    assert row["severity"] == "1"


def test_a_method_that_waits_for_its_weights_has_a_line_and_no_evidence(
    make_grid: Callable[..., Grid], tmp_path: Path
) -> None:
    grid = make_grid()
    grid.methods = {**grid.methods, "clipstyler_snowy": {"select": "full", "domain": "snowy"}}
    table = table3(grid, ["full", "clipstyler_snowy"], DOMAINS)
    lines = table[table["method"] == "clipstyler"]
    assert lines["cell"].tolist() == ["table3/clipstyler/snowy/mean"]
    assert lines["n"].tolist() == [0]
    to_csv(table, tmp_path / "table3.csv")
    text = to_markdown(read_csv(tmp_path / "table3.csv"))
    assert "CLIPstyler" in text
    assert text.count("needs CLIP weights") == 1
    assert "nan" not in text


def test_table_5_is_compared_with_the_text_without_meaning(make_grid: Callable[..., Grid]) -> None:
    table = table5(make_grid(), ["vecaf", "vecaf_hashed"], ("lite0", "minilm")).set_index("cell")
    assert list(table.index) == ["table5/lite0/minilm", "table5/lite0/hashed"]
    assert table.loc["table5/lite0/minilm", "minus_hashed"] == -20
    assert pd.isna(table.loc["table5/lite0/hashed", "minus_hashed"])


def test_decisions_say_what_was_changed(make_grid: Callable[..., Grid]) -> None:
    table = decisions(make_grid(), ["vecaf_tau"])
    assert list(table["change"]) == ["as in Table 1", "tau 0.07 → 0.5"]
    assert table["minus_vecaf"].tolist()[1] == 30


def test_the_parts_of_a_variant_are_compared_with_it(make_grid: Callable[..., Grid]) -> None:
    table = decisions(make_grid(), ["vecaf"], table="variant", base="vecaf_tau")
    assert list(table["cell"]) == ["variant/vecaf_tau", "variant/vecaf"]
    assert list(table["change"]) == ["as in Table 1", "tau 0.5 → 0.07"]
    assert table["minus_vecaf_tau"].tolist()[1] == -30


def test_a_replication_has_seeds_of_its_own(make_grid: Callable[..., Grid]) -> None:
    grid = make_grid(seeds=(0, 1, 2, 7, 8))
    grid.seeds = (7, 8)
    table = decisions(grid, ["activeft", "vecaf"], table="replication", base="activeft")
    assert list(table["cell"]) == ["replication/activeft", "replication/vecaf"]
    assert list(table["seeds"]) == ["7 8", "7 8"]
    assert table["n"].tolist() == [2, 2]
    assert pd.notna(table["minus_activeft"].tolist()[1])


def test_differences_of_settings() -> None:
    base = method()
    assert changed(base | {"cea": None}, base) == "cea on → off"
    assert changed(base | {"domain": "snowy"}, base) == "domain off → snowy"
    assert changed(base | {"grid": [], "repetitions": 3}, base) == ""
    assert changed(base, base | {"cea": None}) == "cea off → on"
    other = base | dict.fromkeys(("a", "b", "c"), "new")
    assert changed(other, base) == "a off → new; b off → new; c off → new"
    assert changed(other | {"d": 1, "e": 2}, base) == "a off → new; b off → new; 3 more"


def test_a_missing_run_is_named(make_grid: Callable[..., Grid]) -> None:
    grid = make_grid({name: METHODS[name] for name in ("activeft", "vecaf")}, seeds=(0, 1))
    grid.seeds = SEEDS
    with pytest.raises(BadInput, match=r"activeft/multi-r5-l3-s2-tcat\.json"):
        table2(grid, ["activeft", "vecaf"], PAPER)


def test_text_and_evidence(make_grid: Callable[..., Grid], tmp_path: Path) -> None:
    grid = make_grid()
    tables = {
        "table2": table2(grid, ["activeft", "vecaf"], PAPER),
        "table3": table3(grid, ["full", "vecaf_snowy"], DOMAINS),
        "table5": table5(grid, ["vecaf", "vecaf_hashed"], ("lite0", "minilm")),
        "decisions": decisions(grid, ["vecaf_tau"]),
    }
    for run in grid.runs:
        write_run(tmp_path / "runs" / run_file(run["run"]), run)
    for name, table in tables.items():
        to_csv(table, tmp_path / f"{name}.csv")
        again = read_csv(tmp_path / f"{name}.csv")
        assert means(again) == means(table)
        text = to_markdown(again)
        assert text.count("evidence.md#") >= len(table)
    evidence = evidence_page(
        {name: read_csv(tmp_path / f"{name}.csv") for name in tables}, tmp_path / "runs", "runs"
    )
    assert "(table3-vecaf-snowy-5)=" in evidence
    assert "36.00" in evidence
    assert "tau 0.07 → 0.5" in evidence
