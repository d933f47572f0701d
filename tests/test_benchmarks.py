"""What the benchmarks make of their measurements: the latest of a kind counts."""

import importlib.util
import json
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
import pytest

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "selection_scale.py"


def line(measurement: str, n: int, seconds: float, k: int = 1000) -> dict:
    values = {"measurement": measurement, "n": n, "k": k, "seconds": seconds, "ensemble": 1}
    values |= {"peak_gib": 1.5, "gflops": 2e-8 * n * k * 768 / seconds, "commit": "abc1234"}
    return values | {"d": 768}  # one pass: a tenth of the seconds


def test_exponents_of_growth_are_those_of_the_data(tmp_path, monkeypatch):
    spec = importlib.util.spec_from_file_location("selection_scale", SCRIPT)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    monkeypatch.setattr(script, "PLACE", tmp_path / "selection.jsonl")
    monkeypatch.setattr(plt, "rcParams", plt.rcParams.copy())
    lines = [line("growth, K = 1,000", n, 2e-3 * n) for n in (1000, 10_000, 100_000)]
    lines += [line("growth, K = 1 %", n, 1e-6 * n**2, n // 100) for n in (1000, 10_000)]
    lines += [line("member", 100_000, 1.0), line("member", 100_000, 1e4)]
    script.show(pd.DataFrame(map(json.loads, map(json.dumps, lines))))
    legends = [t.get_text() for a in plt.gcf().axes for t in a.get_legend().get_texts()]
    plt.close()
    assert [text.split("{")[1][:4] for text in legends] == ["1.00", "1.00", "2.00", "2.00"]
    table = pd.read_csv(tmp_path / "scale.csv")
    assert len(table) == 6
    assert table.set_index("measurement").loc["member", "one_pass_seconds"] == pytest.approx(1e3)
    assert (tmp_path / "growth.png").is_file()
