"""Runs are made once, remade when what made them changed, and survive a kill to the byte."""

import dataclasses
import gzip
import json
import pickle
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from vecaf_lib.errors import BadInput
from vecaf_lib.pipeline import job as job_module
from vecaf_lib.pipeline import runs as runs_module
from vecaf_lib.pipeline.job import Job
from vecaf_lib.pipeline.runs import make_runs
from vecaf_lib.pipeline.store import RunSpec, RunStore, specs
from vecaf_lib.run_files import SUFFIX

ROOT = Path(__file__).parents[2]
DATASET = {"name": "digits", "image_size": 32, "root": None, "memory_gib": 1.0, "options": {}}
COMPUTE = {
    "workers": 1,
    "threads": 1,
    "device": "cpu",
    "processes": 1,
    "precision": "float32",
    "evaluation_precision": None,
}
TRAINING = {"steps": 4, "batch_size": 8, "learning_rate": 0.003, "evaluate_every": 2}
METHOD = {
    "select": "ods",
    "options": {"iterations": 3, "ensemble": 2},
    "first_losses": "uniform",
    "accumulate": False,
    "cea": {"mode": "paper", "eta": 0.2},
    "domain": None,
    "domains": [],
    "grid": [{"ratios": [1.0], "loops": [2], "multi_run": [True, False]}],
}
DOMAINS = {
    "snowy": {
        "prompt": "It's a snowy day.",
        "corruption": "snow",
        "images": "corrupted",
        "root": None,
        "severities": [1, 5],
    }
}

CHILD = """
import pickle, sys
from pathlib import Path
from vecaf_lib.pipeline.runs import make_runs
job, wanted = pickle.loads(Path(sys.argv[1]).read_bytes())
make_runs({"vecaf": job}, wanted)
"""


def make_job(folder: Path, runs: Path, **changes: Any) -> Job:
    """A real, tiny job: real digits, the packaged model, four steps."""
    values: dict[str, Any] = {
        "dataset": DATASET,
        "vision": {"name": "tf_efficientnet_lite0", "weights": "package"},
        "training": TRAINING,
        "method": METHOD,
        "compute": COMPUTE,
        "domains": DOMAINS,
        "data": ROOT / "data",
        "inputs": Path(folder) / "inputs.json",
        "text": Path(folder) / "text.npy",
        "image": Path(folder) / "image.npy",
        "runs": Path(runs),
    }
    return Job(**values | changes)


def wanted(seeds: tuple[int, ...] = (0, 1)) -> list[RunSpec]:
    return specs("digits", "vecaf", METHOD, seeds)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with text embeddings of the pool."""
    path = tmp_path_factory.mktemp("job")
    draw = np.random.default_rng(0)
    (path / "inputs.json").write_text(json.dumps({"images": "digits", "captions": None}))
    np.save(path / "text.npy", draw.standard_normal((1000, 12)).astype(np.float32))
    np.save(path / "image.npy", draw.standard_normal((1000, 1280)).astype(np.float32))
    return path


@pytest.fixture(scope="module")
def reference(folder: Path) -> dict[str, bytes]:
    """The run files of an undisturbed job."""
    runs = folder / "reference"
    assert make_runs({"vecaf": make_job(folder, runs)}, wanted()) == 4
    return contents(runs)


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
    monkeypatch.setattr(
        runs_module, "perform", lambda jobs, provenance, spec: names.append(spec.name)
    )
    return names


def contents(runs: Path) -> dict[str, bytes]:
    return {
        str(p.relative_to(runs)): p.read_bytes() for p in sorted(runs.rglob("*")) if p.is_file()
    }


def test_a_block_of_the_grid_may_have_seeds_of_its_own() -> None:
    block = {"ratios": [5], "loops": [3], "multi_run": [True]}
    method = {"grid": [block, block | {"seeds": [7, 8]}], "repetitions": 1}
    assert [spec.seed for spec in specs("digits", "m", method, [0, 1])] == [0, 7, 8]


def test_the_grid_times_the_seeds() -> None:
    method = {
        "grid": [
            {"ratios": [2, 5.0], "loops": [3], "multi_run": [True, False]},
            {"ratios": [5], "loops": [2, 3], "multi_run": [True]},
        ]
    }
    names = [spec.name for spec in specs("digits", "m", method, [0, 7])]
    assert sorted(names) == sorted(
        f"{kind}-r{ratio}-l{loops}-s{seed}"
        for seed in (0, 7)
        for kind, ratio, loops in [
            ("multi", 2, 3),
            ("multi", 5, 3),
            ("single", 2, 3),
            ("single", 5, 3),
            ("multi", 5, 2),
        ]
    )


def test_what_a_run_file_tells(folder: Path, reference: dict[str, bytes]) -> None:
    assert len(reference) == 4
    for spec in wanted():
        run = json.loads(gzip.decompress(reference[f"vecaf/{spec.name}{SUFFIX}"]))
        assert run["run"] == dataclasses.asdict(spec)
        result = run["result"]
        assert result["budget"] == 10
        assert len(result["train_loss"]) == result["steps"] == 4
        assert [point["step"] for point in result["curve"]] == [2, 4]
        assert result["labels_seen"] == "all"
        same = result["loops"][0]["chosen"] == result["loops"][1]["chosen"]
        assert same != spec.multi_run
        made_from = run["provenance"]
        assert made_from == make_job(folder, folder).provenance()
        assert set(made_from["inputs"]) == {
            *("images", "image embeddings"),
            *("text embeddings", "vision weights"),
        }


def test_finished_runs_are_kept(folder: Path, finished: Path, performed: list[str]) -> None:
    assert make_runs({"vecaf": make_job(folder, finished)}, wanted()) == 0
    assert make_runs({"vecaf": make_job(folder, finished)}, wanted((0, 1, 2))) == 2
    assert sorted(performed) == ["multi-r1-l2-s2", "single-r1-l2-s2"]


def test_unfinished_copies_that_a_kill_left_are_removed(
    folder: Path, finished: Path, reference: dict[str, bytes]
) -> None:
    (finished / "vecaf" / ".multi-r1-l2-s0.json.gz.x7_k.part").write_text("half a f")
    assert make_runs({"vecaf": make_job(folder, finished)}, wanted()) == 0
    assert contents(finished) == reference


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text.replace('"test_accuracy": ', '"test_accuracy": 1'),
        lambda text: text[: len(text) // 2],
        lambda text: "",
        lambda text: text.replace('"seed": 0', '"seed": 1'),
    ],
)
def test_a_run_file_damaged_by_hand_is_made_again(
    folder: Path, finished: Path, performed: list[str], damage: Callable[[str], str]
) -> None:
    path = finished / "vecaf" / "multi-r1-l2-s0.json.gz"
    whole = gzip.decompress(path.read_bytes()).decode()
    spoilt = damage(whole)
    assert spoilt != whole
    path.write_bytes(gzip.compress(spoilt.encode()))
    assert make_runs({"vecaf": make_job(folder, finished)}, wanted()) == 1
    assert performed == ["multi-r1-l2-s0"]


def test_a_damaged_run_is_really_the_same_again(
    folder: Path, finished: Path, reference: dict[str, bytes]
) -> None:
    (finished / "vecaf" / "single-r1-l2-s1.json.gz").write_text("{}")
    assert make_runs({"vecaf": make_job(folder, finished)}, wanted()) == 1
    assert contents(finished) == reference


def digest(job: Job) -> str:
    value: str = job.provenance()["digest"]
    return value


def test_the_digest_follows_what_results_depend_on(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = make_job(folder, tmp_path)
    first = digest(job)
    others = [
        digest(dataclasses.replace(job, training=TRAINING | {"learning_rate": 0.01})),
        digest(dataclasses.replace(job, dataset=DATASET | {"image_size": 64})),
        digest(dataclasses.replace(job, compute=COMPUTE | {"threads": 2})),
        digest(dataclasses.replace(job, compute=COMPUTE | {"processes": 2})),
        digest(dataclasses.replace(job, compute=COMPUTE | {"precision": "bfloat16"})),
        digest(dataclasses.replace(job, compute=COMPUTE | {"evaluation_precision": "bfloat16"})),
        digest(dataclasses.replace(job, method=METHOD | {"options": {"tau": 0.1}})),
        digest(dataclasses.replace(job, method=METHOD | {"cea": None})),
        digest(dataclasses.replace(job, method=METHOD | {"select": "activeft"})),
    ]
    text = tmp_path / "text.npy"
    np.save(text, np.zeros((1000, 12), dtype=np.float32))
    others.append(digest(dataclasses.replace(job, text=text)))
    image = tmp_path / "image.npy"
    np.save(image, np.zeros((1000, 1280), dtype=np.float32))
    others.append(digest(dataclasses.replace(job, image=image)))
    weights = tmp_path / "weights.pt"
    for content in (b"some", b"others"):
        weights.write_bytes(content)
        vision = {"name": "tf_efficientnet_lite0", "weights": str(weights)}
        others.append(digest(dataclasses.replace(job, vision=vision)))
    others_images = tmp_path / "inputs.json"
    others_images.write_text(json.dumps({"images": "others"}))
    others.append(digest(dataclasses.replace(job, inputs=others_images)))
    monkeypatch.setattr(job_module, "library_versions", lambda names: {"torch": "9"})
    others.append(digest(job))
    assert len({first, *others}) == 1 + len(others)


def test_the_digest_leaves_out_the_grid_and_places(folder: Path, tmp_path: Path) -> None:
    job = make_job(folder, tmp_path)
    more = METHOD | {"grid": [{"ratios": [1.0, 5.0], "loops": [2], "multi_run": [True]}]}
    assert digest(dataclasses.replace(job, method=more)) == digest(job)
    assert digest(dataclasses.replace(job, runs=tmp_path / "elsewhere")) == digest(job)
    moved = DATASET | {"root": "/elsewhere", "memory_gib": 9.0}
    assert digest(dataclasses.replace(job, dataset=moved)) == digest(job)
    beside = COMPUTE | {"workers": 2, "memory_gib": 9.0}
    assert digest(dataclasses.replace(job, compute=beside)) == digest(job)
    inputs = tmp_path / "inputs.json"
    inputs.write_text(json.dumps({"images": "digits", "captions": "others"}))
    assert digest(dataclasses.replace(job, inputs=inputs)) == digest(job)
    plain = dataclasses.replace(job, method=METHOD | {"cea": None})
    without = dataclasses.replace(plain, text=tmp_path / "absent.npy")
    assert digest(without) == digest(plain)  # no captions are used


@pytest.mark.parametrize(
    ("select", "changed", "matters"),
    [
        ("ods", "vecaf_lib/loop.py", True),
        ("ods", "vecaf_lib/training.py", True),
        ("ods", "vecaf_lib/cea.py", True),
        ("ods", "vecaf_lib/encoders/vision.py", True),
        ("ods", "vecaf_lib/datasets/digits.py", True),
        ("ods", "vecaf_lib/pipeline/run.py", True),
        ("ods", "vecaf_lib/selection/ods.py", True),
        ("ods", "vecaf_lib/selection/_ensemble.py", True),
        ("ods", "vecaf_lib/selection/topk_loss.py", False),
        ("random", "vecaf_lib/selection/ods.py", False),
        ("ods", "vecaf_lib/pipeline/progress.py", False),
        ("ods", "vecaf_lib/report/tables.py", False),
    ],
)
def test_the_digest_follows_the_code_that_ran(
    folder: Path, monkeypatch: pytest.MonkeyPatch, select: str, changed: str, matters: bool
) -> None:
    job = make_job(folder, folder, method=METHOD | {"select": select})
    before = job.provenance()
    digests = job_module.code_digests

    def edited(files: Any, root: Path) -> dict[str, str]:
        return {
            name: "x" if name == changed else code for name, code in digests(files, root).items()
        }

    assert (ROOT / changed).is_file()
    monkeypatch.setattr(job_module, "code_digests", edited)
    assert (job.provenance()["digest"] != before["digest"]) == matters


@pytest.mark.parametrize(
    ("ratio", "sentence"),
    [
        (0.04, r"ratio: 0\.04 % of 1000 samples is less than one; use at least 0\.1"),
        (0.0, r"ratio: 0 % is not a share of the pool; use more than 0, up to 100"),
        (100.1, r"ratio: 100\.1 % is not a share of the pool; use more than 0, up to 100"),
    ],
)
def test_no_run_starts_if_one_budget_is_wrong(
    folder: Path, tmp_path: Path, performed: list[str], ratio: float, sentence: str
) -> None:
    grid = [{"ratios": [1.0, ratio], "loops": [2], "multi_run": [True]}]
    bad = specs("digits", "vecaf", {"grid": grid}, [0])
    with pytest.raises(BadInput, match=sentence):
        make_runs({"vecaf": make_job(folder, tmp_path / "runs")}, bad)
    assert performed == []
    assert not (tmp_path / "runs").exists()


def test_no_run_starts_if_a_batch_is_larger_than_the_pool(
    folder: Path, tmp_path: Path, performed: list[str]
) -> None:
    job = make_job(folder, tmp_path / "runs", training=TRAINING | {"batch_size": 1002})
    with pytest.raises(BadInput, match=r"batch_size is 1002, but the pool has 1000 images; use at"):
        make_runs({"vecaf": job}, wanted())
    assert performed == []


def test_text_embeddings_of_another_pool(folder: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "text.npy", np.zeros((999, 12), dtype=np.float32))
    job = make_job(folder, tmp_path / "runs", text=tmp_path / "text.npy")
    with pytest.raises(
        BadInput, match=r"text\.npy has the shape \(999, 12\), but the pool needs 1000"
    ):
        make_runs({"vecaf": job}, wanted((0,)))
    assert not list((tmp_path / "runs").rglob(f"*{SUFFIX}"))


def test_text_embeddings_of_the_wrong_width(folder: Path, tmp_path: Path) -> None:
    cea = {"mode": "paper", "bridge": "identity"}
    job = make_job(folder, tmp_path / "runs", method=METHOD | {"cea": cea})
    sentence = "cea.bridge: 'identity' needs equal widths, but text has 12 and images have 1280"
    with pytest.raises(BadInput, match=sentence):
        make_runs({"vecaf": job}, wanted((0,)))


def test_killed_at_any_moment_the_bytes_are_the_same(
    folder: Path, tmp_path: Path, reference: dict[str, bytes]
) -> None:
    """kill -9 after the first run file; then the rest, and no finished run is made twice.

    Two workers made what survived, one process made the reference: their bytes are equal, too.
    """
    runs = tmp_path / "runs"
    both = make_job(folder, runs, compute=COMPUTE | {"workers": 2})
    (tmp_path / "job").write_bytes(pickle.dumps((both, wanted())))
    command = [sys.executable, "-c", CHILD, str(tmp_path / "job")]
    parent = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE)
    family: list[psutil.Process] = []
    try:
        deadline = time.monotonic() + 90
        while not list(runs.rglob(f"*{SUFFIX}")):
            assert parent.poll() is None, parent.stderr and parent.stderr.read().decode()
            assert time.monotonic() < deadline, "no run was finished"
            time.sleep(0.01)
        family = psutil.Process(parent.pid).children(recursive=True)
        workers = [p for p in family if p.ppid() != parent.pid]  # forked by the fork server
        assert len(workers) == 2
    finally:
        parent.kill()
        parent.wait()
    _, alive = psutil.wait_procs(family, timeout=10)
    for process in alive:
        process.kill()
    assert not alive
    survivors = {path: path.stat().st_mtime_ns for path in runs.rglob(f"*{SUFFIX}")}
    assert 1 <= len(survivors) < 4, "the kill came too late to prove anything"

    assert make_runs({"vecaf": make_job(folder, runs)}, wanted()) == 4 - len(survivors)
    made = contents(runs)
    assert {name: data for name, data in made.items() if name.endswith(SUFFIX)} == reference
    assert {path: path.stat().st_mtime_ns for path in survivors} == survivors
    assert set(made) == set(reference), "a part of a file was left behind"


def test_the_store_reads_the_whole_grid(finished: Path) -> None:
    runs = RunStore(finished).load_grid(wanted())
    assert [run["run"]["seed"] for run in runs] == [0, 1, 0, 1]


def test_a_styled_method_trains_on_the_styled_images_of_its_domain(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vecaf_lib.datasets import ImageSet
    from vecaf_lib.pipeline import run as run_module

    asked: list[dict[str, Any]] = []

    def darkened(train: ImageSet, **options: Any) -> ImageSet:
        asked.append(options)
        ids = tuple(f"{name}+stylised" for name in train.ids)
        return ImageSet(train.images // 8, train.labels, ids, train.class_names)

    monkeypatch.setattr(run_module, "stylised", darkened)
    style = {"model": "tiny", "weights": "somewhere", "steps": 3, "batch_size": 2}
    plain = METHOD | {"select": "random", "options": {}, "cea": None, "domain": "snowy"}
    told = [
        run_module.make_run(
            make_job(folder, tmp_path, method=plain | {"stylise": given}),
            RunSpec("digits", "clipstyler", True, 10.0, 1, 0),
        )
        for given in (None, style)
    ]
    assert [(a["prompt"], a["steps"], a["seed"]) for a in asked] == [("It's a snowy day.", 3, 0)]
    first, second = ([loop["chosen"] for loop in run["loops"]] for run in told)
    assert second[0] == [f"{name}+stylised" for name in first[0]]
    assert told[0]["train_loss"] != told[1]["train_loss"]
