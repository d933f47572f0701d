"""Tracing on a small made-up reports folder: what is told of a number, and when it complains."""

import hashlib
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nbformat
import pandas as pd
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from vecaf_lib.errors import BadInput
from vecaf_lib.pipeline import trace as module
from vecaf_lib.pipeline.store import RunSpec, RunStore
from vecaf_lib.pipeline.trace import active_profile, main, trace
from vecaf_lib.report.claims import COLUMNS
from vecaf_lib.report.claims import to_csv as ledger_to_csv
from vecaf_lib.report.tables import to_csv
from vecaf_lib.run_files import read_run, write_run

CELL = "table1/vecaf/multi/r5"
CODE = "vecaf_lib/loop.py"


def claim(id: str, cells: str) -> dict[str, Any]:
    words = dict.fromkeys(COLUMNS, "")
    numbers = {name: float("nan") for name in COLUMNS if name.startswith(("paper_", "our_"))}
    told = {"id": id, "statement": "More is better.", "where": "table 1", "cells": cells}
    told |= {"verdict": "direction only", "rule": "4: 1 of 1", "unit": "points", "n": None}
    return words | numbers | told | {"our_value": 2.0, "our_low": 1.0, "our_high": 3.0}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with one cell of two runs, a table of batches, a ledger and two notebooks."""
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text("profile: made-up\n")
    Path("vecaf_lib").mkdir()
    Path(CODE).write_text("loop = 1\n")
    reports = tmp_path / "reports" / "made-up"
    store = RunStore(reports / "runs")
    provenance = {
        "settings": {"training": {"steps": 36}},
        "inputs": {"vision weights": "abc123", "text embeddings": "def456"},
        "versions": {"torch": "2.13.0"},
        "code": {CODE: hashlib.sha256(b"loop = 1\n").hexdigest()},
        "digest": "0123",
    }
    files = []
    for seed, accuracy in enumerate((80.0, 82.0)):
        spec = RunSpec("digits", "vecaf", True, 5.0, 3, seed)
        points = [{"step": step, "validation_accuracy": 10.0 * step} for step in (3, 6)]
        domains = {"snow": {"mean": accuracy - 50}}
        result = {"test_accuracy": accuracy, "curve": points, "domains": domains}
        store.save(spec, result, provenance)
        files.append(str(spec.path(store.root).relative_to(store.root)))
    line = {"cell": CELL, "n": 2, "mean": 81.0, "standard_error": 1.0, "runs": " ".join(files)}
    snow = {"cell": "table3/vecaf/snow/mean", "domain": "snow", "severity": "mean", "mean": 31.0}
    batches = {"method": "vecaf", "target": 50.0, "n": 2, "mean": 6.0, "reached": 2}
    cost = {"cell": "table4/vecaf/CEA", "part": "CEA", "variant": "vecaf", "gflops": 12.5}
    to_csv(pd.DataFrame([line]), reports / "tables" / "table1.csv")
    to_csv(pd.DataFrame([{**line, **snow}]), reports / "tables" / "table3.csv")
    to_csv(pd.DataFrame([cost]), reports / "tables" / "table4.csv")
    to_csv(pd.DataFrame([batches | {"runs": line["runs"]}]), reports / "tables" / "batches.csv")
    ledger = [claim("claims/ahead", CELL), claim("claims/nothing", "")]
    rows = pd.DataFrame(ledger, columns=COLUMNS).astype({"n": "Int64"})
    ledger_to_csv(rows, reports / "tables" / "claims.csv")
    notebooks = reports / "notebooks"
    notebooks.mkdir()
    first = [new_markdown_cell("# make_runs(", id="a"), new_code_cell("make_runs(jobs)", id="b")]
    second = [new_code_cell('to_csv(first, "table1.csv")', id="c", execution_count=4)]
    nbformat.write(new_notebook(cells=first), notebooks / "30_runs.ipynb")
    nbformat.write(new_notebook(cells=second), notebooks / "40_tables.ipynb")
    return reports


def told(id: str, profile: str = "made-up") -> str:
    return "\n".join(trace(id, profile))


def test_a_cell(folder: Path) -> None:
    text = told(CELL)
    stored = read_run(folder / "runs/vecaf/multi-r5-l3-s1.json.gz")
    assert f"{CELL}: 81.0000 ± 1.0000, n = 2" in text
    assert "table: reports/made-up/tables/table1.csv" in text
    assert "run: reports/made-up/runs/vecaf/multi-r5-l3-s0.json.gz" in text
    assert "seed 1, test accuracy 82.0000 %" in text
    assert "digest 0123" in text
    assert f"checksum {stored['checksum']}, verified" in text
    assert text.count("steps: 36") == 1
    assert "vision weights: abc123" in text
    assert "torch: 2.13.0" in text
    assert "code: 1 files, all as in the working tree" in text
    assert "30_runs.ipynb, cell 2 (id b, In [None]) makes the runs" in text
    assert "40_tables.ipynb, cell 1 (id c, In [4]) writes table1.csv" in text
    assert text.endswith("not a git checkout")


def test_other_tables() -> None:
    assert "seed 0, 30.0000 % in the domain" in told("table3/vecaf/snow/mean")
    assert "40_tables.ipynb, no cell says that it writes table3.csv" in told(
        "table3/vecaf/snow/mean"
    )
    assert "seed 0, 6 batches" in told("batches/vecaf/50")
    cost = told("table4/vecaf/CEA")
    assert "12.5000" in cost
    assert "none stand behind" in cost


def test_code_that_changed_or_went(folder: Path) -> None:
    Path(CODE).write_text("loop = 2\n")
    assert f"1 of 1 files no longer agree with the working tree:\n  {CODE}\n" in told(CELL)
    Path(CODE).unlink()
    assert f"  {CODE} (gone)" in told(CELL)


def test_runs_that_differ_are_said_to(folder: Path) -> None:
    store = RunStore(folder / "runs")
    spec = RunSpec("digits", "vecaf", True, 5.0, 3, 1)
    content = store.load(spec)
    other = content["provenance"] | {"versions": {"torch": "2.12.0"}}
    store.save(spec, content["result"], other)
    text = told(CELL)
    assert "versions: differ between these runs" in text
    assert "settings: differ" not in text


def test_damaged_and_missing_runs(folder: Path) -> None:
    path = folder / "runs/vecaf/multi-r5-l3-s1.json.gz"
    whole = read_run(path)
    write_run(path, whole | {"result": whole["result"] | {"test_accuracy": 83.0}})
    with pytest.raises(BadInput, match="checksum does not fit"):
        told(CELL)
    write_run(path, {"run": {"seed": 1}})
    with pytest.raises(BadInput, match="names no run"):
        told(CELL)
    path.unlink()
    with pytest.raises(BadInput, match="is missing"):
        told(CELL)


def test_a_claim_leads_to_its_cells(folder: Path) -> None:
    text = told("claims/ahead")
    assert text.startswith("claims/ahead\n  More is better. (table 1)\n  direction only; rule 4")
    assert "ours: 2 [1, 3] points" in text
    assert f"{CELL}: 81.0000" in text
    assert "no cell of ours" in told("claims/nothing")
    with pytest.raises(BadInput, match="no claim 'claims/ahaed'; near ones are claims/ahead"):
        told("claims/ahaed")
    (folder / "tables/claims.csv").unlink()
    with pytest.raises(BadInput, match=r"no claims\.csv"):
        told("claims/ahead")


def test_unknown_ids(folder: Path) -> None:
    with pytest.raises(BadInput) as complaint:
        told("table1/vecaf/multi/r2")
    assert str(complaint.value).startswith(
        "There is no cell 'table1/vecaf/multi/r2'; near ones are table1/vecaf/multi/r5"
    )
    with pytest.raises(BadInput, match=r"reports/other/tables has no tables"):
        told(CELL, "other")


def test_missing_notebooks(folder: Path) -> None:
    (folder / "notebooks/30_runs.ipynb").unlink()
    assert "30_runs.ipynb is missing" in told(CELL)


@pytest.mark.parametrize(
    ("status", "words"), [("", "commit 1234abc, clean"), (" M a\n?? b\n", "1234abc, 2 changes")]
)
def test_git(monkeypatch: pytest.MonkeyPatch, status: str, words: str) -> None:
    answers: dict[str, str] = {"rev-parse": "1234abc\n", "status": status}

    def run(command: list[str], **_: Any) -> SimpleNamespace:
        return SimpleNamespace(returncode=0, stdout=answers[command[1]])

    monkeypatch.setattr(module.subprocess, "run", run)
    assert told(CELL).endswith(words)


def test_without_git(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*_: Any, **__: Any) -> subprocess.CompletedProcess[str]:
        raise FileNotFoundError("git")

    monkeypatch.setattr(module.subprocess, "run", run)
    assert told(CELL).endswith("not a git checkout")


def test_the_command_line(
    capsys: pytest.CaptureFixture[str], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    main([CELL])
    active = capsys.readouterr().out
    folder.rename(folder.with_name("other"))
    main([CELL, "--profile", "other"])
    assert capsys.readouterr().out == active.replace("made-up", "other")
    Path("params.yaml").write_text("seeds: [0]\n")
    with pytest.raises(BadInput, match="names no profile"):
        active_profile()
    Path("params.yaml").unlink()
    with pytest.raises(BadInput, match="is missing"):
        main([CELL])
