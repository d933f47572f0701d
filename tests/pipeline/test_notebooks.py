"""Notebooks run as stages: same bytes each time, clear sentences, bars on the terminal only."""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import nbformat
import psutil
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from vecaf_lib.cli import main
from vecaf_lib.errors import BadInput
from vecaf_lib.files import write_json
from vecaf_lib.pipeline import progress
from vecaf_lib.pipeline.notebooks import execute, execute_stage, write_sources
from vecaf_lib.pipeline.project import SECTIONS

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project to run in, after its first stage; kernels find the package."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.chdir(tmp_path)
    for name in ("params.yaml", "dvc.yaml"):
        Path(name).touch()
    for section, content in {"profile": "made-up", "training": {"steps": 60}}.items():
        write_json(SECTIONS / f"{section}.json", content)
    return tmp_path


def write(*cells: str, parameters: str = "ratio = 5.0") -> Path:
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
        "progress.bar(3, 'vecaf multi-r5-l3-s0').update(3)",
        "from vecaf_lib.pipeline.project import Project\nproject = Project.find()\n"
        "print(project.section('training'), project.path(path), repr(ratio), os.getcwd())",
        "warnings.warn('mind this')\nprint('out'); print('err', file=sys.stderr); print('out')",
        "import matplotlib.pyplot as plt\nplt.figure(figsize=(1, 1))\nplt.plot([1, 2]);",
        parameters='ratio = 5.0  # percent\npath = "default"',
    )
    arguments = ["-p", "ratio=2.5", "-p", 'path=reports/{profile}/a "b".csv']
    for name in ("first", "second"):
        main(["execute", str(notebook), f"{{profile}}/{name}.ipynb", *arguments])
    assert Path("made-up/first.ipynb").read_bytes() == Path("made-up/second.ipynb").read_bytes()
    assert {path.name for path in Path("made-up").iterdir()} == {"first.ipynb", "second.ipynb"}

    executed = nbformat.read(Path("made-up/first.ipynb"), as_version=4)
    nbformat.validate(executed)
    assert [cell.id for cell in executed.cells[:3]] == ["0", "injected-parameters", "1"]
    counts = [cell.execution_count for cell in executed.cells]
    assert counts == list(range(1, len(counts) + 1))
    assert "image/png" in executed.cells[-1].outputs[0].data
    text = outputs(Path("made-up/first.ipynb"))
    assert f"{{'steps': 60}} {Path.cwd()}/reports/made-up/a \"b\".csv 2.5 {Path.cwd()}" in text
    assert "mind this" in text
    assert "multi-r5" not in text

    shown = capfd.readouterr().err
    assert "first · vecaf multi-r5-l3-s0: 100%" in shown
    assert "\r" not in shown  # a log, not a terminal
    assert "papermill" not in shown.lower()
    assert "WARNING" not in shown


SEES = """
import getpass, os, sys
import matplotlib, matplotlib.pyplot as plt
import cached
print(ratio, matplotlib.rcParams["text.usetex"], getpass.getuser() != "", sys.executable)
"""


@pytest.mark.parametrize("place", ["settings", "bare"])
def test_pictures_and_this_interpreter_whatever_the_surroundings(
    project: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    """A user's settings of Jupyter, IPython and matplotlib; or a user without name and home."""
    files = {
        "kernels/python3/kernel.json": '{"argv": ["false"], "display_name": "", "language": "r"}',
        "profile_default/ipython_config.py": "c.InlineBackend.figure_formats = ['svg']",
        "profile_default/startup/00.py": "print('startup')",
        "start.py": "print('startup')",
        "matplotlibrc": "text.usetex: True\n",
        "bare/sitecustomize.py": "import pwd\ndel pwd.getpwuid",
        "cached.py": "import numba\nnumba.njit(cache=True)(lambda: 1)",
    }
    for name, text in files.items():
        path = project / "user" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    user = str(project / "user")
    monkeypatch.setenv("PYTHONPATH", f"{user}{'/bare:' + user if place == 'bare' else ''}:{ROOT}")
    if place == "bare":
        for name in ("USER", "LOGNAME", "LNAME", "USERNAME", "MPLCONFIGDIR", "XDG_CACHE_HOME"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("HOME", "/proc/no/home")
        locators = "UserProvidedCacheLocator,UserWideCacheLocator"  # the environment is read-only
        monkeypatch.setenv("NUMBA_CACHE_LOCATOR_CLASSES", locators)
    else:
        for name in ("JUPYTER_PATH", "IPYTHONDIR", "MPLCONFIGDIR"):
            monkeypatch.setenv(name, user)
        monkeypatch.setenv("PYTHONSTARTUP", f"{user}/start.py")
        monkeypatch.setenv("MPLBACKEND", "TkAgg")
    execute(write(SEES, "plt.figure(figsize=(1, 1))\nplt.plot([1, 2]);"), Path("out.ipynb"), {})
    assert outputs(Path("out.ipynb")).startswith(f"5.0 False True {sys.executable}\n<Figure")
    picture = nbformat.read("out.ipynb", as_version=4).cells[-1].outputs[0]
    assert "image/png" in picture["data"]


def test_a_failed_notebook_is_kept_up_to_the_cell_that_failed() -> None:
    notebook = write(
        "print('before')", "from vecaf_lib.errors import BadInput\nraise BadInput('Ratio is 0.')"
    )
    Path("out.ipynb").write_text("the last good one")
    with pytest.raises(SystemExit) as ended:
        main(["execute", str(notebook), "out.ipynb"])
    assert str(ended.value.code).splitlines() == [
        "Ratio is 0.",
        "runs.ipynb stopped there; it is kept up to that cell as "
        + str(Path.cwd() / "out.failed.ipynb"),
    ]
    assert "before" in outputs(Path("out.failed.ipynb"))
    assert Path("out.ipynb").read_text() == "the last good one"
    with pytest.raises(BadInput, match=r"(?s)1 / zero.*ZeroDivisionError.*failed\.ipynb"):
        execute(write("zero = 0\n1 / zero"), Path("out.ipynb"), {})
    with pytest.raises(BadInput, match=r"(?s)kernel died.*out\.failed\.ipynb"):
        execute(write("import os\nos.kill(os.getpid(), 9)"), Path("out.ipynb"), {})
    execute(write("pass"), Path("out.ipynb"), {})
    assert not Path("out.failed.ipynb").exists()


@pytest.mark.parametrize(
    ("pair", "sentence"),
    [
        ("ration=2", "no parameter 'ration'.*did you mean 'ratio'"),
        ("ratio", "-p ratio is not of the form name=value"),
        ("ratio=5 -p ratio=2", "-p ratio=2 is .* or comes twice"),
    ],
    ids=["unknown", "no-value", "twice"],
)
def test_wrong_parameters_stop_before_any_work(pair: str, sentence: str) -> None:
    with pytest.raises(SystemExit, match=sentence):
        main(["execute", str(write("open('touched', 'w')")), "out.ipynb", "-p", *pair.split()])
    assert not Path("touched").exists()
    assert not Path("out.ipynb").exists()


def test_values_of_parameters() -> None:
    values: dict[str, Any] = {"5": 5, "1e-3": 0.001, "true": True, "null": None, "[0]": [0]}
    values |= {text: text for text in ("", "~", "a: b", "data/x", "2020-01-01", "{", "vecaf")}
    names = [f"v{number}" for number in range(len(values))]
    notebook = write(f"print([{', '.join(names)}])", parameters=" = 0\n".join([*names, ""]))
    given = [f"{name}={text}" for name, text in zip(names, values, strict=True)]
    execute_stage(notebook, "out.ipynb", given)
    assert outputs(Path("out.ipynb")) == f"{[*values.values()]}\n"


def test_a_kernel_ends_when_its_executor_is_killed(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(project))  # a killed process leaves its temporary files
    notebook = write("import os, time\nopen('started', 'w').close()\ntime.sleep(60)")
    command = [sys.executable, "-m", "vecaf_lib.cli", "execute", str(notebook), "out.ipynb"]
    executor = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        while not Path("started").exists():
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


def test_a_terminal_that_is_gone_never_stops_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    monkeypatch.setattr(progress, "TERMINAL", writer)
    with progress.relay("stage") as environment:
        monkeypatch.setenv(progress.PIPE, environment[progress.PIPE])
        with progress.bar(2_000, "many") as bar:
            bar.mininterval = 0
            for _ in range(2_000):  # more than a pipe holds
                bar.update()
    os.close(writer)
    progress.silence()  # in a worker; undone by the fixture of the environment
    assert progress.bar(1, "none").disable


def saved(path: Path, source: str = "loops = 3", *, used: bool = True) -> Path:
    """Write a notebook as JupyterLab leaves it after use, or as it is committed."""
    parameters = new_code_cell(source, metadata={"tags": ["parameters"]})
    cells = [new_markdown_cell("# Runs"), parameters, new_code_cell("print(loops)")]
    metadata: dict[str, Any] = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
    if used:
        metadata = {"kernelspec": {"name": "conda", "display_name": "a"}, "widgets": {"5f2c": {}}}
        parameters.metadata["execution"] = {"iopub.execute_input": "2024-07-28T10:00:00Z"}
        cells[2].metadata |= {"collapsed": True, "scrolled": False, "trusted": True}
        cells[2].outputs = [new_output("stream", name="stdout", text="3\n")]
        cells[2].execution_count = 12
    path.parent.mkdir(exist_ok=True)
    nbformat.write(new_notebook(cells=cells, metadata=metadata), path)
    return path


def test_use_in_jupyter_leaves_the_copy_of_the_source_as_it_was() -> None:
    path, copy = Path("in/a.ipynb"), Path("out/a.ipynb")
    versions = []
    for given in ({"used": False}, {"used": True}, {"source": "loops = 4"}):
        main(["sources", "out", str(saved(path, **given))])  # type: ignore[arg-type]
        versions.append(copy.read_bytes())
    assert versions[0] == versions[1] != versions[2]
    notebook = nbformat.read(copy, as_version=4)
    nbformat.validate(notebook)
    assert notebook.cells[1].metadata == {"tags": ["parameters"]}
    assert [cell.id for cell in notebook.cells] == ["0", "1", "2"]
    assert notebook.cells[2].outputs == []


@pytest.mark.parametrize(
    "text",
    [
        '{"nbformat": 4, "cells": [',
        '{"nbformat": 4, "metadata": {}, "cells": [{"cell_type": "code"}]}',
        None,
    ],
    ids=["cut-off", "invalid", "missing"],
)
def test_a_bad_notebook_is_named_and_nothing_written(text: str | None) -> None:
    if text:
        Path("bad.ipynb").write_text(text)
    with pytest.raises(BadInput, match=r"bad\.ipynb is no notebook that can be read"):
        write_sources(Path("out"), [saved(Path("in/a.ipynb")), Path("bad.ipynb")])
    assert not Path("out").exists()
