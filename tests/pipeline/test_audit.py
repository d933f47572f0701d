"""Tracing and verifying in a small made-up project: where a number comes from, and again."""

import re
import subprocess
from io import StringIO
from pathlib import Path
from typing import Any

import nbformat
import pandas as pd
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from vecaf_lib.cli import main
from vecaf_lib.errors import BadInput
from vecaf_lib.files import read_run, write_json, write_run
from vecaf_lib.pipeline import audit
from vecaf_lib.pipeline.provenance import code_digests
from vecaf_lib.results.runs import Run, RunStore

ROOT = Path(__file__).parents[2]
CELL = "table1/vecaf/multi/r5"
LOOP = "vecaf_lib.loop"


def save(folder: Path, seed: int, **changes: Any) -> str:
    """Store a run and return its file."""
    provenance = {
        "settings": {"training": {"steps": 36}},
        "inputs": {"vision weights": "abc123"},
        "versions": {"torch": "2.13.0"},
        "code": code_digests([LOOP]),
        "digest": "0123",
    }
    run, accuracy = Run("digits", "vecaf", True, 5.0, 3, seed), 80.0 + 2 * seed
    result = {"test_accuracy": accuracy, "domains": {"snow": {"mean": accuracy - 50, "1": 40.0}}}
    RunStore(folder / "runs").save(run, result, provenance | changes)
    return run.file


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Reports with cells of two runs, claims and two notebooks, in a project."""
    monkeypatch.chdir(tmp_path)
    for name in ("params.yaml", "dvc.yaml"):
        Path(name).touch()
    reports = tmp_path / "reports" / "made-up"
    runs = " ".join(save(reports, seed) for seed in (0, 1))
    own = {"cell": CELL, "n": 2, "mean": 81.0, "standard_error": 1.0, "runs": runs}
    snow = own | {"cell": "table3/snow", "domain": "snow", "severity": "1"}
    cost = {"cell": "table4/vecaf/CEA", "gflops": 12.5}
    claims = {
        "id": ["claims/ahead", "claims/nothing"],
        "verdict": ["yes", "no"],
        "cells": [CELL, ""],
    }
    for name, row in {"table1": own, "table3": snow, "table4": cost}.items():
        path = reports / "tables" / f"{name}.csv"
        path.parent.mkdir(exist_ok=True)
        pd.DataFrame([row]).to_csv(path, index=False)
    (reports / "claims").mkdir()
    pd.DataFrame(claims).to_csv(reports / "claims" / "claims.csv", index=False)
    cells = {
        "30_runs": [new_markdown_cell("make_runs("), new_code_cell("make_runs(jobs)")],
        "40_tables": [new_code_cell('write_table(first, "table1.csv")', execution_count=4)],
    }
    (reports / "notebooks").mkdir()
    for name, parts in cells.items():
        nbformat.write(new_notebook(cells=parts), reports / "notebooks" / f"{name}.ipynb")
    return reports


def text_of(id: str, folder: Path) -> str:
    return "\n".join(audit.trace(id, folder))


def test_a_cell_leads_to_its_runs_their_code_and_inputs_and_its_notebook(folder: Path) -> None:
    text = text_of(CELL, folder)
    stored = read_run(folder / "runs/vecaf/multi-r5-l3-s1.json.gz")
    for part in (
        f"{CELL}: n 2, mean 81.0, standard_error 1.0\n",
        "tables/table1.csv",
        "vecaf/multi-r5-l3-s0.json.gz: seed 0, accuracy 80.0000 % on test images",
        "seed 1, accuracy 82.0000 %",
        f"digest 0123; checksum {stored['checksum']}, verified",
        "vision weights: abc123",
        "torch: 2.13.0",
        "code not as in the working tree: none",
        "30_runs.ipynb, cell 2, In [None], makes the runs",
        "40_tables.ipynb, cell 1, In [4], makes table1.csv",
    ):
        assert part in text
    assert text.count("steps: 36") == 1


def test_other_tables_and_claims(folder: Path) -> None:
    assert "seed 0, accuracy 40.0000 % on snow images" in text_of("table3/snow", folder)
    assert "gflops 12.5" in text_of("table4/vecaf/CEA", folder)
    claim = text_of("claims/ahead", folder)
    assert claim.startswith("claims/ahead: verdict yes\n")
    assert f"\n{CELL}: n 2, mean 81.0" in claim
    assert "run:" not in text_of("claims/nothing", folder)
    for unknown in ("table1/vecaf/multi/r2", "claims/ahaed"):
        with pytest.raises(BadInput, match=f"'{unknown}'; did you mean"):
            text_of(unknown, folder)


def test_runs_of_other_code_and_runs_that_differ(folder: Path) -> None:
    save(folder, 0, code={LOOP: "0", "vecaf_lib.gone": "1"})
    save(folder, 1, versions={"torch": "2.12.0"})
    text = text_of(CELL, folder)
    assert f"code not as in the working tree: vecaf_lib.gone, {LOOP}" in text
    assert "versions differ between these runs" in text
    assert "settings differ" not in text


def test_damaged_and_missing_runs(folder: Path) -> None:
    path = folder / "runs/vecaf/multi-r5-l3-s1.json.gz"
    whole = read_run(path)
    for content, sentence in (
        (whole | {"result": whole["result"] | {"test_accuracy": 83.0}}, "does not fit"),
        ({"run": {"seed": 1}}, "names no run"),
    ):
        write_run(path, content)
        with pytest.raises(BadInput, match=sentence):
            text_of(CELL, folder)
    path.unlink()
    with pytest.raises(BadInput, match="is missing"):
        text_of(CELL, folder)


def test_the_command_ends_with_the_state_of_the_checkout(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["trace", CELL, "--profile", "made-up"])
    assert capsys.readouterr().out.endswith("working tree: no git checkout\n")
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
    for words in (["init"], ["add", "."], ["commit", "-m", "all"]):
        subprocess.run([*git, *words], check=True, capture_output=True)
    for content, end in (("", ""), ("changed", "-dirty")):
        Path("dvc.yaml").write_text(content)
        main(["trace", CELL, "--profile", "made-up"])
        assert re.search(f"working tree: [0-9a-f]{{40}}{end}\n$", capsys.readouterr().out)


REPORTS = Path("reports/made-up")
TABLE = REPORTS / "tables/table6.csv"
MAKE_RUNS = """
from vecaf_lib.pipeline.project import Project
from vecaf_lib.files import write_run
for seed in (0, 1):
    path = Project.find().path(output) / "vecaf" / f"s{seed}.json.gz"
    if output == runs and not path.exists():
        write_run(path, {"value": 80.0 + seed})
"""
MAKE_TABLES = """
from vecaf_lib.pipeline.project import Project
from vecaf_lib.files import read_run
project = Project.find()
files = sorted(project.path(runs).glob("vecaf/*"))
lines = [f"table6/{p.name[:2]},{read_run(p)['value']:.4f},vecaf/{p.name}" for p in files]
project.path(output).mkdir(parents=True, exist_ok=True)
(project.path(output) / "table6.csv").write_text("\\n".join(["cell,mean,runs", *lines]) + "\\n")
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project of two runs, whose table stands in the reports; the stages are the real ones."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("VECAF_SETTINGS", "data/generated/settings")
    monkeypatch.setattr(
        audit, "write_sections", lambda _, folder: write_json(folder / "profile.json", "made-up")
    )
    write_json(tmp_path / "data/generated/settings/profile.json", "made-up")
    Path("params.yaml").touch()
    Path("dvc.yaml").write_text((ROOT / "dvc.yaml").read_text())
    Path("notebooks").mkdir()
    for name, source in {"30_runs": MAKE_RUNS, "40_tables": MAKE_TABLES}.items():
        parameters = 'runs = "reports/{profile}/runs"\noutput = ""\nmetrics = ""'
        tagged = new_code_cell(parameters, metadata={"tags": ["parameters"]})
        cells = [tagged, new_code_cell(source)]
        nbformat.write(new_notebook(cells=cells), f"notebooks/{name}.ipynb")
    for seed in (0, 1):
        write_run(REPORTS / f"runs/vecaf/s{seed}.json.gz", {"value": 80.0 + seed})
    TABLE.parent.mkdir()
    lines = [f"table6/s{seed},8{seed}.0000,vecaf/s{seed}.json.gz" for seed in (0, 1)]
    TABLE.write_text("\n".join(["cell,mean,runs", *lines]) + "\n")
    return tmp_path


def files(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_a_table_that_is_the_same_and_one_with_a_changed_digit(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = files(project)
    main(["verify", "table6"])
    assert "table6.csv is the same" in capsys.readouterr().out
    assert files(project) == before, "nothing but the scratch folder is written to"
    TABLE.write_text(TABLE.read_text().replace("81.0000", "81.0001"))
    with pytest.raises(SystemExit, match=r"not the same, in: table6/s1\."):
        main(["verify", "table6"])
    main(["verify", "table6", "--tolerance", "0.0001"])
    assert "is the same to within 0.0001, made again" in capsys.readouterr().out
    with pytest.raises(SystemExit, match=r"tolerance is -1\.0; give 0 or more"):
        main(["verify", "table6", "--tolerance", "-1"])
    with pytest.raises(SystemExit, match="no table 'table5'; did you mean 'table6'"):
        main(["verify", "table5"])


def test_runs_are_made_again(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(REPORTS / "runs/vecaf/s0.json.gz", {"value": 99.0})
    write_run(REPORTS / "runs/vecaf/s1.json.gz", {"value": 99.0})
    before = files(project)
    with pytest.raises(SystemExit, match=r"in: table6/s1\."):
        main(["verify", "table6", "--retrain", "1"])  # the second run is kept as it is
    main(["verify", "table6", "--retrain"])
    assert "making 2 runs again" in capsys.readouterr().out
    assert files(project) == before


@pytest.mark.parametrize(
    ("text", "cells", "near"),
    [
        ("cell,n,mean\na,3,1.0000\nb,3,\n", [], []),
        ("cell,n,mean\nb,3,\na,3,1.0000\n", ["order of the rows"], ["order of the rows"]),
        ("cell,n,mean\na,3,1.0000\n", ["b"], ["b"]),
        ("cell,mean\na,1.0000\nb,\n", ["a", "b"], ["a", "b"]),
        ("cell,n,mean\na,3,1.000\nb,3,2.0\n", ["a", "b"], ["b"]),  # as written, not as numbers
        ("cell,n,mean\na,4,1.0000\nb,3,\n", ["a"], ["a"]),  # whole numbers are counts
        ("cell,n,mean\na,3,1.2500\nb,3,\n", ["a"], []),
        ("cell,n,mean\na,3,0.7499\nb,3,\n", ["a"], ["a"]),
    ],
    ids=["same", "order", "row", "column", "numbers", "count", "near", "far"],
)
def test_tables_that_differ(text: str, cells: list[str], near: list[str]) -> None:
    old, new = (
        pd.read_csv(StringIO(table), dtype=str, keep_default_na=False)
        for table in ("cell,n,mean\na,3,1.0000\nb,3,\n", text)
    )
    assert audit.compare(old, new) == cells
    assert audit.compare(old, new, tolerance=0.25) == near
