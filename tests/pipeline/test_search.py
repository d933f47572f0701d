"""A search reads no test image, keeps what is finished, and says what is wrong in a sentence."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from vecaf_lib.errors import BadInput
from vecaf_lib.pipeline import run as run_module
from vecaf_lib.pipeline.search import Search, search, trials
from vecaf_lib.pipeline.settings import change, read

ROOT = Path(__file__).parents[2]
SMOKE = yaml.safe_load((ROOT / "profiles" / "smoke.yaml").read_text())
SHORT = {"training.steps": 6, "training.evaluate_every": 6, "figures.loss_window": 1}
RATE = {
    "methods": ["random", "full"],
    "ratios": [2, 5],
    "settings": [{"training.learning_rate": 0.01}, {"training.learning_rate": 0.1}],
}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with a short smoke profile and its embeddings, in which searches are made."""
    (tmp_path / "profiles" / "search").mkdir(parents=True)
    content = change(SMOKE, SHORT | {"compute.workers": 1})
    (tmp_path / "profiles" / "smoke.yaml").write_text(yaml.safe_dump(content))
    plan(tmp_path, seeds=[7, 8], rounds={"rate": RATE})
    made = tmp_path / "data" / "generated" / "smoke"
    (made / "embeddings").mkdir(parents=True)
    (made / "inputs.json").write_text(json.dumps({"images": "digits", "captions": None}))
    (tmp_path / "data" / "digits").symlink_to(ROOT / "data" / "digits")
    for _, job, _ in trials("smoke", (), tmp_path):
        image = job.views.image_file(made / "embeddings")
        np.save(image, np.ones((1000, 1280), dtype=np.float32))
    return tmp_path


def plan(project: Path, **content: Any) -> None:
    (project / "profiles" / "search" / "smoke.yaml").write_text(yaml.safe_dump(content))


def trying(method: str, **setting: Any) -> dict[str, Any]:
    return {"seeds": [9], "rounds": {"a": RATE | {"methods": [method], "settings": [setting]}}}


def test_a_search_is_blind_to_the_test_split_and_kept(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    splits: list[str] = []
    load = run_module._images

    def noted(dataset: str, split: str, data: str) -> Any:
        splits.append(split)
        return load(dataset, split, data)

    monkeypatch.setattr(run_module, "_images", noted)
    table = search("smoke", root=project)
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
    assert search("smoke", root=project).equals(table)
    assert {path: path.stat().st_mtime_ns for path in runs} == before

    path = project / "reports/smoke/search.csv"
    kept = pd.DataFrame({"round": ["rate", "other"], "mean": [1.0, 2.0]})
    kept.to_csv(path, index=False)
    search("smoke", ["rate"], root=project)  # the other rounds' lines stay
    after = pd.read_csv(path)
    assert after["round"].tolist() == ["other", *["rate"] * 6]
    assert after["mean"].tolist()[1:] == pytest.approx(table["mean"].tolist(), abs=1e-4)


def test_a_setting_is_changed_where_its_name_says(project: Path) -> None:
    setting = {"method.cea.eta": 0.3, "method.options.tau": 0.5, "training.learning_rate": 0.2}
    tried = RATE | {"methods": ["vecaf_no_ods", "vecaf"], "ratios": [2], "settings": [setting]}
    plan(project, seeds=[7], rounds={"rate": tried | {"settings": [{"method.cea.eta": 0.3}]}})
    (derived, *_), (own, *_) = [
        [job.settings["methods"], job.settings["training"]]
        for _, job, _ in trials("smoke", (), project)
    ]
    assert derived["vecaf_no_ods"]["cea"]["eta"] == own["vecaf"]["cea"]["eta"] == 0.3
    assert derived["vecaf"]["cea"]["eta"] == own["vecaf_no_ods"]["cea"]["eta"] == 0.2
    plan(project, seeds=[7], rounds={"rate": tried | {"methods": ["vecaf"]}})
    ((_, job, runs),) = trials("smoke", (), project)
    assert job.settings["methods"]["vecaf"]["options"]["tau"] == 0.5
    assert job.settings["methods"]["vecaf_no_cea"]["options"]["tau"] == 0.07
    assert job.settings["training"]["learning_rate"] == 0.2
    assert [run.seed for run in runs] == [7]


@pytest.mark.parametrize(
    ("content", "rounds", "part"),
    [
        ({"seeds": [9, 0], "rounds": {"rate": RATE | {"seeds": [1]}}}, [], r"\[0, 1\] are also"),
        ({"seeds": [9], "rounds": {"rate": RATE}}, ["rat"], "'rat' is no round .*mean 'rate'"),
        ({"seeds": [9]}, [], "rounds is missing"),
        (trying("vecav"), [], "'vecav' is no method.*did you mean 'vecaf'"),
        (trying("vecaf", **{"method.options.tua": 1.0}), [], "options: tua is not a setting"),
        (trying("vecaf", **{"training.learning_rate": -1}), [], "training.learning_rate is -1"),
    ],
    ids=["seeds", "round", "no rounds", "method", "option", "value"],
)
def test_a_wrong_search_is_a_sentence(
    project: Path, content: dict[str, Any], rounds: list[str], part: str
) -> None:
    plan(project, **content)
    with pytest.raises(BadInput, match=part):
        search("smoke", rounds, root=project)


@pytest.mark.parametrize("profile", ["caltech101-cpu", "cifar10-cpu"])
def test_the_committed_searches_fit_their_profiles(profile: str) -> None:
    seeds = set(read(ROOT / "profiles" / f"{profile}.yaml").seeds)
    found = list(trials(profile, (), ROOT))
    assert found
    assert not seeds & {run.seed for *_, runs in found for run in runs}


def test_a_search_that_favours_a_method_is_refused() -> None:
    part = {"ratios": [5], "settings": [{"training.learning_rate": 0.1}]}
    rounds = {"a": {**part, "methods": ["random", "vecaf"]}, "b": {**part, "methods": ["vecaf"]}}
    with pytest.raises(ValueError, match=r"training\.\* has unequal numbers of settings"):
        Search.model_validate({"seeds": [9], "rounds": rounds})
    Search.model_validate({"seeds": [9], "rounds": {"a": rounds["a"]}})
