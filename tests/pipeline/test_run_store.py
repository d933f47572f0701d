"""Runs are stored whole, checked when read, and told apart from stale ones."""

import gzip
from pathlib import Path
from typing import Any

import pytest

from vecaf_lib.errors import BadInput
from vecaf_lib.files import sha256_json
from vecaf_lib.pipeline.store import RunSpec, RunStore
from vecaf_lib.run_files import read_run, write_run

SPEC = RunSpec(dataset="digits", method="vecaf", multi_run=True, ratio=5, loops=3, seed=0)
RESULT = {"test_accuracy": 87.4, "loops": [{"loop": 1, "chosen": ("digits-0003",)}]}
PROVENANCE = {"digest": "abc", "code": {}}


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    store = RunStore(tmp_path / "runs")
    store.save(SPEC, RESULT, PROVENANCE)
    return store


def edit(path: Path, checksum: bool, **changes: Any) -> None:
    content = read_run(path) | changes
    if checksum:
        content["checksum"] = sha256_json({k: v for k, v in content.items() if k != "checksum"})
    write_run(path, content)


def test_names_and_places() -> None:
    root = Path("runs")
    single = RunSpec("digits", "full", False, 0.5, 2, 7)
    assert SPEC.path(root) == root / "vecaf" / "multi-r5-l3-s0.json.gz"
    assert single.path(root) == root / "full" / "single-r0.5-l2-s7.json.gz"
    assert RunSpec("digits", "vecaf", True, 5.0, 3, 0) == SPEC


def test_what_is_saved_is_loaded(store: RunStore) -> None:
    content = store.load(SPEC)
    assert content["format"] == "vecaf-run-1"
    assert content["run"] == {
        "dataset": "digits",
        "method": "vecaf",
        "multi_run": True,
        "ratio": 5.0,
        "loops": 3,
        "seed": 0,
        "target": "",
    }
    assert content["result"]["loops"][0]["chosen"] == ["digits-0003"]
    assert content["provenance"] == PROVENANCE


def test_saving_twice_gives_the_same_bytes(store: RunStore) -> None:
    before = SPEC.path(store.root).read_bytes()
    store.save(SPEC, dict(reversed(RESULT.items())), PROVENANCE)
    assert SPEC.path(store.root).read_bytes() == before


def test_a_run_is_finished_if_stored_undamaged_with_the_same_digest(store: RunStore) -> None:
    assert store.finished(SPEC, "abc")
    assert not store.finished(SPEC, "other code")
    assert not store.finished(RunSpec("digits", "vecaf", True, 5, 3, 1), "abc")
    edit(SPEC.path(store.root), checksum=False, result={"test_accuracy": 99.9})
    assert not store.finished(SPEC, "abc")


@pytest.mark.parametrize(
    ("changes", "checksum", "reason"),
    [
        ({"result": {"test_accuracy": 99.9}}, False, "is damaged .*checksum"),
        ({"format": "vecaf-run-0"}, True, "has the format 'vecaf-run-0'"),
        ({"run": {"dataset": "digits"}}, True, "holds another run"),
    ],
)
def test_an_edited_file_is_refused(
    store: RunStore, changes: dict[str, Any], checksum: bool, reason: str
) -> None:
    path = SPEC.path(store.root)
    edit(path, checksum, **changes)
    with pytest.raises(BadInput, match=rf"multi-r5-l3-s0\.json\.gz {reason}.*delete it and run"):
        store.load(SPEC)


def zipped(text: bytes) -> bytes:
    return gzip.compress(text, mtime=0)  # the second of the import must not enter a test's name


WHOLE = zipped(b'{"format": "vecaf-run-1", "run": {}, "result": {}, "provenance": {}}')


@pytest.mark.parametrize(
    "data",
    [
        *(b"", b"{}", WHOLE[:2], WHOLE[:20], WHOLE[:-8] + bytes(8), WHOLE[:14] + b"?" + WHOLE[15:]),
        *map(zipped, [b"", b'{"format": "vecaf-', b"[]", b"{}", b"\xff"]),
    ],
)
def test_a_truncated_or_spoilt_file_is_refused(store: RunStore, data: bytes) -> None:
    SPEC.path(store.root).write_bytes(data)
    with pytest.raises(BadInput, match=r"multi-r5-l3-s0\.json\.gz is .*delete it and"):
        store.load(SPEC)
    assert not store.finished(SPEC, "abc")


def test_a_result_that_is_not_finite_is_not_stored(store: RunStore) -> None:
    spec = RunSpec("digits", "vecaf", True, 5, 3, 1)
    with pytest.raises(BadInput, match="vecaf multi-r5-l3-s1 has a NaN"):
        store.save(spec, {"train_loss": [float("nan")]}, PROVENANCE)
    assert not spec.path(store.root).exists()


def test_a_grid_is_read_exactly(store: RunStore) -> None:
    other = RunSpec("digits", "vecaf", True, 5, 3, 1)
    left_over = RunSpec("digits", "vecaf", True, 10, 3, 0)
    for spec in (other, left_over):
        store.save(spec, RESULT, PROVENANCE)
    assert [run["run"]["seed"] for run in store.load_grid([other, SPEC])] == [1, 0]


def test_missing_cells_of_a_grid_are_counted_and_named(store: RunStore) -> None:
    grid = [RunSpec("digits", "vecaf", True, 5, 3, seed) for seed in range(6)]
    with pytest.raises(BadInput) as caught:
        store.load_grid(grid)
    sentence = str(caught.value)
    assert sentence.startswith("5 of 6 runs are missing")
    names = "(vecaf multi-r5-l3-s1, vecaf multi-r5-l3-s2, vecaf multi-r5-l3-s3, ...)"
    assert names in sentence
