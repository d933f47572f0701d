"""A search reads no test image, keeps what is finished, and says what is wrong in a sentence."""

import json
import shutil
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
import yaml
from cells import execute

from vecaf_lib.errors import BadInput
from vecaf_lib.pipeline import run as run_module
from vecaf_lib.pipeline.settings import change

ROOT = Path(__file__).parents[2]
SHORT = {"training.steps": 6, "training.evaluate_every": 6, "figures.loss_window": 1}
RATE = {
    "methods": ["random", "full"],
    "ratios": [2, 5],
    "settings": [{"training.learning_rate": 0.01}, {"training.learning_rate": 0.1}],
}
Names = dict[str, Any]


def search(until: str = "", rounds: str = "") -> Names:
    """The names of the notebook, run in the working folder, up to the cell with that text."""
    given = {"rounds": rounds, "output": "out.csv"}
    return execute("05_search.ipynb", given, until, __name__="search")


def plan(**content: Any) -> None:
    Path("profiles/search/smoke.yaml").write_text(yaml.safe_dump(content))


def profile(name: str) -> Any:
    shutil.copy(ROOT / "profiles" / f"{name}.yaml", "params.yaml")
    return yaml.safe_load(Path("params.yaml").read_text())


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder: a project with a short smoke profile and its embeddings."""
    monkeypatch.chdir(tmp_path)
    mpl.use("Agg")
    shutil.copytree(ROOT / "profiles/search", tmp_path / "profiles/search")
    for name in ("notebooks", "dvc.yaml", "data/digits"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).symlink_to(ROOT / name)
    content = change(profile("smoke"), SHORT | {"compute.workers": 1})
    Path("params.yaml").write_text(yaml.safe_dump(content))
    plan(seeds=[7, 8], rounds={"rate": RATE})
    made = tmp_path / "data/generated/smoke"
    (made / "embeddings").mkdir(parents=True)
    (made / "inputs.json").write_text(json.dumps({"images": "digits", "captions": None}))
    for job in search("make_runs(")["jobs"].values():
        image = job.views.image_file(made / "embeddings")
        np.save(image, np.ones((1000, 1280), dtype=np.float32))
    return tmp_path


def test_a_search_is_blind_to_the_test_split_and_kept(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    splits: list[str] = []
    load = run_module._images

    def noted(dataset: str, split: str, data: str) -> Any:
        splits.append(split)
        return load(dataset, split, data)

    monkeypatch.setattr(run_module, "_images", noted)
    table = search()["table"]
    assert "validation" in splits
    assert "test" not in splits
    assert list(zip(table["method"], table["ratio"], strict=True)) == [
        *[("random", 2.0), ("random", 5.0)] * 2,
        *[("full", 100.0)] * 2,
    ]
    assert table["setting"].tolist()[0] == "training.learning_rate 0.01"
    assert (table["n"] == 2).all()
    assert table["mean"].between(0, 100).all()
    runs = sorted((project / "data/generated/smoke/search").glob("*/*.json.gz"))
    assert len(runs) == 2 * 2 * 2 + 2 * 2
    before = {path: path.stat().st_mtime_ns for path in runs}
    pd.DataFrame({"round": ["rate", "other"], "mean": [1.0, 2.0]}).to_csv("out.csv", index=False)
    assert search(rounds="rate")["table"].equals(table)
    assert {path: path.stat().st_mtime_ns for path in runs} == before
    after = pd.read_csv("out.csv")  # the other rounds' lines stay
    assert after["round"].tolist() == ["other", *["rate"] * 6]
    assert after["mean"].tolist()[1:] == pytest.approx(table["mean"].tolist(), abs=1e-4)


def jobs(**changes: Any) -> list[Any]:
    plan(seeds=[7], rounds={"rate": RATE | {"ratios": [2]} | changes})
    return [job.settings for job in search("make_runs(")["jobs"].values()]


def test_a_setting_is_changed_where_its_name_says() -> None:
    eta = {"method.cea.eta": 0.3}
    derived, own = jobs(methods=["vecaf_no_ods", "vecaf"], settings=[eta])
    assert derived["methods"]["vecaf_no_ods"]["cea"]["eta"] == 0.3
    assert own["methods"]["vecaf"]["cea"]["eta"] == 0.3
    assert derived["methods"]["vecaf"]["cea"]["eta"] == 0.2
    assert own["methods"]["vecaf_no_ods"]["cea"]["eta"] == 0.2
    both = eta | {"method.options.tau": 0.5, "training.learning_rate": 0.2}
    (settings,) = jobs(methods=["vecaf"], settings=[both])
    assert settings["methods"]["vecaf"]["options"]["tau"] == 0.5
    assert settings["methods"]["vecaf_no_cea"]["options"]["tau"] == 0.07
    assert settings["training"]["learning_rate"] == 0.2


def trying(method: str, **setting: Any) -> dict[str, Any]:
    return {"seeds": [9], "rounds": {"a": RATE | {"methods": [method], "settings": [setting]}}}


@pytest.mark.parametrize(
    ("content", "rounds", "part"),
    [
        ({"seeds": [9, 0], "rounds": {"rate": RATE | {"seeds": [1]}}}, "", r"\[0, 1\] are also"),
        ({"seeds": [9], "rounds": {"rate": RATE}}, "rat", "'rat' is no round .*mean 'rate'"),
        ({"seeds": [9]}, "", "rounds is missing"),
        (trying("vecav"), "", "'vecav' is no method.*did you mean 'vecaf'"),
        (trying("vecaf", **{"method.options.tua": 1.0}), "", "options: tua is not a setting"),
        (trying("vecaf", **{"training.learning_rate": -1}), "", "training.learning_rate is -1"),
        (
            {"seeds": [9], "rounds": {"a": RATE, "b": RATE | {"methods": ["vecaf", "full"]}}},
            "",
            r"training\.\* has unequal numbers of settings",
        ),
    ],
    ids=["seeds", "round", "no rounds", "method", "option", "value", "effort"],
)
def test_a_wrong_search_is_a_sentence(content: Names, rounds: str, part: str) -> None:
    plan(**content)
    with pytest.raises(BadInput, match=part):
        search("make_runs(", rounds)


@pytest.mark.parametrize("name", ["caltech101-cpu", "cifar10-cpu"])
def test_the_committed_searches_fit_their_profiles(name: str) -> None:
    seeds = {*profile(name)["seeds"]}
    made = search("make_runs(")["all_runs"]
    assert made
    assert not seeds & {run.seed for run in made}
