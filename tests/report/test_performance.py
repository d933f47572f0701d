"""The page of the benchmarks: the last line of a kind counts; exponents are those of the data."""

import json
from pathlib import Path

import pytest

from vecaf_lib.report.performance import (
    exponent,
    growing,
    growth_figure,
    performance_page,
    read_lines,
)


def line(measurement: str, n: int, seconds: float, k: int = 1000) -> str:
    told = {"measurement": measurement, "n": n, "k": k, "seconds": seconds, "ensemble": 1}
    told |= {"peak_gib": 1.5, "gflops": 2e-8 * n * k * 768 / seconds, "commit": "abc1234"}
    return json.dumps(told | {"d": 768, "threads": 2})  # one pass: a tenth of the seconds


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    lines = [line("growth, K = 1,000", n, 2e-3 * n) for n in (1000, 10_000, 100_000)]
    lines += [line("growth, K = 1 %", n, 1e-6 * n**2, n // 100) for n in (1000, 10_000)]
    lines += [line("member", 100_000, 1.0, 1000), line("member", 100_000, 1e4, 1000)]
    (tmp_path / "selection.jsonl").write_text("\n".join(lines) + "\n")
    (tmp_path / "engine.csv").write_text("measure,found,goal,detail\ntime,40.8,>= 20,89 s / 2 s\n")
    return tmp_path


def test_exponents_of_growth(folder: Path) -> None:
    lines = read_lines(folder / "selection.jsonl")
    assert len(lines) == 6
    series = growing(lines)
    assert exponent(series["K = 1,000"]) == pytest.approx(1)
    assert exponent(series["K = 1 %"]) == pytest.approx(2)  # the second member line counts
    assert exponent(series["K = 1 %"], "one_pass_seconds") == pytest.approx(2)
    legends = [t.get_text() for a in growth_figure(lines).axes for t in a.get_legend().get_texts()]
    assert legends[0] == "selection, N$^{1.00}$"


def test_the_page(folder: Path) -> None:
    page = performance_page(folder)
    assert "| time | 40.8 | >= 20 | 89 s / 2 s |" in page
    assert "| member | 100,000 | 1,000 | 1 | 10,000.0 | 1.50 | 1,000.0 | abc1234 |" in page
    assert "performance/growth.png" in page


def test_objective_and_accuracy(tmp_path: Path) -> None:
    lines = ["selection,objective,accuracy,standard_error,n", "random,,35.45,0.5,3"]
    lines += ["exact,-2.42,32.1,0.12,3", "engine,-1.8,36.0,0.2,3"]
    (tmp_path / "objective.csv").write_text("\n".join(lines) + "\n")
    page = performance_page(tmp_path)
    assert "| random | – | 35.45 ± 0.50 |" in page
    assert "rank correlation is +1.00" in page
    assert "| exact | −2.420 | 32.10 ± 0.12 |" in page


def test_what_there_is_not_is_not_shown(tmp_path: Path) -> None:
    page = performance_page(tmp_path)
    assert page.startswith("# Performance")
    assert "##" not in page
    (tmp_path / "selection.jsonl").write_text(line("ensemble", 5, 1.0) + "\n")
    assert "growth.png" not in performance_page(tmp_path)
