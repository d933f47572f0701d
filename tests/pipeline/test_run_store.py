"""Runs are stored whole, checked when read, and told apart from stale ones."""

import gzip
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.names import HOSTILE
from vecaf_lib.errors import BadInput
from vecaf_lib.files import read_run, sha256_json, write_run
from vecaf_lib.results.runs import Run, RunStore, runs_of

RUN = Run(dataset="digits", method="vecaf", multi_run=True, ratio=5, loops=3, seed=0)
RESULT = {"test_accuracy": 87.4, "loops": [{"loop": 1, "chosen": ("digits-0003",)}]}
PROVENANCE = {"digest": "abc", "code": {}}


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    store = RunStore(tmp_path / "runs")
    store.save(RUN, RESULT, PROVENANCE)
    return store


def test_names_and_files() -> None:
    assert RUN.file == "vecaf/multi-r5-l3-s0.json.gz"
    assert Run("digits", "full", False, 0.5, 2, 7).file == "full/single-r0.5-l2-s7.json.gz"
    assert replace(RUN, target="tabby_cat").name == "multi-r5-l3-s0-ttabby_cat"
    assert replace(RUN, sets="kept").name == "multi-kept-r5-l3-s0"
    assert replace(RUN, target="cat", reading="selection").name == "multi-r5-l3-s0-scat"
    assert Run("digits", "vecaf", True, 5.0, 3, 0) == RUN


SOME = st.builds(
    Run,
    st.just("digits"),
    st.sampled_from(["vecaf", "full"]),
    st.booleans(),
    st.sampled_from([2, 2.0, 2.0000001, 0.5, 1e-5, 100]),
    st.integers(1, 12),
    st.integers(0, 12),
    st.text() | st.sampled_from(HOSTILE),
    sets=st.sampled_from(["fresh", "kept"]),
    reading=st.just(""),
)


@given(st.sets(SOME))
@example({replace(RUN, target=name) for name in HOSTILE})
def test_runs_and_files_are_one_to_one(runs: set[Run]) -> None:
    runs |= {replace(run, reading="selection") for run in runs if run.target}
    assert len({run.file.casefold() for run in runs}) == len(runs)


def test_the_runs_that_tables_and_figures_ask_for() -> None:
    methods = {
        "vecaf": {"select": "ods", "repetitions": None},
        "rival": {"select": "learnloss", "repetitions": 1},
        "full": {"select": "full", "repetitions": None},
        "styled": {"select": "full", "repetitions": None},
    }
    table1 = {"methods": ["vecaf", "full"], "single_run": ["rival"], "ratios": [2, 5], "loops": [3]}
    settings = {
        "dataset": {"name": "digits"},
        "seeds": [0, 1],
        "methods": methods,
        "tables": {
            "replication": table1 | {"methods": ["rival"], "single_run": [], "seeds": [7, 8]},
            "table2": table1 | {"methods": ["vecaf"], "single_run": [], "targets": ["cat", "dog"]},
            "table3": table1 | {"methods": ["full", "styled"], "optional": ["styled"]},
            "table1": table1,
        },
        "figures": {"methods": ["vecaf", "rival"], "ratio": 5, "loops": 4},
    }
    files = [run.file.removesuffix(".json.gz") for run in runs_of(settings)]
    assert files == [
        *(f"vecaf/multi-r{ratio}-l3-s{seed}" for ratio in (2, 5) for seed in (0, 1)),
        *(f"full/single-r100-l3-s{seed}" for seed in (0, 1)),
        *(f"rival/single-r{ratio}-l3-s0" for ratio in (2, 5)),
        *(
            f"vecaf/multi-r{ratio}-l3-s{seed}-t{target}"
            for ratio in (2, 5)
            for seed in (0, 1)
            for target in ("cat", "dog")
        ),
        *(f"rival/multi-r{ratio}-l3-s{seed}" for ratio in (2, 5) for seed in (7, 8)),
        *(f"vecaf/multi-r5-l4-s{seed}" for seed in (0, 1)),
        "rival/multi-r5-l4-s0",
    ]


def test_kept_sets_and_readings() -> None:
    table = {"methods": ["vecaf", "full"], "single_run": ["vecaf"], "ratios": [5], "loops": [3]}
    both = {"sets": ["fresh", "kept"], "readings": ["finetuning", "selection"]}
    settings = {
        "dataset": {"name": "digits"},
        "seeds": [0],
        "methods": {name: {"select": name, "repetitions": None} for name in ("vecaf", "full")},
        "tables": {"table1": table | both, "table2": table | both | {"targets": ["cat"]}},
        "figures": {"methods": ["full", "vecaf"], "ratio": 2, "loops": 3, "sets": ["kept"]},
    }
    files = [run.file.removesuffix("-l3-s0.json.gz") for run in runs_of(settings)]
    first = ["vecaf/multi-r5", "vecaf/multi-kept-r5", "full/single-r100", "vecaf/single-r5"]
    assert files == [
        *first,  # without a target there is one reading
        *(f"{name}-l3-s0-{loss}cat.json.gz" for name in first for loss in "ts"),
        "vecaf/multi-kept-r2",
    ]


def test_a_file_that_names_neither_sets_nor_reading_is_of_fresh_sets(store: RunStore) -> None:
    path = store.folder / RUN.file
    content = {name: value for name, value in read_run(path).items() if name != "checksum"}
    for name in ("sets", "reading"):
        del content["run"][name]
    write_run(path, content | {"checksum": sha256_json(content)})
    assert store.load(RUN)["result"]["test_accuracy"] == 87.4
    with pytest.raises(BadInput, match="missing"):
        store.load_all([replace(RUN, sets="kept")])


def test_what_is_saved_is_loaded(store: RunStore) -> None:
    content = store.load(RUN)
    assert content["format"] == "vecaf-run-1"
    assert content["run"]["ratio"] == 5.0
    assert content["result"]["loops"][0]["chosen"] == ["digits-0003"]
    assert content["provenance"] == PROVENANCE
    before = (store.folder / RUN.file).read_bytes()
    store.save(RUN, dict(reversed(RESULT.items())), PROVENANCE)
    assert (store.folder / RUN.file).read_bytes() == before
    assert store.finished(RUN, "abc")
    assert not store.finished(RUN, "other code")
    assert not store.finished(replace(RUN, seed=1), "abc")


@pytest.mark.parametrize(
    ("changes", "checksum", "reason"),
    [
        ({"result": {"test_accuracy": 99.9}}, False, "is damaged .*checksum"),
        ({"format": "vecaf-run-0"}, True, "is damaged .*format"),
        ({"run": {"dataset": "digits"}}, True, "holds another run"),
    ],
    ids=["result", "format", "run"],
)
def test_an_edited_file_is_refused(
    store: RunStore, changes: dict[str, Any], checksum: bool, reason: str
) -> None:
    path = store.folder / RUN.file
    content = read_run(path) | changes
    if checksum:
        content["checksum"] = sha256_json({k: v for k, v in content.items() if k != "checksum"})
    write_run(path, content)
    with pytest.raises(BadInput, match=rf"multi-r5-l3-s0\.json\.gz {reason}.*delete it and run"):
        store.load(RUN)
    assert not store.finished(RUN, "abc")


def zipped(text: bytes) -> bytes:
    return gzip.compress(text, mtime=0)


WHOLE = zipped(b'{"format": "vecaf-run-1", "run": {}, "result": {}, "provenance": {}}')
SPOILT = {
    "empty": b"",
    "no gzip": b"{}",
    "half": WHOLE[:20],
    "wrong checksum": WHOLE[:-8] + bytes(8),
    "half of JSON": zipped(b'{"format": "vecaf-'),
    "a list": zipped(b"[]"),
    "no text": zipped(b"\xff"),
    "no checksum": WHOLE,
}


@pytest.mark.parametrize("name", SPOILT)
def test_a_truncated_or_spoilt_file_is_refused(store: RunStore, name: str) -> None:
    (store.folder / RUN.file).write_bytes(SPOILT[name])
    with pytest.raises(BadInput, match=r"multi-r5-l3-s0\.json\.gz is .*delete it and"):
        store.load(RUN)
    assert not store.finished(RUN, "abc")


def test_a_result_that_is_not_finite_is_not_stored(store: RunStore) -> None:
    run = replace(RUN, seed=1)
    with pytest.raises(BadInput, match=r"multi-r5-l3-s1\.json\.gz has a NaN"):
        store.save(run, {"train_loss": [float("nan")]}, PROVENANCE)
    assert not (store.folder / run.file).exists()


def test_exactly_the_runs_are_read_and_missing_ones_are_named(store: RunStore) -> None:
    other, left_over = replace(RUN, seed=1), replace(RUN, ratio=10)
    for run in (other, left_over):
        store.save(run, RESULT, PROVENANCE)
    assert [run["run"]["seed"] for run in store.load_all([other, RUN])] == [1, 0]
    with pytest.raises(BadInput, match=r"^4 of 6 runs are missing .*multi-r5-l3-s2.*, \.\.\."):
        store.load_all([replace(RUN, seed=seed) for seed in range(6)])
