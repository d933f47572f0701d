"""Notebooks run as stages: same bytes each time, clear sentences, bars on the terminal only."""

import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nbformat
import psutil
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from vecaf_lib import settings
from vecaf_lib.errors import BadInput
from vecaf_lib.pipeline import progress
from vecaf_lib.pipeline.execute import CellFailed, execute, main, section

ROOT = Path(__file__).parents[2]
SETTINGS = {"training": {"steps": 60, "learning_rate": 0.001}, "methods": {"vecaf": {"cea": None}}}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to run in, with stub settings; kernels find the package."""
    stub = SimpleNamespace(model_dump=lambda mode: SETTINGS)
    monkeypatch.setattr(settings, "read", lambda path: stub)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(*cells: str, parameters: str = "training = None") -> Path:
    """Write a notebook whose first cell declares the parameters."""
    declared = new_code_cell(parameters, metadata={"tags": ["parameters"]})
    path = Path("runs.ipynb")
    nbformat.write(new_notebook(cells=[declared, *map(new_code_cell, cells)]), path)
    return path


def outputs(path: Path) -> str:
    """All text that the cells printed or returned."""
    cells: list[Any] = nbformat.read(path, as_version=4).cells
    found = [output for cell in cells for output in cell.get("outputs", [])]
    return "".join(o.get("text", "") or o.get("data", {}).get("text/plain", "") for o in found)


def test_two_executions_are_the_same_bytes_and_bars_go_to_the_terminal(
    capfd: pytest.CaptureFixture[str],
) -> None:
    notebook = write(
        "import os, sys, warnings\nfrom vecaf_lib.pipeline import progress",
        "for _ in progress.bar(range(3), 'multi-r5-l3-s0'): pass",
        "print(training, path, sorted(n for n in ('SOURCE_DATE_EPOCH', 'HF_HUB_OFFLINE',\n"
        "      'TRANSFORMERS_OFFLINE') if n in os.environ), os.getcwd())",
        "warnings.warn('mind this')\nprint('out'); print('err', file=sys.stderr); print('out')",
        "from vecaf_lib.pipeline.workers import run_all\nimport operator\n"
        "run_all(operator.neg, [7], workers=2, threads=1, description='workers')",
        parameters='training = None  # a section\npath = "default"',
    )
    before = dict(os.environ)
    arguments = ["-s", "training=training", "-p", 'path=data/a "b".csv']
    for name in ("first", "second"):
        main([str(notebook), f"out/{name}.ipynb", *arguments])
    assert dict(os.environ) == before
    assert Path("out/first.ipynb").read_bytes() == Path("out/second.ipynb").read_bytes()
    assert [path.name for path in sorted(Path("out").iterdir())] == ["first.ipynb", "second.ipynb"]

    executed = nbformat.read(Path("out/first.ipynb"), as_version=4)
    nbformat.validate(executed)
    assert executed.cells[1].id == "injected-parameters"
    counts = [cell.execution_count for cell in executed.cells]
    assert counts == list(range(1, len(counts) + 1))
    text = outputs(Path("out/first.ipynb"))
    assert "{'steps': 60, 'learning_rate': 0.001} data/a" in text
    assert "['HF_HUB_OFFLINE', 'SOURCE_DATE_EPOCH', 'TRANSFORMERS_OFFLINE']" in text
    assert str(Path.cwd()) in text
    assert "mind this" in text
    assert "[-7]" in text
    assert "multi-r5" not in text

    shown = capfd.readouterr().err
    assert "first · multi-r5-l3-s0: 100%" in shown
    assert "second · workers: 100%" in shown
    assert "\r" not in shown  # a log, not a terminal
    assert "papermill" not in shown.lower()
    assert "WARNING" not in shown


def test_bad_input_in_a_cell_is_its_sentence_alone(folder: Path) -> None:
    notebook = write(
        "print('before')", "from vecaf_lib.errors import BadInput\nraise BadInput('Ratio is 0.')"
    )
    Path("out.ipynb").write_text("the last good one")
    with pytest.raises(BadInput) as caught:
        main([str(notebook), "out.ipynb", "-s", "training=training"])
    assert str(caught.value).splitlines() == [
        "Ratio is 0.",
        "runs.ipynb stopped there; it is kept up to that cell as out.failed.ipynb",
    ]
    assert "before" in outputs(Path("out.failed.ipynb"))
    assert Path("out.ipynb").read_text() == "the last good one"
    execute(write("pass"), Path("out.ipynb"), {"training": 1})
    assert not Path("out.failed.ipynb").exists()


def test_another_exception_in_a_cell_is_its_traceback(
    capsys: pytest.CaptureFixture[str],
) -> None:
    notebook = write("ratio = 0\n1 / ratio")
    with pytest.raises(CellFailed, match=r"(?s)1 / ratio.*ZeroDivisionError.*failed\.ipynb"):
        execute(notebook, Path("out.ipynb"), {"training": 1})
    with pytest.raises(SystemExit) as ended:
        main([str(notebook), "out.ipynb", "-s", "training=training"])
    assert ended.value.code == 1
    shown = capsys.readouterr().err
    assert "ZeroDivisionError" in shown
    assert "papermill" not in shown.lower()  # the cell's traceback, not our own


def test_a_dead_kernel_is_named_as_such() -> None:
    notebook = write("import os\nos.kill(os.getpid(), 9)")
    with pytest.raises(BadInput, match=r"kernel of runs\.ipynb died.*out\.failed\.ipynb"):
        execute(notebook, Path("out.ipynb"), {"training": 1})


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["-s", "trainin=training"], "no parameter 'trainin'.*did you mean 'training'"),
        ([], "needs a value for training"),
        (["-s", "training=trainings"], "no section 'trainings'.*did you mean 'training'"),
        (["-s", "training=methods.vecav"], "'vecav' is unknown; did you mean 'vecaf'"),
        (["-s", "training"], "-s training is not of the form name=value"),
        (["-p", "training=a", "-p", "training=b"], "-p gives training twice"),
        (["-p", "training=a", "-s", "training=training"], "given by both -p and -s"),
    ],
)
def test_wrong_parameters_stop_before_any_work(arguments: list[str], sentence: str) -> None:
    with pytest.raises(BadInput, match=sentence):
        main([str(write("open('touched', 'w')")), "out.ipynb", *arguments])
    assert not Path("touched").exists()
    assert not Path("out.ipynb").exists()


def test_wrong_settings_stop_before_any_work(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> None:
        raise BadInput(f"{path}: ratio must be above 0.")

    monkeypatch.setattr(settings, "read", refuse)
    with pytest.raises(BadInput, match=r"params\.yaml: ratio must be above 0"):
        main([str(write("pass")), "out.ipynb", "-p", "training=1"])


def test_sections_may_be_scalars() -> None:
    assert section({"a": {"b": [1, 2]}}, "a.b") == [1, 2]
    with pytest.raises(BadInput, match="known are: none"):
        section({"a": 1}, "a.b")


def test_a_kernel_ends_when_its_executor_is_killed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(folder))  # a killed process leaves its temporary files
    notebook = write("import os, time\nopen('started', 'w').close()\ntime.sleep(60)")
    code = (
        "from pathlib import Path\nfrom vecaf_lib.pipeline.execute import execute\n"
        f"execute(Path({str(notebook)!r}), Path('out.ipynb'), {{'training': 1}})"
    )
    executor = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 40
        while not Path("started").exists():
            assert time.monotonic() < deadline, "the kernel did not start"
            assert executor.poll() is None
            time.sleep(0.05)
        family = psutil.Process(executor.pid).children(recursive=True)
        assert family
    finally:
        executor.kill()
        executor.wait()
    _, alive = psutil.wait_procs(family, timeout=5)
    for process in alive:
        process.kill()
    assert not alive


def test_a_full_pipe_never_blocks_a_run(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    pipe = folder / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)  # opened, and never read
    monkeypatch.setenv("VECAF_PROGRESS", str(pipe))
    try:
        with progress.bar(2_000, "many") as bar:
            bar.mininterval = 0
            for _ in range(2_000):
                bar.update()
                bar.refresh()
    finally:
        os.close(reader)
    with progress.bar(1, "the reader is gone") as bar:
        bar.update()
