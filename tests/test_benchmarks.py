"""What the benchmarks make of their measurements."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import matplotlib.pyplot as plt
import pandas as pd
import pytest
import torch
from small import seeded
from torch.nn.functional import normalize

SCRIPTS = Path(__file__).parents[1] / "benchmarks"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, SCRIPTS / f"{name}.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    return script


def line(measurement: str, n: int, seconds: float, k: int = 1000) -> dict:
    values = {"measurement": measurement, "n": n, "k": k, "seconds": seconds, "ensemble": 1}
    values |= {"peak_gib": 1.5, "gflops": 2e-8 * n * k * 768 / seconds, "commit": "abc1234"}
    return values | {"d": 768}  # one pass: a tenth of the seconds


def test_exponents_of_growth_are_those_of_the_data(tmp_path, monkeypatch):
    """The latest measurement of a kind counts."""
    script = load("selection_scale")
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


@pytest.mark.parametrize("method", ["activeft", "vecaf"])
def test_settings_that_choose_otherwise_than_the_exact_descent_are_told(method, monkeypatch):
    """The exact ones agree with themselves; assignments that are kept for all steps do not."""
    script = load("descent_agreement")
    monkeypatch.setattr(script, "SHORTER", ())
    e = normalize(torch.randn(150, 8, generator=seeded(0)), dim=1)
    losses = torch.rand(150, generator=seeded(1)) ** 4
    options = {"tau": 0.07} | ({} if method == "activeft" else {"lambda_": 0.1, "loss_power": 1.0})
    exact = script.compare(options | script.EXACT, e, losses, 20, 2)
    assert exact.loc["the profile's", "overlap"] == exact.loc["exact", "overlap"] == 1
    assert exact.loc["another start", "overlap"] < script.OVERLAP
    assert script.missed(exact) == []
    held = {"iterations": 40, "learning_rate": 7.5e-3, "reassign_every": 40, "tolerance": 0.0}
    faults = script.missed(script.compare(options | held, e, losses, 20, 2))
    assert faults[0].startswith("overlap is 0.")
    assert faults[0].endswith("the limit is 0.90.")
