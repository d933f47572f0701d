"""What the benchmarks make of their measurements."""

import importlib.metadata
import importlib.util
import json
import signal
from pathlib import Path
from types import ModuleType

import matplotlib.pyplot as plt
import numpy as np
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


@pytest.fixture
def script(tmp_path, monkeypatch):
    """The benchmark of selection, with a page of its own to write to."""
    module = load("selection")
    monkeypatch.setattr(module, "DOCS", tmp_path / "PAGE.md")
    monkeypatch.setattr(module, "OUT", tmp_path)
    monkeypatch.setattr(plt, "rcParams", plt.rcParams.copy())
    module.DOCS.write_text(f"before\n{module.BEGIN}\nold\n{module.END}\nafter\n")
    return module


CELL = {"pool": "clustered-300", "k": 15, "threads": 1, "on": "cpu", "steps": 300, "seeds": [0, 1]}
CELL |= {"limit": 60.0}


@pytest.fixture
def settled(script, monkeypatch):
    """Limits of this process stay as they are; those that were asked for come in a list."""
    limits: list[tuple[int, float]] = []
    monkeypatch.setattr(script.signal, "setitimer", lambda *limit: limits.append(limit))
    monkeypatch.setattr(script.resource, "setrlimit", lambda *limit: None)
    return limits


@pytest.mark.parametrize("way", ["random", "ods"])
def test_scores_are_those_of_plain_loops(way, script, settled, capsys):
    script.measure(CELL | {"way": way})
    first, second = map(json.loads, capsys.readouterr().out.splitlines())
    assert settled == 2 * [(signal.ITIMER_REAL, 60.0), (signal.ITIMER_REAL, 0)]
    task = script.replace(script.task_of(CELL), record={})
    rows = task.x[np.asarray(script.WAYS[way].choose(task))].astype(float)
    largest = [max(float(x @ row) for row in rows) for x in task.x.astype(float)]
    assert first["coverage"] == pytest.approx(np.mean(largest), abs=1e-6)
    crowds = [
        np.log(sum(np.exp(one @ other / 0.07) for j, other in enumerate(rows) if j != i))
        for i, one in enumerate(rows)
    ]
    assert first["objective"] == pytest.approx(np.mean(crowds) - np.mean(largest) / 0.07, abs=1e-4)
    assert first["coverage"] != second["coverage"]
    assert first["pass_seconds"] > 0


def test_a_shorter_dense_descent_is_scaled_and_not_scored(script, settled, capsys):
    script.measure(CELL | {"way": "dense", "steps": 3, "seeds": [0]})
    line = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert line["note"] == "3 steps, scaled"
    assert "coverage" not in line


def test_no_row_stands_for_two_centres(script):
    x = normalize(torch.randn(80, 3, generator=seeded(0)), dim=1).numpy()
    centres = np.repeat(x[:20], 4, axis=0)[:70]
    expected: list[int] = []
    for centre in centres:
        left = [i for i in range(len(x)) if i not in expected]
        expected.append(max(left, key=lambda i: float(x[i] @ centre)))
    assert script.representatives(x, centres).tolist() == expected


@pytest.mark.parametrize(
    ("child", "note"),
    [
        ("signal.setitimer(signal.ITIMER_REAL, 0.1); time.sleep(60)", "over 60 s"),
        ("raise MemoryError('too large')", "MemoryError: too large"),
    ],
)
def test_what_a_process_could_not_do_is_its_row(child, note, script, tmp_path, monkeypatch):
    file = tmp_path / "child.py"
    file.write_text(f"import signal, time\nprint('{{\"n\": 5}}', flush=True)\n{child}\n")
    monkeypatch.setattr(script, "__file__", str(file))
    first, second = script.watch(CELL)
    assert first == {"seed": 0, "n": 5}
    assert second == {"seed": 1, "note": note} | ({"limit": 60} if "over" in note else {})


def test_only_what_is_missing_is_measured(script, tmp_path, monkeypatch, capsys):
    """Faiss is too slow here, for fewer threads, too, until it may take longer; one is absent."""
    asked: list[tuple[str, int, float]] = []

    def watch(cell):
        limit = cell["limit"]
        asked.append((cell["way"], cell["threads"], limit))
        if cell["way"] == "ods" or limit > 10:
            return [{"seed": 0, "seconds": 2.0, "cpu_seconds": 4.0, "coverage": 0.5, "n": 300}]
        return [{"seed": 0, "note": f"over {limit:g} s", "limit": limit}]

    own = {"processor": "P", "features": "avx2", "cores": 2, "load": 0.1, "torch": "2"}
    monkeypatch.setattr(script, "machine", lambda: own | {"commit": "abc", "date": "2026-01-01"})
    monkeypatch.setattr(script, "watch", watch)
    absent = script.Way("other", script.at_random, "no-such-package")
    monkeypatch.setitem(script.WAYS, "mundig", absent)
    versions = {"faiss-cpu": "1", "torch": "2"}
    monkeypatch.setattr(script.importlib.metadata, "version", lambda name: found(versions, name))
    arguments = ["selection.py", "--out", str(tmp_path), "--threads", "2", "1"]
    arguments += ["--pools", "clustered-5000", "--ways", "ods", "faiss", "mundig", "--limit"]
    for limit in ("10", "10", "20"):
        monkeypatch.setattr("sys.argv", [*arguments, limit])
        script.main()
    assert asked == [
        *(("ods", 2, 10.0), ("faiss", 2, 10.0), ("ods", 1, 10.0)),
        *(("faiss", 2, 20.0), ("faiss", 1, 20.0)),
    ]
    table = pd.read_csv(tmp_path / "selection.csv").set_index(["way", "threads"])
    assert table.loc[("mundig", 1), "note"] == "no-such-package is not installed"
    assert "no-such-package is not installed" in capsys.readouterr().out


def found(versions: dict[str, str], name: str) -> str:
    if name not in versions:
        raise importlib.metadata.PackageNotFoundError(name)
    return versions[name]


def line(way: str, seconds: float, **more) -> dict:
    values = {"processor": "P", "device": "cpu", "pool": "cifar10", "threads": 2, "way": way}
    values |= {"features": "avx2", "cores": 2, "load": 0.1, "torch": "2", "date": "2026-01-01"}
    values |= {"n": 1000, "k": 500, "seed": 0, "commit": "new", "pass_seconds": 0.5}
    values |= {"seconds": seconds, "cpu_seconds": 2 * seconds, "peak_mib": 10.0, "objective": -1.0}
    return values | {"coverage": 0.7, "accuracy": 60.0} | more


def test_table_picture_and_page_come_from_the_latest_lines(script, tmp_path):
    lines = [
        line("kmeans", 100.0, commit="old"),
        *(line("kmeans", s, seed=s, accuracy=60.0 + s, coverage=0.7 + s) for s in (1, 2, 9)),
        line("faiss", 6.0),
        line("faiss", 60.0, processor="Q"),
        line("random", 0.1, coverage=0.6),
    ]
    (tmp_path / "selection.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines))
    script.show(tmp_path)
    table = pd.read_csv(tmp_path / "selection.csv").set_index(["processor", "way"])
    own = table.loc[("P", "kmeans")]
    assert own[["seconds", "seeds", "passes", "faiss_over_this"]].tolist() == [2, 3, 4, 3]
    assert own["accuracy"] == pytest.approx(64)
    assert own["standard_error"] == pytest.approx(np.std([1, 2, 9], ddof=1) / 3**0.5)
    assert (tmp_path / "selection.png").stat().st_size > 10_000
    page = script.DOCS.read_text()
    assert page.startswith(f"before\n{script.BEGIN}\nP (avx2), 2 of 2 cores")
    assert "\n| ours, k-means | 2 s (3 x) · 4.700 · 10 MiB · 64.0 ± 2.5 % |\n" in page
    assert page.endswith(f"{script.END}\nafter\n")
    script.show(tmp_path)
    assert script.DOCS.read_text() == page


@pytest.mark.parametrize("method", ["activeft", "vecaf"])
def test_settings_that_choose_otherwise_than_the_exact_descent_are_told(method, monkeypatch):
    """The exact ones agree with themselves; a fortieth of the steps does not."""
    script = load("descent_agreement")
    monkeypatch.setattr(script, "SHORTER", ())
    e = normalize(torch.randn(150, 8, generator=seeded(0)), dim=1)
    losses = torch.rand(150, generator=seeded(1)) ** 4
    options = {"tau": 0.07} | ({} if method == "activeft" else {"lambda_": 0.1, "loss_power": 1.0})
    exact = script.compare(options | script.EXACT, e, losses, 20, 2)
    assert exact.loc["the profile's", "overlap"] == exact.loc["exact", "overlap"] == 1
    assert exact.loc["another start", "overlap"] < script.OVERLAP
    assert script.missed(exact) == []
    short = {"iterations": 4, "learning_rate": 7.5e-2, "tolerance": 0.0}
    faults = script.missed(script.compare(options | short, e, losses, 20, 2))
    assert faults[0].startswith("overlap is 0.")
    assert faults[0].endswith("the limit is 0.90.")
