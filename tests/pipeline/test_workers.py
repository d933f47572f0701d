"""Workers give what one process gives, hand errors on, and never outlive their parent."""

import operator
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch

from vecaf_lib.errors import BadInput
from vecaf_lib.files import read_json
from vecaf_lib.pipeline import progress
from vecaf_lib.pipeline.workers import run_all

ROOT = Path(__file__).parents[2]

# Two workers that write their process ids and then sleep for a minute, one without the lock of
# the interpreter, one busy.
LONG_RUNS = """
import sys
from vecaf_lib.pipeline.workers import run_all
start = f"__import__('pathlib').Path(r'{sys.argv[1]}', str(__import__('os').getpid())).touch()"
tasks = [f"{start} or __import__('time').sleep(60)", f"{start} or [i for i in range(10**10) if 0]"]
run_all(eval, tasks, workers=2, threads=1, description="long")
"""


@pytest.mark.parametrize("workers", [1, 2])
def test_results_come_in_the_order_of_the_items(workers: int) -> None:
    before = torch.get_num_threads()
    threads = "__import__('torch').get_num_threads()"
    results = run_all(
        eval, [threads, "1 + 1", "'b'"], workers=workers, threads=1, description="sums"
    )
    assert results == [1, 2, "b"]
    assert torch.get_num_threads() == before


def test_one_process_suffices_for_no_items() -> None:
    assert run_all(operator.neg, [], workers=2, threads=1, description="none") == []


@pytest.mark.parametrize("workers", [1, 2])
def test_bad_input_reaches_the_caller_as_it_is(tmp_path: Path, workers: int) -> None:
    path = tmp_path / "missing.json"
    with pytest.raises(BadInput, match=r"missing\.json is missing; `dvc repro` makes it\.$"):
        run_all(read_json, [path], workers=workers, threads=1, description="files")


def test_a_killed_worker_is_named_as_such() -> None:
    kill = "__import__('os').kill(__import__('os').getpid(), 9)"
    with pytest.raises(BadInput, match="A worker process of runs was killed"):
        run_all(eval, [kill], workers=2, threads=1, description="runs")


def test_no_workers_are_refused() -> None:
    with pytest.raises(BadInput, match="at least 1, not 0 and 1"):
        run_all(operator.neg, [1], workers=0, threads=1, description="none")


def test_workers_end_when_their_parent_is_killed(tmp_path: Path) -> None:
    command = [sys.executable, "-c", LONG_RUNS, str(tmp_path)]
    parent = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 40
        while len(list(tmp_path.iterdir())) < 2:
            assert time.monotonic() < deadline, "the workers did not start"
            assert parent.poll() is None
            time.sleep(0.05)
        family = psutil.Process(parent.pid).children(recursive=True)
        assert {int(path.name) for path in tmp_path.iterdir()} <= {child.pid for child in family}
    finally:
        parent.kill()
        parent.wait()
    _, alive = psutil.wait_procs(family, timeout=4)
    for process in alive:
        process.kill()
    assert not alive


def test_bars_name_the_run_and_do_not_wait_for_a_reader(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("VECAF_PROGRESS", str(tmp_path / "gone"))
    monkeypatch.setenv("VECAF_STAGE", "runs-vecaf")
    run_all(operator.neg, [1, 2], workers=1, threads=1, description="vecaf")
    shown = capsys.readouterr().err
    assert "runs-vecaf · vecaf: 100%" in shown
    assert shown.rstrip().endswith("2]")  # the item that was finished last
    progress.silence()
    run_all(operator.neg, [1, 2], workers=1, threads=1, description="vecaf")
    assert capsys.readouterr().err == ""
