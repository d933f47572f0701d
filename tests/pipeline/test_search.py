"""A search reads no test image, keeps what is finished, and says what is wrong in a sentence."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from vecaf_lib.errors import BadInput
from vecaf_lib.pipeline import job as job_module
from vecaf_lib.pipeline import runs as runs_module
from vecaf_lib.pipeline import search as search_module
from vecaf_lib.pipeline.search import changed, read, run, trials

ROOT = Path(__file__).parents[2]
CONTENT = yaml.safe_load((ROOT / "profiles" / "smoke.yaml").read_text())
TRIALS = {
    "seeds": [7, 8],
    "rounds": {
        "rate": {
            "methods": ["random", "full"],
            "ratios": [2, 5],
            "settings": [{"training.learning_rate": 0.01}, {"training.learning_rate": 0.1}],
        }
    },
}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with a short smoke profile and its embeddings, in which searches are made."""
    content = CONTENT | {"training": CONTENT["training"] | {"steps": 6, "evaluate_every": 6}}
    (tmp_path / "profiles" / "search").mkdir(parents=True)
    (tmp_path / "profiles" / "smoke.yaml").write_text(yaml.safe_dump(content))
    (tmp_path / "profiles" / "search" / "smoke.yaml").write_text(yaml.safe_dump(TRIALS))
    made = tmp_path / "data" / "generated" / "smoke"
    (made / "embeddings").mkdir(parents=True)
    (made / "inputs.json").write_text(json.dumps({"images": "digits", "captions": None}))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(search_module, "DATA", ROOT / "data")
    for trial in trials(read(Path("profiles/search/smoke.yaml")), content, "smoke"):
        np.save(trial.job.image, np.ones((1000, 1280), dtype=np.float32))
    return tmp_path


def test_a_search_is_blind_to_the_test_split_and_kept(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    loaded = job_module._images

    def noted(dataset: str, split: str, data: Path) -> Any:
        seen.append(split)
        return loaded(dataset, split, data)

    monkeypatch.setattr(job_module, "_images", noted)
    monkeypatch.setattr(
        runs_module,
        "run_all",
        lambda task, items, **_: [task(item) for item in items],
    )
    table = run("smoke")
    assert "validation" in seen
    assert "test" not in seen
    assert list(zip(table["method"], table["ratio"], strict=True)) == [
        *[("random", 2.0), ("random", 5.0)] * 2,
        *[("full", 100.0)] * 2,
    ]
    assert table["setting"].tolist()[0] == "training.learning_rate 0.01"
    assert (table["n"] == 2).all()
    assert table["mean"].between(0, 100).all()
    kept = sorted(Path("data/generated/smoke/search").glob("*/*.json.gz"))
    assert len(kept) == 2 * 2 * 2 + 2 * 2
    before = {path: path.stat().st_mtime_ns for path in kept}
    assert run("smoke").equals(table)
    assert {path: path.stat().st_mtime_ns for path in kept} == before


def test_a_setting_is_changed_where_its_name_says() -> None:
    new = changed(CONTENT, "vecaf", {"method.options.tau": 0.5, "training.learning_rate": 0.2})
    assert new.methods["vecaf"].options["tau"] == 0.5
    assert new.methods["vecaf_no_cea"].options["tau"] == 0.07
    assert new.training.learning_rate == 0.2
    off = changed(CONTENT, "vecaf", {"method.cea": None})
    assert off.methods["vecaf"].cea is None


@pytest.mark.parametrize(
    ("method", "setting", "says"),
    [
        ("vecav", {}, "names the method 'vecav'; did you mean 'vecaf'"),
        ("vecaf", {"method.options.tua": 1.0}, "tua is no"),
        ("vecaf", {"training.learning_rate": -1}, "training.learning_rate is -1"),
    ],
)
def test_wrong_trials_are_told(method: str, setting: dict[str, Any], says: str) -> None:
    with pytest.raises(BadInput, match=says):
        changed(CONTENT, method, setting)


def test_the_evidences_seeds_are_refused(project: Path) -> None:
    Path("profiles/search/smoke.yaml").write_text(yaml.safe_dump(TRIALS | {"seeds": [0, 9]}))
    with pytest.raises(BadInput, match=r"seeds: \[0\] are also those of the profile"):
        run("smoke")
    Path("profiles/search/smoke.yaml").write_text(yaml.safe_dump({"seeds": []}))
    with pytest.raises(BadInput, match="rounds is missing"):
        run("smoke")


@pytest.mark.parametrize("path", sorted((ROOT / "profiles" / "search").glob("*.yaml")))
def test_the_committed_searches_fit_their_profiles(path: Path) -> None:
    content = yaml.safe_load((ROOT / "profiles" / path.name).read_text())
    search = read(path)
    assert not set(search.seeds) & set(content["seeds"])
    assert list(trials(search, content, path.stem))


def test_a_round_made_alone_leaves_the_others_lines(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = Path("reports/smoke/search.csv")
    path.parent.mkdir(parents=True)
    pd.DataFrame({"round": ["rate", "other"], "mean": [1.0, 2.0]}).to_csv(path, index=False)
    made = pd.DataFrame({"round": ["rate"], "mean": [3.0]})
    monkeypatch.setattr(search_module, "run", lambda profile, rounds: made)
    search_module.main(["smoke", "rate"])
    assert pd.read_csv(path).to_dict("list") == {"round": ["other", "rate"], "mean": [2.0, 3.0]}


def test_an_unknown_round_and_a_rounds_own_seeds(project: Path) -> None:
    with pytest.raises(BadInput, match="has no round 'rat'"):
        run("smoke", ["rat"])
    own = {"rate": TRIALS["rounds"]["rate"] | {"seeds": [0]}}  # type: ignore[index]
    Path("profiles/search/smoke.yaml").write_text(yaml.safe_dump(TRIALS | {"rounds": own}))
    with pytest.raises(BadInput, match=r"seeds: \[0\] are also those of the profile"):
        run("smoke")
