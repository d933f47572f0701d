"""Every notebook, run as a stage on a tiny profile and then by hand with nothing passed in."""

import shutil
from pathlib import Path

import nbformat
import pandas as pd
import pytest
import yaml
from test_readers_notebooks import (
    NOTEBOOKS,
    execute_all,
    few_digits,
    figures_without_picture,
    run_python,
    texts,
)

from vecaf_lib.pipeline.settings import read
from vecaf_lib.results.frame import tidy
from vecaf_lib.results.runs import RunStore, runs_of

ROOT = Path(__file__).parents[1]
LEFT_OUT = ("sources", "site")
STAGES = [path.stem for path in NOTEBOOKS if path.stem[0] != "0"]

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose smoke profile is cut to 300 images and runs of six steps, all stages done."""
    folder = tmp_path_factory.mktemp("project")
    shutil.copytree(ROOT / "notebooks", folder / "notebooks")
    few_digits(folder)
    content = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    methods = ["random", "full", "activeft", "vecaf"]
    names = ["probe", "learnloss", *methods]
    content["methods"] = {name: content["methods"][name] for name in names}
    for method in content["methods"].values():
        method["domains"] = []
    for name in ("activeft", "vecaf"):
        content["methods"][name]["options"]["iterations"] = 6
    content["training"] |= {"steps": 6, "evaluate_every": 3}
    content["seeds"], content["text"] = [0], {"name": "hashed"}
    content["compute"]["workers"] = 1  # two would import for seconds each, for a second's work
    content["tables"] = {
        "table1": {"methods": names, "ratios": [0.4], "reference": "activeft"}  # one image
        | {"sets": content["figures"]["sets"]}
    }
    content["figures"] |= {"methods": methods, "ratio": 0.4, "loss_window": 2}
    content["figures"]["target_accuracy"] = [20]
    (folder / "params.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    shutil.copy(ROOT / "dvc.yaml", folder)
    code = "import json, sys; from vecaf_lib.cli import main; [*map(main, json.loads(sys.argv[1]))]"
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"].values()
    commands = [stage["cmd"].replace("data/generated/notebooks/", "notebooks/") for stage in stages]
    words = [command.split()[1:] for command in commands]
    run_python(code, [part for part in words if part[0] not in LEFT_OUT], folder)
    return folder


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def by_hand(project: Path) -> dict[str, str]:
    """What went wrong by hand, by notebook, and under ``tracked`` what changed of the report."""
    before = files_of(project / "reports")
    sources = [project / "notebooks" / f"{name}.ipynb" for name in STAGES]
    wrong = execute_all(sources, project / "done")
    after = files_of(project / "reports")
    changed = sorted(path for path in before | after if before.get(path) != after.get(path))
    return wrong | ({"tracked": " ".join(changed)} if changed else {})


@pytest.mark.parametrize("name", STAGES)
def test_run_all_by_hand(project: Path, by_hand: dict[str, str], name: str) -> None:
    assert name not in by_hand, by_hand[name]
    for folder in ("done", "reports/smoke/notebooks"):
        executed = nbformat.read(project / folder / f"{name}.ipynb", as_version=4)
        assert figures_without_picture(executed) == []


def test_by_hand_what_is_tracked_stays_as_it_was(by_hand: dict[str, str]) -> None:
    assert "tracked" not in by_hand, by_hand["tracked"]


def test_the_notebook_of_the_runs_chose_what_the_stored_run_chose(project: Path) -> None:
    stored = project / "reports" / "smoke" / "notebooks" / "30_runs.ipynb"
    assert "3 of 3 selections are the stored run's" in texts(nbformat.read(stored, as_version=4))


def test_totals_of_the_frame_and_of_table_1_are_those_of_the_stored_runs(project: Path) -> None:
    report = project / "reports" / "smoke"
    runs = runs_of(read(project / "params.yaml").model_dump(mode="json"))
    results = [content["result"] for content in RunStore(report / "runs").load_all(runs)]
    total = sum(result["test_accuracy"] for result in results)
    assert tidy(report / "runs", runs)["accuracy"].sum() == pytest.approx(total, abs=1e-9)
    table = pd.read_csv(report / "tables" / "table1.csv")
    assert (table["mean"] * table["n"]).sum() == pytest.approx(total, abs=1e-3)
