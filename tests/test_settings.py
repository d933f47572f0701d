"""params.yaml is checked as a whole; a fault is one sentence that names setting and cure."""

import subprocess
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
    ("profile", "count"), [("smoke", 111), ("caltech101-look", 36), ("paper-cifar10", 291)]
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
        ("compute.dask", "host:8786", ["compute.dask: 'host:8786' is no address", "tcp://host"]),
        ("compute", {"workers": 1, "processes": 2, "dask": "tcp://h:1"}, ["2, but dask", "leave"]),
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
        (
            "figures.methods",
            ["vecaf", "activeft", "vecav"],
            ["figures: methods has 'vecav'", "'vecaf'"],
        ),
        ("figures.loss_window", 99, ["loss_window has 99", f"training.steps is only {STEPS}"]),
        # what the pages could not show, once all runs are made
        ("methods.vecaf_alone.change.caption_part", "nouns", ["_part needs", "not attributes"]),
        ("tables.table1.loops", [2, 3], ["table1.loops has [2, 3]; it may have 1"]),
        ("tables.table6.ratios", [2.0, 5.0], ["table6.ratios has [2.0, 5.0]; it may have 1"]),
        ("tables.table5.targets", ["one"], ["table5.targets has ['one']; it may have none"]),
        ("tables.table2.single_run", ["vecaf"], ["table2.single_run", "it may have none"]),
        ("tables.table2.targets", [], ["table2.targets is empty"]),
        ("tables.table7.methods", ["vecaf", "activeft"], ["table7.methods has", "may have 1"]),
        ("tables.table6.reference", None, ["table6.reference is missing"]),
        ("tables.decisions.reference", None, ["decisions.reference is missing"]),
        ("tables.table6.methods", ["vecaf_neither", "activeft"], ["activeft", "no loss_power"]),
        ("tables.table5.methods", ["vecaf", "vecaf_alone"], ["table5 has two methods with one"]),
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


@pytest.mark.parametrize("section", sorted(SMOKE.keys() - {"stands_for", "domains", "compute"}))
def test_a_missing_section_is_named(faults: Faults, section: str) -> None:
    content = {name: part for name, part in SMOKE.items() if name != section}
    assert f"{section} is missing; it has no default." in faults(content)


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("  steps: 36", "  steps: 36\n  steps: 40", "steps is there twice, in lines AT and NEXT"),
        ("seeds: [0, 1]", "seeds: [0]\nseeds: [1]", "seeds is there twice, in lines AT and NEXT"),
        ("{select: random}", "{select: random, select: full}", "select is there twice, in lines"),
        ("  random: {", "  vecaf: {", "vecaf is there twice, in lines AT and \\d+;"),
        ("rate: 0.003", "rate: yes", "training.learning_rate is 'yes'; it .* valid number"),
        ("seeds: [0, 1]", "seeds: [010]", "seeds.0. is '010'; it should be a valid integer"),
        ("tau: 0.07  # theirs", "tau: 1_0", "activeft.options: tau is '1_0'"),
        ("tau: 0.07  # theirs", "tau: 1:30", "activeft.options: tau is '1:30'"),
        ("flip: false", "flip: 0", "training.flip is 0; it should be a valid boolean"),
        ("rate: 0.003", "rate: true", "training.learning_rate is True; it .* valid number"),
        ("seeds: [0, 1]", "seeds: [true]", "seeds.0. is True; it should be a valid integer"),
        ("tau: 0.07  # theirs", "tau: true", "activeft.options: tau is True"),
        ("  steps: 36", "  steps: '36'", "training.steps is '36'; it should be a valid integer"),
    ],
)
def test_what_yaml_would_read_as_something_else(
    tmp_path: Path, old: str, new: str, sentence: str
) -> None:
    text = (ROOT / "profiles" / "smoke.yaml").read_text()
    assert old in text
    line = text.partition(old)[0].count("\n") + 1
    sentence = sentence.replace("AT", str(line)).replace("NEXT", str(line + 1))
    path = tmp_path / "params.yaml"
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(BadInput, match=sentence) as raised:
        settings.read(path)
    assert str(raised.value).startswith(f"{path}: ")


def test_numbers_merges_and_text_that_yaml_has(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("a: &a {x: 1e3, y: -.5, z: 1.5E3}\nb: {<<: *a, x: +2}\nc: no\nd: True\ne:\n")
    a = {"x": 1000.0, "y": -0.5, "z": 1500.0}
    assert settings.read_yaml(path) == {"a": a, "b": {**a, "x": 2}, "c": "no", "d": True, "e": None}


@pytest.mark.parametrize("form", ["smoke", "'smoke'  # comment", "!!str smoke", '"smo\\\n  ke"'])
def test_make_repro_names_the_report_whatever_the_form(tmp_path: Path, form: str) -> None:
    text = (ROOT / "profiles" / "smoke.yaml").read_text()
    assert "\nprofile: smoke\n" in text
    (tmp_path / "params.yaml").write_text(text.replace("profile: smoke\n", f"profile: {form}\n"))
    settings.write_sections(tmp_path / "params.yaml", tmp_path / "data/generated/settings")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "dvc").symlink_to("/bin/true")
    (tmp_path / "bin" / "vecaf").symlink_to("/bin/echo")
    made = subprocess.run(
        ["make", "--no-print-directory", "-f", ROOT / "Makefile", "-o", "env", "repro", "VENV=."],
        cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert f"{tmp_path}/reports/smoke/README.md\n" in made.stdout
    assert made.stdout.endswith(f"{tmp_path}/data/generated/site/smoke/index.html\ncompare\n")


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
    (tmp_path / "other.yaml").write_text(yaml.safe_dump(SMOKE))
    with pytest.raises(BadInput, match=r"other.yaml: profile is 'smoke'; it should be other"):
        switch("other", profiles=tmp_path, params=tmp_path / "none")
    with pytest.raises(BadInput, match=r"'smok' is no profile; did you mean 'smoke'\?"):
        switch("smok", profiles=profiles, params=params)
    bad = change(SMOKE, {"profile": "bad", "training.steps": 0})
    (tmp_path / "bad.yaml").write_text(yaml.safe_dump(bad))
    with pytest.raises(BadInput, match="steps"):
        switch("bad", profiles=tmp_path, params=tmp_path / "none")
    assert not (tmp_path / "none").exists()
