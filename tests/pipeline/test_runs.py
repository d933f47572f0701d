"""Runs are made once, remade when what made them changed, and survive a kill to the byte."""

import dataclasses
import gzip
import json
import os
import pickle
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import yaml
from distributed import Client

from vecaf_lib.data.images import ImageSet
from vecaf_lib.errors import BadInput
from vecaf_lib.pipeline import run as run_module
from vecaf_lib.pipeline import runs as runs_module
from vecaf_lib.pipeline.project import Views, views
from vecaf_lib.pipeline.run import Job, make_run
from vecaf_lib.pipeline.runs import make_runs
from vecaf_lib.pipeline.settings import change, checked
from vecaf_lib.results.runs import Run, runs_of

ROOT = Path(__file__).parents[2]
SMOKE = yaml.safe_load((ROOT / "profiles" / "smoke.yaml").read_text())
TINY = {  # real digits, the packaged model, four steps
    "training.steps": 4,
    "training.batch_size": 8,
    "training.evaluate_every": 2,
    "seeds": [0, 1],
    "methods.vecaf.options": {"iterations": 3, "ensemble": 2},
    "tables": {
        "table1": {"methods": ["vecaf"], "single_run": ["vecaf"], "ratios": [1], "loops": [2]}
    },
    "figures.methods": ["vecaf"],
    "figures.ratio": 1,
    "figures.loops": 2,
    "figures.sets": ["fresh"],
    "compute.device": "cpu",
    "compute.workers": 1,
}
CHILD = """
import pickle, sys
from pathlib import Path
from vecaf_lib.pipeline.runs import make_runs
job, runs, folder = pickle.loads(Path(sys.argv[1]).read_bytes())
make_runs({"vecaf": job}, runs, folder)
"""


def settings(**changes: Any) -> dict[str, Any]:
    dotted = {name.replace("__", "."): value for name, value in changes.items()}
    return checked(change(SMOKE, TINY | dotted), "tiny").model_dump(mode="json")


SETTINGS = settings()
RUNS = runs_of(SETTINGS)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with embeddings of the pool, drawn at random."""
    path = tmp_path_factory.mktemp("job")
    draw = np.random.default_rng(0)
    (path / "inputs.json").write_text(json.dumps({"images": "digits", "captions": None}))
    view = views(SETTINGS)
    np.save(view.text_file(path), draw.standard_normal((1000, 12)).astype(np.float32))
    np.save(view.image_file(path), draw.standard_normal((1000, 1280)).astype(np.float32))
    return path


def job_of(folder: Path, method: str = "vecaf", **changes: Any) -> Job:
    own = settings(**changes)
    return Job(own, method, data=ROOT / "data", inputs=folder / "inputs.json", embeddings=folder)


@pytest.fixture(scope="module")
def reference(folder: Path) -> dict[str, bytes]:
    """The run files of an undisturbed job."""
    assert make_runs({"vecaf": job_of(folder)}, RUNS, folder / "reference") == 4
    return contents(folder / "reference")


@pytest.fixture
def finished(tmp_path: Path, reference: dict[str, bytes]) -> Path:
    """A folder of finished runs that a test may spoil."""
    for name, content in reference.items():
        path = tmp_path / "runs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return tmp_path / "runs"


@pytest.fixture
def performed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of runs that would have been made; nothing is computed."""
    names: list[str] = []

    def note(job: Job, run: Run, *_: Any) -> Run:
        names.append(run.name)
        return run

    monkeypatch.setattr(runs_module, "make_and_store", note)
    return names


def contents(runs: Path) -> dict[str, bytes]:
    files = (path for path in sorted(runs.rglob("*")) if path.is_file())
    return {str(path.relative_to(runs)): path.read_bytes() for path in files}


def test_what_a_run_file_holds(folder: Path, reference: dict[str, bytes]) -> None:
    assert reference.keys() == {run.file for run in RUNS}
    for run in RUNS:
        content = json.loads(gzip.decompress(reference[run.file]))
        assert content["run"] == dataclasses.asdict(run)
        result = content["result"]
        assert result["budget"] == 10
        assert len(result["train_loss"]) == result["steps"] == 4
        assert [point["step"] for point in result["curve"]] == [2, 4]
        assert result["labels_seen"] == "all"
        same = result["loops"][0]["chosen"] == result["loops"][1]["chosen"]
        assert same != run.multi_run
        assert content["provenance"] == job_of(folder).provenance()


def test_finished_runs_are_kept(folder: Path, finished: Path, performed: list[str]) -> None:
    (finished / "vecaf" / ".multi-r1-l2-s0.json.gz.x7_k.part").write_text("half a f")
    before = contents(finished)
    assert make_runs({"vecaf": job_of(folder)}, RUNS, finished) == 0
    assert contents(finished) == {k: v for k, v in before.items() if not k.endswith(".part")}
    (finished / RUNS[0].file).write_text("{}")
    more = runs_of(settings(seeds=[0, 1, 2]))
    assert make_runs({"vecaf": job_of(folder)}, more, finished) == 3
    assert sorted(performed) == sorted([RUNS[0].name, "multi-r1-l2-s2", "single-r1-l2-s2"])


def test_the_digest_follows_what_results_depend_on(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def digest(job: Job, **changes: Any) -> str:
        value: str = dataclasses.replace(job, **changes).provenance()["digest"]
        return value

    job = job_of(folder)
    weights = tmp_path / "weights.pt"
    digests = [
        digest(job),
        digest(job_of(folder, training__learning_rate=0.01)),
        digest(job_of(folder, dataset__image_size=64)),
        digest(job_of(folder, compute__threads=2)),
        digest(job_of(folder, compute__processes=2)),
        digest(job_of(folder, compute__precision="bfloat16")),
        digest(job_of(folder, compute__evaluation_precision="bfloat16")),
        digest(job_of(folder, methods__vecaf__options={"tau": 0.1})),
        digest(job_of(folder, methods__vecaf__cea=None)),
        digest(job_of(folder, "activeft")),
        digest(job_of(folder, dataset__blind=True)),
    ]
    for content in ("images", "others"):
        (tmp_path / "inputs.json").write_text(json.dumps({"images": content}))
        digests.append(digest(job, inputs=tmp_path / "inputs.json"))
    other = tmp_path / "embeddings"
    shutil.copytree(folder, other, ignore=shutil.ignore_patterns("reference"))
    for path, width in ((job.views.text_file(other), 12), (job.views.image_file(other), 1280)):
        np.save(path, np.zeros((1000, width), dtype=np.float32))
        digests.append(digest(job, embeddings=other))
    vision = {"name": "tf_efficientnet_lite0", "weights": str(weights)}
    own = job_of(folder, vision=vision)
    shutil.copy(job.views.image_file(folder), own.views.image_file(folder))
    for content in ("some", "others"):
        weights.write_text(content)
        digests.append(digest(own))
    monkeypatch.setattr(run_module.metadata, "version", lambda name: "9")
    digests.append(digest(job))
    assert len(set(digests)) == len(digests)


def test_the_digest_leaves_out_tables_and_places(folder: Path, tmp_path: Path) -> None:
    digest = job_of(folder).provenance()["digest"]
    inputs = tmp_path / "inputs.json"
    inputs.write_text(json.dumps({"images": "digits", "captions": "others"}))
    for job in (
        job_of(folder, methods__vecaf__repetitions=1, seeds=[7], figures__loss_window=2),
        job_of(folder, tables__table1__by_class=True),
        job_of(folder, dataset__root="/elsewhere", dataset__memory_gib=9.0),
        job_of(folder, compute__workers=2, compute__memory_gib=9.0),
        dataclasses.replace(job_of(folder), inputs=inputs),
    ):
        assert job.provenance()["digest"] == digest
    assert "text embeddings" not in job_of(folder, "activeft").provenance()["inputs"]


def test_the_digest_follows_the_code_that_ran(folder: Path) -> None:
    ods = job_of(folder).provenance()["code"]
    names = ("loop", "training", "cea", "pipeline.run", "selection.ods")
    assert ods.keys() >= {f"vecaf_lib.{name}" for name in names}
    assert any(name.endswith(".digits") for name in ods)
    others = ("selection.topk_loss", "pipeline.progress", "pipeline.runs", "results.runs")
    assert not ods.keys() & {f"vecaf_lib.{name}" for name in others}
    assert "vecaf_lib.selection.ods" not in job_of(folder, "random").provenance()["code"]


@pytest.mark.parametrize(
    ("changes", "run", "parts"),
    [
        ({}, {"ratio": 0.04}, ["0.04 % of 1000"]),
        ({}, {"target": "thre"}, ["targets", "'thre'", "'three'"]),
        ({"training__batch_size": 1002}, {}, ["batch_size is 1002", "1000 images"]),
    ],
    ids=["budget", "target", "batch"],
)
def test_no_run_starts_if_one_does_not_fit_the_pool(
    folder: Path,
    tmp_path: Path,
    performed: list[str],
    changes: dict[str, Any],
    run: dict[str, Any],
    parts: list[str],
) -> None:
    runs = [RUNS[0], dataclasses.replace(RUNS[1], **run)]
    with pytest.raises(BadInput) as raised:
        make_runs({"vecaf": job_of(folder, **changes)}, runs, tmp_path / "runs")
    assert all(part in str(raised.value) for part in parts)
    assert performed == []
    assert not (tmp_path / "runs").exists()


def test_a_run_that_fails_is_named_and_those_before_it_are_kept(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = {"activeft": job_of(folder, "activeft")}
    jobs["vecaf"] = job_of(folder, text={"name": "hashed"})
    other = jobs["vecaf"].views.text_file(folder)
    np.save(other, np.zeros((999, 12), dtype=np.float32))
    runs = [dataclasses.replace(RUNS[0], method=method) for method in jobs]
    sentence = r"vecaf multi-r1-l2-s0: .*\.npy .*its shape is \(999, 12\), but .* 1000 images"
    with pytest.raises(BadInput, match=sentence):
        make_runs(jobs, runs, tmp_path / "runs")
    assert contents(tmp_path / "runs").keys() == {runs[0].file}

    def fail(job: Job, run: Run) -> Any:
        raise MemoryError

    monkeypatch.setattr(runs_module, "make_run", fail)
    with pytest.raises(MemoryError) as raised:
        make_runs(jobs, runs[1:], tmp_path / "runs")
    assert "vecaf multi-r1-l2-s0" in raised.value.__notes__[0]


def test_a_killed_worker_is_a_sentence(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def end(*_: Any) -> None:  # sent to the worker by value
        os.kill(os.getpid(), 9)

    monkeypatch.setattr(runs_module, "make_and_store", end)
    job = job_of(folder, compute__workers=2)
    with pytest.raises(BadInput, match=r"was killed.*compute\.workers"):
        make_runs({"vecaf": job}, RUNS, tmp_path)


@pytest.mark.timeout(180)
def test_killed_at_any_moment_the_bytes_are_the_same(
    folder: Path, tmp_path: Path, reference: dict[str, bytes]
) -> None:
    """kill -9 after the first run file; then the rest, and no finished run is made twice.

    Two workers made what survived, one process made the reference: their bytes are equal, too.
    """
    runs = tmp_path / "runs"
    both = job_of(folder, compute__workers=2)
    (tmp_path / "job").write_bytes(pickle.dumps((both, RUNS, runs)))
    command = [sys.executable, "-c", CHILD, str(tmp_path / "job")]
    parent = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE)
    family: list[psutil.Process] = []
    try:
        while not list(runs.rglob("*.json.gz")):
            assert parent.poll() is None, parent.stderr and parent.stderr.read().decode()
            time.sleep(0.01)
        family = psutil.Process(parent.pid).children(recursive=True)
        assert len(family) >= 2
    finally:
        parent.kill()
        parent.wait()
    _, alive = psutil.wait_procs(family, timeout=10)
    for process in alive:
        process.kill()
    assert not alive
    survivors = {path: path.stat().st_mtime_ns for path in runs.rglob("*.json.gz")}
    assert 1 <= len(survivors) < 4, "the kill came too late to prove anything"

    assert make_runs({"vecaf": job_of(folder)}, RUNS, runs) == 4 - len(survivors)
    assert contents(runs) == reference
    assert {path: path.stat().st_mtime_ns for path in survivors} == survivors


@contextmanager
def dask(role: str, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", f"distributed.cli.dask_{role}", "--no-dashboard", *arguments]
    places = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, env=os.environ | places, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.mark.global_random("distributed draws the names of what it connects")
@pytest.mark.timeout(180)
def test_on_dask_workers_of_which_one_is_killed_the_bytes_are_the_same(
    folder: Path, tmp_path: Path, reference: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of two workers is given a run; the first to start it dies in it."""
    died, runs = tmp_path / "died", tmp_path / "runs"

    def dying(*task: Any) -> Run:  # sent to the workers by value
        try:
            died.touch(exist_ok=False)
        except FileExistsError:
            from vecaf_lib.pipeline.runs import make_and_store

            return make_and_store(*task)
        os.kill(os.getpid(), 9)
        raise AssertionError

    def strict(dask_scheduler: Any) -> None:
        dask_scheduler.allowed_failures = 0

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    jobs = {"vecaf": job_of(folder, compute__dask=address)}
    monkeypatch.setattr(runs_module, "ANSWER", 0.2)
    with pytest.raises(BadInput, match=f"no scheduler answers at {address}; start one"):
        make_runs(jobs, RUNS, runs)
    monkeypatch.setattr(runs_module, "ANSWER", 30)
    scheduler = ["--host", "127.0.0.1", "--port", address.rpartition(":")[2]]
    worker = [address, "--no-nanny", "--local-directory", str(tmp_path), "--nthreads"]
    with dask("scheduler", *scheduler):
        with pytest.raises(BadInput, match=r"0 workers are at .*--nthreads 1"):
            make_runs(jobs, RUNS, runs)
        assert not runs.exists()
        monkeypatch.setattr(runs_module, "make_and_store", dying)
        with dask("worker", *worker, "1") as one, dask("worker", *worker, "1") as other:
            with Client(address, set_as_default=False) as client:
                client.wait_for_workers(2)
                assert make_runs(jobs, RUNS, runs) == 4
                assert contents(runs) == reference
                assert sorted([one.poll() or 0, other.poll() or 0]) == [-9, 0]
                client.run_on_scheduler(strict)
            died.unlink()
            (runs / RUNS[0].file).unlink()
            with pytest.raises(BadInput, match=r"Dask lost .* finished runs are kept"):
                make_runs(jobs, RUNS, runs)
            assert contents(runs).keys() == {run.file for run in RUNS[1:]}


def test_a_styled_method_trains_on_the_styled_images_of_its_domain(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[dict[str, Any]] = []

    def darkened(train: ImageSet, **options: Any) -> ImageSet:
        given.append(options)
        ids = tuple(f"{name}+stylised" for name in train.ids)
        return ImageSet(train.images // 8, train.labels, ids, train.class_names)

    monkeypatch.setattr(run_module, "stylised", darkened)
    style = {"model": "tiny", "weights": "somewhere", "steps": 3, "batch_size": 2}
    run = Run("digits", "random", True, 10.0, 1, 0)
    method = {"methods__random__domain": "snowy", "methods__random__domains": ["snowy"]}
    plain, styled = (
        make_run(job_of(folder, "random", **method, **changes), run)
        for changes in ({"domains__snowy__severities": [1, 5]}, {"methods__random__stylise": style})
    )
    assert [(a["prompt"], a["steps"], a["seed"]) for a in given] == [("It's a snowy day.", 3, 0)]
    chosen, names = ([loop["chosen"] for loop in result["loops"]] for result in (plain, styled))
    assert names[0] == [f"{name}+stylised" for name in chosen[0]]
    assert plain["train_loss"] != styled["train_loss"]
    assert plain["domains"]["snowy"].keys() == {"1", "5", "mean"}


def test_a_run_of_a_frozen_trunk_reads_the_stored_states(folder: Path, tmp_path: Path) -> None:
    """With the states of one class alike it learns what no image could teach it."""
    frozen = {"training__trainable": "head", "training__flip": True, "training__steps": 40}
    job = dataclasses.replace(
        job_of(folder, "random", training__learning_rate=1.0, **frozen), embeddings=tmp_path
    )
    sets = {split: job_of(folder).images(split) for split in ("train", "validation", "test")}
    noise = np.random.default_rng(0)
    for split, images in sets.items():
        for path in job.states_files(split):
            rows = np.eye(1280)[images.labels] + 1e-3 * noise.standard_normal((len(images), 1280))
            np.save(path, rows.astype(np.float32))
    shutil.copy(job.views.image_file(folder), tmp_path)
    result = make_run(job, Run("digits", "random", True, 10.0, 1, 0))
    assert result["test_accuracy"] == 100
    digest = job.provenance()["digest"]
    assert len({path.name for split in sets for path in job.states_files(split)}) == 4
    np.save(job.states_files("train")[1], rows.astype(np.float32))
    assert job.provenance()["digest"] != digest


def test_each_change_of_a_view_is_a_file_of_its_own() -> None:
    own = Views({"name": "a/b", "weights": "package"}, {"name": "t"})
    others = [
        dataclasses.replace(own, prompt="It snows."),
        dataclasses.replace(own, class_names=True),
        dataclasses.replace(own, caption_part="nouns"),
        dataclasses.replace(own, caption_part="attributes"),
        dataclasses.replace(own, text={"name": "t", "max_tokens": 9}),
    ]
    assert len({view.text_file(Path()) for view in [own, *others]}) == 6
    assert {view.image_file(Path()) for view in others} == {own.image_file(Path())}
    assert own.image_file(Path("e")).parent == Path("e")


def test_the_views_of_methods() -> None:
    method, plain = (views(SETTINGS, name) for name in ("vecaf_snowy", "activeft"))
    own = views(SETTINGS)
    assert method == dataclasses.replace(own, prompt="It's a snowy day.")
    assert plain == dataclasses.replace(own, needs_text=False)
    assert views(SETTINGS, "clipstyler_snowy").prompt == ""  # reads no captions
    lite = views(SETTINGS, "vecaf_lite1_hashed")
    assert (lite.vision["name"], lite.text["name"]) == ("tf_efficientnet_lite1", "hashed")
    # names of files do not change, so that embeddings made before are found
    assert own.text_file(Path()).name == "text-minilm-68722baa.npy"
    assert own.image_file(Path()).name == "image-tf_efficientnet_lite0-6642e502.npy"
