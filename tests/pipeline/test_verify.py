"""Making a table again and comparing: equal bytes, a changed digit, runs made anew."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nbformat
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from nbformat.v4 import new_code_cell, new_notebook

from vecaf_lib import settings
from vecaf_lib.errors import BadInput
from vecaf_lib.pipeline import execute
from vecaf_lib.pipeline.verify import _equal, compare, main, stage_arguments
from vecaf_lib.run_files import write_run

ROOT = Path(__file__).parents[2]
RUNS = Path("reports/made-up/runs/vecaf")
TABLE = Path("reports/made-up/tables/table6.csv")
MAKE_RUNS = """
from pathlib import Path
from vecaf_lib.run_files import write_run
for seed in seeds:
    path = Path(runs) / "vecaf" / f"s{seed}.json.gz"
    if not path.exists():
        content = {"value": 80.0 + seed, "provenance": {"code": {}}}
        write_run(path, content)
"""
MAKE_TABLES = """
from pathlib import Path
from vecaf_lib.run_files import read_run
found = sorted(Path(runs).glob("vecaf/*"))
values = {p.name.partition(".")[0]: read_run(p)["value"] for p in found}
Path(output).mkdir(parents=True)
lines = [f"table6/{name},{values[name]:.4f},vecaf/{name}.json.gz" for name in sorted(values)]
(Path(output) / "table6.csv").write_text("\\n".join(["cell,mean,runs", *lines]) + "\\n")
"""
STAGES = {
    "vars": [{"source": "copies"}, {"run": "python -m vecaf_lib.pipeline.execute"}],
    "stages": {
        "runs": {
            "cmd": "${run} ${source}/30_runs.ipynb reports/${item.profile}/30_runs.ipynb "
            "-s seeds=seeds -p runs=reports/${item.profile}/runs"
        },
        "tables": {
            "cmd": "${run} ${source}/40_tables.ipynb reports/${profile}/40_tables.ipynb "
            "-p runs=reports/${profile}/runs -p output=reports/${profile}/tables"
        },
        "odd": {"cmd": "${run} a.ipynb b.ipynb -p name=${item.method}"},
        "other": {"cmd": "echo"},
    },
}


def notebook(name: str, parameters: str, source: str) -> None:
    declared = new_code_cell(parameters, metadata={"tags": ["parameters"]})
    nbformat.write(new_notebook(cells=[declared, new_code_cell(source)]), Path("notebooks", name))


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project of two runs, whose table stands in the reports."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    stub = SimpleNamespace(model_dump=lambda mode: {"seeds": [0, 1]})
    monkeypatch.setattr(settings, "read", lambda path: stub)
    Path("params.yaml").write_text("profile: made-up\n")
    Path("dvc.yaml").write_text(yaml.safe_dump(STAGES))
    Path("notebooks").mkdir()
    notebook("30_runs.ipynb", "seeds = None\nruns = None", MAKE_RUNS)
    notebook("40_tables.ipynb", "runs = None\noutput = None", MAKE_TABLES)
    RUNS.mkdir(parents=True)
    for seed in (0, 1):
        content = {"value": 80.0 + seed, "provenance": {"code": {}}}
        write_run(RUNS / f"s{seed}.json.gz", content)
    TABLE.parent.mkdir()
    lines = [f"table6/s{seed},8{seed}.0000,vecaf/s{seed}.json.gz" for seed in (0, 1)]
    TABLE.write_text("\n".join(["cell,mean,runs", *lines]) + "\n")
    return tmp_path


def files(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_an_equal_table_and_one_with_a_changed_digit(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = files(project)
    main(["table6"])
    assert "table6/s0: equal\ntable6/s1: equal\n" in capsys.readouterr().out
    assert files(project) == before, "nothing but the scratch folder is written to"
    TABLE.write_text(TABLE.read_text().replace("81.0000", "81.0001"))
    with pytest.raises(SystemExit) as ended:
        main(["table6"])
    assert ended.value.code == 1
    told = capsys.readouterr().out
    assert "table6/s0: equal\n" in told
    assert "table6/s1: unequal: mean 81.0001 stored, 81.0000 made again" in told
    assert "1 equal, 1 unequal" in told


def test_runs_are_made_again(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(RUNS / "s1.json.gz", {"value": 99.0, "provenance": {"code": {"gone.py": "0"}}})
    before = files(project)
    with pytest.raises(SystemExit):
        main(["table6", "--retrain", "--runs", "1"])  # the second run is kept as it is
    told = capsys.readouterr().out
    assert "again 1 of the 2 runs behind table6, and 1 others, which are of other code" in told
    assert "table6/s1: unequal: mean 81.0000 stored, 99.0000 made again" in told
    assert files(project) == before


def test_all_runs_are_made_again_before_the_table(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    called = []

    def fake(arguments: list[str]) -> None:
        called.append(Path(arguments[0]).name)
        given_by_us = dict(word.split("=") for word in arguments[2:] if "=" in word)
        assert list(Path(given_by_us["runs"]).rglob("s*")) == []
        if "output" in given_by_us:
            table = Path(given_by_us["output"], "table6.csv")
            table.parent.mkdir()
            table.write_text(TABLE.read_text().replace("81.0000", "81.0004"))

    monkeypatch.setattr(execute, "main", fake)
    main(["table6.csv", "--retrain", "--tolerance", "0.001"])
    assert called == ["30_runs.ipynb", "40_tables.ipynb"]
    told = capsys.readouterr().out
    assert "making again 2 of the 2 runs behind table6\n" in told
    assert "2 equal, 0 unequal" in told


def test_what_cannot_be_done(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadInput, match="has no table 'table5'; did you mean 'table6'"):
        main(["table5"])
    for wrong in (["--runs", "1"], ["--retrain", "--runs", "0"]):
        with pytest.raises(BadInput, match="--runs is"):
            main(["table6", *wrong])
    for wrong in ("-1", "nan"):
        with pytest.raises(BadInput, match="--tolerance is"):
            main(["table6", f"--tolerance={wrong}"])
    TABLE.with_name("table4.csv").write_text("cell,gflops\na,1.0\n")
    with pytest.raises(BadInput, match="names no runs"):
        main(["table4", "--retrain"])
    monkeypatch.setattr(execute, "main", lambda arguments: None)
    with pytest.raises(BadInput, match=r"made no table4\.csv"):
        main(["table4"])


def test_arguments_are_those_of_the_stage(project: Path) -> None:
    given_by_us = {"output": "x/tables", "notebook": "x/40.ipynb"}
    assert stage_arguments("tables", "smoke", given_by_us) == [
        "notebooks/40_tables.ipynb",
        "x/40.ipynb",
        *("-p", "runs=reports/smoke/runs", "-p", "output=x/tables"),
    ]
    for name, replaced, words in [
        ("nothing", {}, "has no stage 'nothing'"),
        ("odd", {}, "placeholder that is not known"),
        ("other", {}, "does not call vecaf_lib.pipeline.execute"),
        ("tables", {"seeds": "x"}, "passes no parameter seeds by -p"),
        ("runs", {"seeds": "x"}, "passes no parameter seeds by -p"),
    ]:
        with pytest.raises(BadInput, match=words):
            stage_arguments(name, "smoke", {"notebook": "x", **replaced})
    Path("dvc.yaml").unlink()
    with pytest.raises(BadInput, match="has no stage"):
        stage_arguments("tables", "smoke", {})


def test_the_projects_own_stages_can_be_called(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    runs = stage_arguments("runs", "smoke", {"runs": "x/runs", "notebook": "x/30.ipynb"})
    tables = stage_arguments(
        "tables", "smoke", {"runs": "x/runs", "output": "x/tables", "notebook": "x/40.ipynb"}
    )
    assert runs[:2] == ["notebooks/30_runs.ipynb", "x/30.ipynb"]
    assert tables[:2] == ["notebooks/40_tables.ipynb", "x/40.ipynb"]
    for arguments in (runs, tables):
        written = [word for word in arguments if word.startswith(("runs=", "output="))]
        assert all(word.partition("=")[2].startswith("x/") for word in written)


def told(tmp_path: Path, old: list[str], new: list[str], tolerance: float = 0.0) -> dict[str, Any]:
    paths = [tmp_path / "old.csv", tmp_path / "new.csv"]
    for path, lines in zip(paths, (old, new), strict=True):
        path.write_text("\n".join(lines) + "\n")
    return dict(compare(*paths, tolerance))


def test_rows_and_columns_that_differ(tmp_path: Path) -> None:
    old = ["cell,n,mean", "a,3,1.0000", "b,3,"]
    assert told(tmp_path, old, old) == {"a": [], "b": []}
    assert told(tmp_path, old, ["cell,n,mean", "b,3,", "a,3,1.0000"])["order"]
    assert told(tmp_path, old, [*old, "c,3,2.0000"])["c"] == ["made again, not stored"]
    assert told(tmp_path, old, old[:2])["b"] == ["not made again"]
    assert told(tmp_path, old, ["cell,mean", "a,1.0000", "b,"])["columns"]
    assert told(tmp_path, old, ["cell,n,mean", "a,3,1.0000", "b,3,2.0"], 9.0)["b"] == [
        "mean empty stored, 2.0 made again"
    ]
    assert told(tmp_path, old, ["cell,n,mean", "a,4,1.0000", "b,3,"], 9.0)["a"]  # n is exact
    batches = ["method,mean", "vecaf,3.0"]
    assert told(tmp_path, batches, batches) == {"row 1": []}
    assert told(tmp_path, ["id,verdict", "x,a"], ["id,verdict", "x,b"])["x"]


@given(st.floats(0, 100), st.floats(0, 100), st.floats(0, 10))
def test_numbers_are_equal_within_the_tolerance(a: float, b: float, tolerance: float) -> None:
    first, second = f"{a:.4f}", f"{b:.4f}"
    away = abs(float(first) - float(second))
    if tolerance == 0:
        assert _equal(first, second, 0.0) == (first == second)
    elif abs(away - tolerance) > 1e-6:
        assert _equal(first, second, tolerance) == (away < tolerance)


def test_equal_means_equal_as_written(tmp_path: Path) -> None:
    assert told(tmp_path, ["cell,mean", "a,3.10"], ["cell,mean", "a,3.1"])["a"]
