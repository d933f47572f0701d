"""params.yaml is checked as a whole; a fault is one sentence that names setting and cure."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml

from vecaf_lib import selection
from vecaf_lib.errors import BadInput
from vecaf_lib.pipeline import settings
from vecaf_lib.pipeline.settings import PaperTable, change, switch
from vecaf_lib.results.runs import runs_of

ROOT = Path(__file__).parents[1]
PROFILES = sorted((ROOT / "profiles").glob("*.yaml"))
SMOKE = yaml.safe_load((ROOT / "profiles" / "smoke.yaml").read_text())
TABLE = {"methods": ["full"], "ratios": [5]}
STEPS = SMOKE["training"]["steps"]
MOVED = {"trainable": "head", "shift": 2}

Faults = Callable[[dict[str, Any]], list[str]]


@pytest.fixture
def faults(tmp_path: Path) -> Faults:
    """Read settings that are wrong; return the sentences, each without the file's name."""

    def read(content: dict[str, Any]) -> list[str]:
        path = tmp_path / "params.yaml"
        path.write_text(yaml.safe_dump(content))
        with pytest.raises(BadInput) as raised:
            settings.read(path)
        lines = str(raised.value).splitlines()
        assert all(line.startswith(f"{path}: ") and line[-1] in ".?" for line in lines)
        return [line.removeprefix(f"{path}: ") for line in lines]

    return read


@pytest.mark.parametrize("path", PROFILES, ids=lambda path: path.stem)
def test_every_profile_is_valid_and_named_as_its_file(path: Path) -> None:
    assert settings.read(path).profile == path.stem


@pytest.mark.parametrize(
    ("profile", "count"), [("smoke", 97), ("caltech101-look", 36), ("paper-cifar10", 291)]
)
def test_tables_and_figures_ask_for_these_runs(profile: str, count: int) -> None:
    content = settings.read(ROOT / "profiles" / f"{profile}.yaml")
    runs = runs_of(content)
    assert len(runs) == len({run.file for run in runs}) == count
    assert runs == runs_of(content.model_dump(mode="json"))


def test_smoke_has_every_table_figure_and_selector() -> None:
    content = settings.read(ROOT / "params.yaml")
    assert content.tables.keys() >= set(get_args(PaperTable))
    selectors = {content.methods[run.method].select for run in runs_of(content)}
    assert selectors == set(selection.names())


def test_defaults_of_sections_and_options_become_explicit(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(change(SMOKE, {"methods.vecaf.options": {"tau": 0.5}})))
    content = settings.read(path).model_dump(mode="json")
    assert content["compute"]["device"] == "auto"
    options = content["methods"]["vecaf_alone"]["options"]
    assert (options["tau"], options["ensemble"], options["lambda_"]) == (0.5, 1, 1.0)
    assert content["methods"]["random"]["options"] == {}


def test_a_number_that_yaml_reads_as_text_is_a_number(tmp_path: Path) -> None:
    text = yaml.safe_dump(SMOKE).replace("learning_rate: 0.003", "learning_rate: 3e-3")
    assert isinstance(yaml.safe_load(text)["training"]["learning_rate"], str)
    (tmp_path / "params.yaml").write_text(text)
    assert settings.read(tmp_path / "params.yaml").training.learning_rate == 0.003


@pytest.mark.parametrize(
    ("where", "nearest"),
    [
        ("trainings", "training"),
        ("training.lerning_rate", "learning_rate"),
        ("methods.vecaf.selct", "select"),
        ("methods.vecaf.cea.eat", "eta"),
        ("compute.worker", "workers"),
    ],
)
def test_an_unknown_setting_and_the_nearest(faults: Faults, where: str, nearest: str) -> None:
    (sentence,) = faults(change(SMOKE, {where: 1}))  # told once, however many methods are like it
    assert sentence.startswith(f"{where} is not a setting; did you mean {nearest!r}?")


@pytest.mark.parametrize(
    ("where", "value", "parts"),
    [
        ("methods.vecaf.options.tua", 1, ["methods.vecaf.options: tua", "'tau'"]),
        ("methods.random.options", {"tau": 1}, ["methods.random.options: tau is not", "none"]),
        ("methods.topk_loss.select", "activef", ["topk_loss.select", "'activef'", "'activeft'"]),
        ("methods.topk_loss.select", "_pool", ["'_pool' is no selector"]),
        ("dataset.name", "cifar", ["dataset.name: 'cifar'", "'cifar10'"]),
        ("captions.source", "tag", ["captions.source: 'tag'", ".csv or .jsonl", "'tags'"]),
        ("captions.options", {"subjet": "x"}, ["captions.options: subjet", "'subject'"]),
        ("compute.processes", 2, ["processes is 2 and workers is 2"]),
        ("compute", {"workers": 1, "processes": 5}, ["processes is 5", "batch_size (12)"]),
        ("methods.vecaf_official.cea.eta", 1.0, ["vecaf_official.cea", "no eta"]),
        ("methods.random.class_names", True, ["methods.random: class_names", "give cea"]),
        ("methods.full.stylise", {}, ["methods.full: stylise needs a domain"]),
        ("methods.full.domains", ["snow"], ["full has 'snow', which is no domain", "'snowy'"]),
        # names that reach paths and commands
        ("profile", "../smoke", ["profile is '../smoke'"]),
        ("profile", "$(touch x)", ["profile is '$(touch x)'"]),
        ("profile", "smoke\n", ["profile is 'smoke\\n'"]),
        ("methods.a/b", {"select": "random"}, ["methods.a/b is 'a/b'"]),
        # ranges, NaN and kinds
        ("tables.table1.ratios", [2, 0], ["tables.table1.ratios[1] is 0", "greater than 0"]),
        ("tables.table1.ratios", [2.0000001], ["ratios[0]: 2.0000001 has", "six digits"]),
        ("tables.table1.ratios", [], ["tables.table1.ratios is empty", "at least 1"]),
        ("training.batch_size", 15, ["training.batch_size is 15", "multiple of 2"]),
        ("methods.vecaf.options.shrinkage", 2, ["methods.vecaf.options: shrinkage is 2", "1"]),
        ("training.learning_rate", float("nan"), ["training.learning_rate is nan", "finite"]),
        ("training.steps", 60.5, ["training.steps is 60.5", "integer"]),
        (
            "training.trainable",
            "last_block",
            ["training.trainable is 'last_block'", "'last_blocks'"],
        ),
        ("training.head_start", "prob", ["training.head_start is 'prob'", "'probe'"]),
        ("training", SMOKE["training"] | MOVED, ["training: shift is 2", "'head'", "a cache"]),
        ("training.blocks", 0, ["training.blocks is 0", "equal to 1"]),
        ("training.crop_scale", 0, ["training.crop_scale is 0", "greater than 0"]),
        ("training.drop_path", 1, ["training.drop_path is 1", "less than 1"]),
        ("training.repeated_augmentation", 0, ["training.repeated_augmentation is 0", "1"]),
        ("training", None, ["training is empty", "a section"]),
        ("methods.random.cea", True, ["methods.random.cea is True", "a section"]),
        # what does not fit together
        ("seeds", [0, 1, 0], ["seeds: [0, 1, 0] has a seed twice"]),
        ("tables.tabel1", TABLE, ["tables.tabel1 is 'tabel1'", "'table1'"]),
        ("tables.table7.loops", [3, 99], ["table7.loops has 99", f"steps is only {STEPS}"]),
        ("tables.table1.optional", ["vecaf_tau"], ["table1.optional has 'vecaf_tau'"]),
        ("tables.table3.methods", ["vecaf"], ["table3 has a method whose domains are empty"]),
        ("tables.table2.seeds", [1, 3], ["table2.seeds has [1]", "the profile's"]),
        ("figures.methods", ["vecav"], ["figures: methods has 'vecav'", "'vecaf'"]),
        ("figures.loss_window", 99, ["loss_window has 99", f"training.steps is only {STEPS}"]),
        # like and change
        ("methods.x", {"like": "vecav"}, ["methods.x.like is 'vecav'", "'vecaf'"]),
        ("methods.x", {"like": "x"}, ["methods.x.like is 'x'"]),
        ("methods.x", {"like": ["vecaf"]}, ["methods.x.like is ['vecaf']"]),
        ("methods.x", {"like": "vecaf", "cea": None}, ["methods.x", "only change"]),
        (
            "methods.x",
            {"like": "vecaf", "change": {"select.y": 1}},
            ["methods.x.select is {'y': 1}", "text"],
        ),
    ],
)
def test_one_sentence_for_a_fault(faults: Faults, where: str, value: Any, parts: list[str]) -> None:
    content = change(SMOKE, {where: value})
    if where == "tables.table3.methods":
        content["tables"]["table3"] = {"methods": value, "ratios": [5]}
    (sentence,) = faults(content)
    assert all(part in sentence for part in parts), sentence


def test_all_faults_at_once(faults: Faults) -> None:
    content = change(
        SMOKE,
        {
            "trainings": {},
            "seeds": [0, 0],
            "methods.vecaf.options.tua": 1,
            "methods.vecaf.cea.eta": -1,
            "methods.vecaf_lite1.change.options.tau": "x",
            "methods.topk_loss.select": "topk",
            "tables.table1.reference": "nothing",
        },
    )
    del content["figures"]
    sentences = faults(content)
    named = ("trainings", "seeds", "tua", "eta", "lite1", "topk_loss", "reference", "figures")
    for name in named:
        assert any(name in sentence.split(";")[0] for sentence in sentences), (name, sentences)
    assert len(sentences) == len(named)


@pytest.mark.parametrize(
    ("content", "part"),
    [
        pytest.param(None, "is not readable YAML: .*No such file", id="missing"),
        pytest.param(b"# only a comment\n", "has no settings; `make profile", id="comment"),
        pytest.param(b"- a\n- list\n", "has no settings", id="list"),
        pytest.param(b"\xff\xfe\x00binary", "is not readable YAML", id="binary"),
    ],
)
def test_files_that_hold_no_settings(tmp_path: Path, content: bytes | None, part: str) -> None:
    path = tmp_path / "params.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BadInput, match=part) as raised:
        settings.read(path)
    assert "\n" not in str(raised.value)


def test_sections_are_written_once_valid(tmp_path: Path) -> None:
    params, folder = tmp_path / "params.yaml", tmp_path / "settings"
    params.write_text(yaml.safe_dump(change(SMOKE, {"profile": "../smoke"})))
    with pytest.raises(BadInput, match="profile"):
        settings.write_sections(params, folder)
    assert not folder.exists()
    params.write_text(yaml.safe_dump(SMOKE))
    settings.write_sections(params, folder)
    written = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert {"profile.json", "methods.json", "tables.json"} <= written.keys()
    params.write_text(yaml.safe_dump(change(SMOKE, {"seeds": [7]})))
    settings.write_sections(params, folder)
    changed = {path.name for path in folder.iterdir() if path.read_bytes() != written[path.name]}
    assert changed == {"seeds.json"}


def test_switching_profiles_keeps_edits(tmp_path: Path) -> None:
    profiles, params = ROOT / "profiles", tmp_path / "params.yaml"
    for name in ("smoke", "cifar10-cpu", "smoke"):
        switch(name, profiles=profiles, params=params)
        assert settings.read(params).profile == name
    assert params.read_bytes() == (ROOT / "params.yaml").read_bytes()  # smoke is the default
    params.write_text(edited := params.read_text() + "# mine\n")
    with pytest.raises(BadInput, match=r"has edits.*--force"):
        switch("smoke", profiles=profiles, params=params)
    assert params.read_text() == edited
    switch("smoke", profiles=profiles, params=params, force=True)
    assert params.read_bytes() == (profiles / "smoke.yaml").read_bytes()
    with pytest.raises(BadInput, match=r"'smok' is no profile; did you mean 'smoke'\?"):
        switch("smok", profiles=profiles, params=params)
    (tmp_path / "bad.yaml").write_text(yaml.safe_dump(change(SMOKE, {"training.steps": 0})))
    with pytest.raises(BadInput, match="steps"):
        switch("bad", profiles=tmp_path, params=tmp_path / "none")
    assert not (tmp_path / "none").exists()
