"""A small project with invented runs, in which notebooks' cells are executed in this process."""

import json
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cells
import pytest

from vecaf_lib.pipeline.project import SETTINGS
from vecaf_lib.results.runs import Run, RunStore, runs_of

ROOT = Path(__file__).parents[2]
SEEDS = [0, 1, 2]
LEVELS = {"random": 70, "activeft": 74, "vecaf": 80, "full": 84, "vecaf_neither": 72}
ODS = {"tau": 0.07, "loss_power": 1.0}
METHODS: dict[str, dict[str, Any]] = {
    name: {"select": select, "options": options, "cea": cea, "domain": None, "domains": domains}
    | {"vision": None, "text": None, "repetitions": None}
    | {"first_losses": "uniform", "probe": name == "probe"}
    for name, select, options, cea, domains in [
        ("random", "random", {}, None, []),
        ("probe", "random", {}, None, []),
        ("learnloss", "learnloss", {}, None, []),
        ("topk_loss", "topk_loss", {}, None, []),
        ("full", "full", {}, None, ["snowy"]),
        ("activeft", "activeft", {}, None, ["snowy"]),
        ("vecaf", "ods", ODS, {"form": "scaled"}, ["snowy"]),
        ("vecaf_no_cea", "ods", ODS, None, []),
        ("vecaf_no_ods", "ods", {**ODS, "loss_power": 0.0}, {"form": "scaled"}, []),
        ("vecaf_neither", "ods", {**ODS, "loss_power": 0.0}, None, []),
        ("vecaf_tau", "ods", {**ODS, "tau": 0.5}, {"form": "scaled"}, ["snowy"]),
        ("clipstyler_snowy", "full", {}, None, ["snowy"]),
    ]
}
TABLE = {"single_run": [], "ratios": [5.0], "loops": [3], "targets": [], "seeds": []}
TABLE |= {"reference": None, "by_class": False, "optional": []}
TABLE |= {"sets": ["fresh"], "readings": ["finetuning"]}
SECTIONS: dict[str, Any] = {
    "profile": "small",
    "stands_for": None,
    "dataset": {"name": "digits", "image_size": 32, "blind": False},
    "domains": {"snowy": {"prompt": "It's a snowy day.", "corruption": "snow"}},
    "vision": {"name": "lite0"},
    "text": {"name": "minilm"},
    "training": {"steps": 12, "batch_size": 8},
    "seeds": SEEDS,
    "methods": METHODS,
    "tables": {
        "table1": TABLE
        | {"methods": ["random", "full", "activeft", "vecaf"], "single_run": ["activeft"]}
        | {"ratios": [1.0, 5.0], "reference": "activeft", "by_class": True},
        "table2": TABLE | {"methods": ["activeft", "vecaf"], "targets": ["three", "eight"]},
        "table3": TABLE
        | {"methods": ["full", "clipstyler_snowy", "activeft", "vecaf"]}
        | {"optional": ["clipstyler_snowy"]},
        "table6": TABLE
        | {"methods": ["vecaf_neither", "vecaf_no_cea", "vecaf_no_ods", "vecaf"]}
        | {"reference": "vecaf_neither"},
        "table7": TABLE | {"methods": ["vecaf"], "loops": [2, 3, 4]},
        "decisions": TABLE | {"methods": ["vecaf", "vecaf_tau"], "reference": "vecaf"},
        "replication": TABLE
        | {"methods": ["activeft", "vecaf"], "seeds": [7, 8], "reference": "activeft"},
    },
    "figures": {"methods": ["full", "activeft", "vecaf"], "ratio": 5.0, "loops": 3}
    | {"sets": ["fresh"], "loss_window": 2, "target_accuracy": [50.0, 79.0]},
}
COST = {
    "steps": 12,
    "loops": 3,
    "parts": {
        "captioning": {"gflops": None, "seconds": 0.5, "times": 10},
        "text encoding": {"gflops": 2.0, "seconds": 0.1, "times": 10},
        "CEA": {"gflops": 1.0, "seconds": 0.2, "times": 3},
        "embedding passes": {"gflops": 0.5, "seconds": 0.1, "times": 30},
        "selection": {"gflops": 4.0, "seconds": 1.0, "times": 3},
        "finetuning": {"gflops": 10.0, "seconds": 2.0, "times": 12},
    },
}


def result_of(run: Run) -> dict[str, Any]:
    """An invented result: a method's level, and a few points by the run's name."""
    noise = zlib.crc32(run.file.encode()) % 1000 / 500
    accuracy = LEVELS.get(run.method, 76) + 3 * run.multi_run + run.loops + noise
    test = {"mean_class_accuracy": accuracy - 3}
    if run.target:
        test = {"recall": accuracy - 1, "specificity": accuracy + 1}
    steps = [4, 8, 12]
    severities = {str(at): accuracy - 10 * at for at in (1, 3, 5)} | {"mean": accuracy - 30}
    return {
        "test_accuracy": accuracy,
        "test": test,
        "labels_seen": "all" if run.method.startswith("vecaf") else "chosen",
        "domains": dict.fromkeys(METHODS[run.method]["domains"], severities),
        "curve": [{"step": s, "validation_accuracy": accuracy * s / 12} for s in steps],
        "train_loss": [2.0 / (1 + step) + noise for step in range(12)],
        "loops": [
            {"loop": at, "chosen": None if run.method == "full" else [f"image-{at}"]}
            | {"selection": {"empty_centroids": at / 100}, "cea": {"prompt_move": at / 10}}
            for at in range(1, run.loops + 1)
        ],
    }


class Small:
    """The project; ``change`` its sections, then ``execute`` notebooks."""

    def __init__(self, root: Path) -> None:
        self.root, self.sections = root, json.loads(json.dumps(SECTIONS))
        self.displayed: list[Any] = []  # by notebooks
        for name in ("params.yaml", "dvc.yaml"):
            (root / name).write_text("")
        shutil.copytree(ROOT / "data" / "paper", root / "data" / "paper")
        (root / "notebooks").mkdir()
        shutil.copy(ROOT / "notebooks" / "figures.mplstyle", root / "notebooks")
        (root / "reports" / "small").mkdir(parents=True)
        (root / "reports" / "small" / "cost.json").write_text(json.dumps(COST))

    @property
    def runs(self) -> Path:
        """The folder of run files."""
        return self.root / "reports" / "small" / "runs"

    def train(self, result: Callable[[Run], dict[str, Any]] = result_of) -> list[Run]:
        """Write a file for each run that the tables ask for."""
        for run in runs_of(self.sections):
            RunStore(self.runs).save(run, result(run), {"digest": "of the test"})
        return runs_of(self.sections)

    def execute(self, notebook: str, **parameters: str) -> dict[str, Any]:
        """Execute the code cells in this process, as papermill would with these parameters.

        Returns:
            The variables that the cells leave behind.
        """
        folder = self.root / "settings"
        folder.mkdir(exist_ok=True)
        for name, section in self.sections.items():
            (folder / f"{name}.json").write_text(json.dumps(section))
        display = {"display": lambda *things: self.displayed.extend(things)}
        return cells.execute(notebook, parameters, **display)


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Small:
    """A project without runs."""
    project = Small(tmp_path)
    monkeypatch.setenv(SETTINGS, str(tmp_path / "settings"))
    monkeypatch.chdir(tmp_path)
    return project
