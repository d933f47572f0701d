"""The tidy frames hold what the run files hold, counted another way."""

import gzip
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from vecaf_lib.results.frame import (
    batches_to,
    curves,
    first_loops,
    losses,
    selections,
    severities,
    tidy,
)


def contents(path: Path) -> dict[str, Any]:
    """A run file's result, read without the library."""
    return dict(json.loads(gzip.decompress(path.read_bytes()))["result"])


@pytest.fixture
def folder(small: Any) -> Any:
    small.runs_asked = small.train()
    return small


def test_a_row_a_run_and_tested_set(folder: Any) -> None:
    frame = tidy(folder.runs, folder.runs_asked)
    own = frame[frame["domain"] == ""]
    assert list(own["file"]) == [run.file for run in folder.runs_asked]
    assert own["accuracy"].sum() == pytest.approx(
        sum(contents(folder.runs / file)["test_accuracy"] for file in own["file"])
    )
    tested = frame[frame["domain"] == "snowy"]
    assert set(tested["method"]) == {"full", "activeft", "vecaf", "vecaf_tau"}
    means = [contents(folder.runs / f)["domains"]["snowy"]["mean"] for f in tested["file"]]
    assert list(tested["accuracy"]) == means
    assert own["recall"].notna().equals(own["target"] != "")
    assert own["mean_class_accuracy"].notna().equals(own["target"] == "")
    assert not frame.duplicated(["file", "domain"]).any()


def test_severities_curves_losses_selections(folder: Any) -> None:
    runs = folder.runs_asked
    by_severity = severities(folder.runs, runs)
    assert set(by_severity["severity"]) == {"1", "3", "5", "mean"}
    points, steps = curves(folder.runs, runs), losses(folder.runs, runs)
    assert len(points) == 3 * len(runs)
    assert steps.groupby("file")["step"].min().eq(1).all()
    assert steps.groupby("file")["step"].max().eq(12).all()
    first = contents(folder.runs / runs[0].file)
    assert list(steps.loc[steps["file"] == runs[0].file, "loss"]) == first["train_loss"]
    chosen = selections(folder.runs, runs)
    assert len(chosen) == sum(run.loops for run in runs)


def test_first_loops(folder: Any) -> None:
    frame = first_loops(folder.runs, folder.runs_asked)
    # Three evaluations in 12 steps: with four loops the first of them has no evaluation.
    selecting = [r.file for r in folder.runs_asked if r.method != "full" and r.loops < 4]
    assert list(frame["file"]) == selecting
    first = contents(folder.runs / selecting[0])
    assert frame.iloc[0]["first_set"] == ("image-1",)
    assert frame.iloc[0]["validation_accuracy"] == first["curve"][0]["validation_accuracy"]


def test_batches_to_a_target_count_runs_that_never_arrive() -> None:
    points = pd.DataFrame(
        [("a", 5, 40.0), ("a", 10, 60.0), ("a", 15, 55.0), ("b", 5, 10.0), ("b", 10, 49.9)],
        columns=["file", "step", "validation_accuracy"],
    ).assign(method="vecaf", seed=0)
    found = batches_to(points, 50.0).set_index("file")
    assert found["batches"].to_dict() == {"a": 10, "b": 10}
    assert found["reached"].to_dict() == {"a": True, "b": False}
    assert batches_to(points, 40.0)["batches"].tolist() == [5, 10]  # at least the target
