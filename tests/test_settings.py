"""params.yaml is checked as a whole; each fault is one sentence that names it and the cure."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from vecaf_lib import settings
from vecaf_lib.errors import BadInput
from vecaf_lib.pipeline.profile import switch

ROOT = Path(__file__).parents[1]
SMOKE = yaml.safe_load((ROOT / "profiles" / "smoke.yaml").read_text())
SECTION = "a section, written as indented lines `name: value`"


@pytest.fixture
def smoke() -> dict[str, Any]:
    """The smoke profile, to be spoilt; YAML's anchors are resolved, so no two parts are one."""
    return _unshared(SMOKE)


def _unshared(part: Any) -> Any:
    if isinstance(part, dict):
        return {key: _unshared(value) for key, value in part.items()}
    return [_unshared(value) for value in part] if isinstance(part, list) else part


def put(content: Any, where: str, value: Any) -> None:
    *path, last = [int(part) if part.isdigit() else part for part in where.split(".")]
    for part in path:
        content = content[part]
    content[last] = value


@pytest.fixture
def complaints(tmp_path: Path) -> Callable[[dict[str, Any]], list[str]]:
    def read(content: dict[str, Any]) -> list[str]:
        path = tmp_path / "params.yaml"
        path.write_text(yaml.safe_dump(content))
        with pytest.raises(BadInput) as raised:
            settings.read(path)
        lines = str(raised.value).splitlines()
        assert all(line.startswith(f"{path}: ") and line[-1] in ".?" for line in lines)
        return [line.removeprefix(f"{path}: ") for line in lines]

    return read


def test_every_profile_is_valid_and_named_as_its_file() -> None:
    profiles = sorted((ROOT / "profiles").glob("*.yaml"))
    assert profiles
    for path in profiles:
        assert settings.read(path).profile == path.stem


def test_params_is_a_copy_of_the_default_profile(tmp_path: Path) -> None:
    assert settings.read(ROOT / "params.yaml").profile == "smoke"
    switch("smoke", profiles=ROOT / "profiles", params=tmp_path / "params.yaml")
    assert (tmp_path / "params.yaml").read_bytes() == (ROOT / "params.yaml").read_bytes()


def test_defaults_of_sections_and_options_become_explicit(
    smoke: dict[str, Any], tmp_path: Path
) -> None:
    del smoke["training"]["momentum"]
    smoke["methods"]["vecaf"]["options"] = {"tau": 0.5}
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(smoke))
    content = settings.read(path).model_dump(mode="json")
    assert content["training"]["momentum"] == 0.9
    options = content["methods"]["vecaf"]["options"]
    assert options["tau"] == 0.5
    assert options["ensemble"] == 5
    assert content["methods"]["random"]["options"] == {}


def test_a_number_that_yaml_reads_as_text_is_a_number(
    smoke: dict[str, Any], tmp_path: Path
) -> None:
    text = yaml.safe_dump(smoke).replace("learning_rate: 0.003", "learning_rate: 3e-3")
    assert isinstance(yaml.safe_load(text)["training"]["learning_rate"], str)
    (tmp_path / "params.yaml").write_text(text)
    assert settings.read(tmp_path / "params.yaml").training.learning_rate == 0.003


@pytest.mark.parametrize(
    ("where", "nearest"),
    [
        ("trainings", "training"),
        ("dataset.nam", "name"),
        ("captions.sourse", "source"),
        ("vision.weight", "weights"),
        ("text.nme", "name"),
        ("training.lerning_rate", "learning_rate"),
        ("methods.vecaf.selct", "select"),
        ("methods.vecaf.options.lambda", "lambda_"),
        ("methods.vecaf.options.tua", "tau"),
        ("methods.vecaf.cea.eat", "eta"),
        ("methods.vecaf.grid.1.ratio", "ratios"),
        ("tables.ablation", "ablation_ratio"),
        ("compute.worker", "workers"),
    ],
)
def test_unknown_setting(
    smoke: dict[str, Any], complaints: Callable[..., list[str]], where: str, nearest: str
) -> None:
    put(smoke, where, 1)
    shown = where.replace(".1.", "[1].")
    assert complaints(smoke) == [f"{shown} is not a setting; did you mean {nearest!r}?"]


@pytest.mark.parametrize(
    ("where", "value", "sentence"),
    [
        # unknown names
        (
            "methods.activeft.options.lambda_",
            1,
            "methods.activeft.options.lambda_ is not a setting; "
            "known are engine, iterations, learning_rate, reassign_every, tau, tolerance.",
        ),
        (
            "methods.random.options",
            {"tau": 1},
            "methods.random.options.tau is not a setting; there are none here.",
        ),
        (
            "methods.vecaf.select",
            "odss",
            "methods.vecaf.select: 'odss' is no method of selection; did you mean 'ods'?",
        ),
        (
            "methods.vecaf.select",
            "_pool",
            "methods.vecaf.select: '_pool' is no method of selection; "
            "known are activeft, alfa_mix, full, learnloss, ods, ods_by_class, ods_official, "
            "ods_self_paced, random, ta_vaal, topk_loss.",
        ),
        (
            "dataset.name",
            "cifar",
            "dataset.name: 'cifar' is no data set; did you mean 'cifar10'?",
        ),
        (
            "text.name",
            "bert_big",
            "text.name: 'bert_big' is no text encoder; did you mean 'bert_large'?",
        ),
        (
            "captions.source",
            "tag",
            "captions.source: 'tag' is no captioner (attributes, tags, blip2) and no .csv or "
            ".jsonl file; did you mean 'tags'?",
        ),
        (
            "dataset.options",
            {"background": True},
            "dataset.options.background is not a setting; there are none here.",
        ),
        (
            "captions.options",
            {"subjet": "a mark"},
            "captions.options.subjet is not a setting; did you mean 'subject'?",
        ),
        (
            "compute.processes",
            2,
            "compute: processes is 2 and workers is 2; one of them must be 1: either several "
            "processes share a run, or several runs go side by side.",
        ),
        (
            "compute",
            {"workers": 1, "processes": 5},
            "compute: processes is 5, by which training.batch_size (12) cannot be shared equally; "
            "change one of them.",
        ),
        (
            "methods.vecaf.cea.form",
            "scald",
            "methods.vecaf.cea.form is 'scald'; it should be 'literal' or 'scaled' "
            "(did you mean 'scaled'?).",
        ),
        (
            "run_methods.0",
            "randon",
            "run_methods: methods has no 'randon'; did you mean 'random'?",
        ),
        (
            "profile",
            "../smoke",
            "profile is '../smoke'; it should be a name of small letters, digits, _ and -.",
        ),
        # ranges
        (
            "methods.vecaf.grid.0.ratios.1",
            0,
            "methods.vecaf.grid[0].ratios[1] is 0; it should be more than 0.",
        ),
        (
            "methods.vecaf.grid.0.ratios.1",
            -5,
            "methods.vecaf.grid[0].ratios[1] is -5; it should be more than 0.",
        ),
        (
            "methods.vecaf.grid.0.ratios.1",
            101,
            "methods.vecaf.grid[0].ratios[1] is 101; it should be at most 100.",
        ),
        (
            "methods.vecaf.grid.0.ratios",
            [],
            "methods.vecaf.grid[0].ratios is empty; it should be a list or section with at least "
            "1 entry.",
        ),
        (
            "methods.vecaf.grid.0.loops.0",
            0,
            "methods.vecaf.grid[0].loops[0] is 0; it should be at least 1.",
        ),
        (
            "training.batch_size",
            15,
            "training.batch_size is 15; it should be a multiple of 2.",
        ),
        ("training.batch_size", 0, "training.batch_size is 0; it should be at least 2."),
        ("training.steps", 0, "training.steps is 0; it should be at least 1."),
        ("training.momentum", 1, "training.momentum is 1; it should be less than 1."),
        (
            "methods.vecaf.options.shrinkage",
            2,
            "methods.vecaf.options.shrinkage is 2; it should be at most 1.",
        ),
        ("compute.workers", 0, "compute.workers is 0; it should be at least 1."),
        # NaN and infinity
        (
            "training.learning_rate",
            float("nan"),
            "training.learning_rate is nan; it should be a finite number.",
        ),
        (
            "methods.vecaf.options.tau",
            float("inf"),
            "methods.vecaf.options.tau is inf; it should be a finite number.",
        ),
        (
            "methods.vecaf.cea.eta",
            float("-inf"),
            "methods.vecaf.cea.eta is -inf; it should be a finite number.",
        ),
        # kinds
        (
            "training.learning_rate",
            "fast",
            "training.learning_rate is 'fast'; it should be a number.",
        ),
        ("training.steps", 60.5, "training.steps is 60.5; it should be a whole number."),
        ("training.steps", "1e3", "training.steps is '1e3'; it should be a whole number."),
        ("training.flip", "maybe", "training.flip is 'maybe'; it should be true or false."),
        ("vision.name", 3, "vision.name is 3; it should be text."),
        ("training", None, f"training is empty; it should be {SECTION}."),
        ("methods.vecaf.cea", True, f"methods.vecaf.cea is True; it should be {SECTION}."),
        (
            "methods.vecaf.options",
            None,
            f"methods.vecaf.options is empty; it should be {SECTION}.",
        ),
        ("seeds", 3, "seeds is 3; it should be a list, written [a, b]."),
        ("captions.source", "", "captions.source is ''; it should be text that is not empty."),
        # what does not fit together
        (
            "seeds",
            [0, 1, 0],
            "seeds: [0, 1, 0] has a seed twice; each repetition needs a seed of its own.",
        ),
        (
            "methods.vecaf.grid.1.loops.1",
            999,
            "methods: vecaf asks for 999 loops, but training.steps is {steps}; every loop needs at "
            "least one step.",
        ),
        (
            "methods.vecaf_official.cea",
            {"mode": "official", "eta": 1.0, "form": "literal"},
            "methods.vecaf_official.cea: mode 'official' takes no eta and no form; leave it out or "
            "use mode 'paper'.",
        ),
        (
            "run_methods.0",
            "full",
            "run_methods: a method is named twice; name each once.",
        ),
        (
            "tables.ablation_ratio",
            3,
            "tables: ablation_ratio is 3, but the grid of vecaf and of vecaf_no_cea and of "
            "vecaf_no_ods and of vecaf_neither has no multi-run 3 % with 3 loops.",
        ),
        (
            "tables.loops_compared",
            [2, 7],
            "tables: loops_compared has [7], but the grid of vecaf has no multi-run 5 % "
            "(loops_ratio) with as many loops.",
        ),
        (
            "tables.replication",
            {"ratio": 5, "methods": ["vecaf"], "seeds": [8, 9]},
            "tables: replication.methods has vecaf, but its grid has no multi-run 5 % "
            "(replication.ratio) with 3 loops and these seeds.",
        ),
        (
            "methods.vecaf.repetitions",
            2,
            "tables: vecaf has repetitions, but Table 6 and the figures show methods with all "
            "seeds; leave repetitions out.",
        ),
        (
            "methods.vecaf.class_names",
            "maybe",
            "methods.vecaf.class_names is 'maybe'; it should be true or false.",
        ),
        (
            "methods.vecaf_no_cea.caption_part",
            "nouns",
            "methods.vecaf_no_cea: caption_part changes captions, which only cea reads; give cea.",
        ),
        (
            "tables.ratios",
            [2, 3],
            "tables: ratios is [2.0, 3.0], but no method's grid has them all with 3 loops.",
        ),
        (
            "tables.figure_methods",
            ["vecaf", "vecav"],
            "tables: figure_methods has 'vecav', but run_methods has not.",
        ),
        (
            "methods.full.grid.0.ratios",
            [50],
            "tables: figure_methods has full, but it has no single-run 100 % with 3 loops.",
        ),
        (
            "methods.topk_loss.grid.0.multi_run",
            [False],
            "tables: figure_methods has topk_loss, but its grid has no multi-run 5 % "
            "(figure_ratio) with 3 loops.",
        ),
        (
            "methods.clipstyler_snowy.domain",
            None,
            "methods.clipstyler_snowy: stylise needs a domain, whose prompt says what style; "
            "name one.",
        ),
        (
            "tables.loss_window",
            999,
            "tables: loss_window is 999, but training.steps is only {steps}.",
        ),
    ],
)
def test_one_sentence_for_a_fault(
    smoke: dict[str, Any],
    complaints: Callable[..., list[str]],
    where: str,
    value: Any,
    sentence: str,
) -> None:
    smoke["methods"]["random"].setdefault("options", {})
    put(smoke, where, value)
    if where == "run_methods.0":  # the tables want the one that stood there
        smoke["tables"]["figure_methods"] = ["vecaf"]
    assert complaints(smoke) == [sentence.replace("{steps}", str(SMOKE["training"]["steps"]))]


def test_missing_settings_are_named(
    smoke: dict[str, Any], complaints: Callable[..., list[str]]
) -> None:
    del smoke["seeds"], smoke["training"]["steps"], smoke["methods"]["vecaf"]["grid"]
    assert complaints(smoke) == [
        f"{name} is missing; see the files in profiles/ for an example."
        for name in ("training.steps", "seeds", "methods.vecaf.grid")
    ]


def test_all_faults_are_told_at_once(
    smoke: dict[str, Any], complaints: Callable[..., list[str]]
) -> None:
    smoke["trainings"] = {}
    put(smoke, "training.batch_size", 15)
    put(smoke, "seeds", [0, 0])
    put(smoke, "methods.vecaf.options.tua", 1)
    put(smoke, "methods.activeft.options.tau", 0)
    put(smoke, "methods.vecaf.cea.eta", -1)
    put(smoke, "methods.topk_loss.select", "topk")
    found = complaints(smoke)
    named = ("trainings", "batch_size", "seeds", "tua", "activeft", "eta", "topk_loss")
    assert len(found) == len(named)
    for name in named:
        assert sum(name in sentence.split(";")[0] for sentence in found) == 1, (name, found)


def test_faults_between_sections_are_told_with_those_inside(
    smoke: dict[str, Any], complaints: Callable[..., list[str]]
) -> None:
    put(smoke, "run_methods.0", "nothing")
    put(smoke, "dataset.image_size", 8)
    put(smoke, "methods.vecaf.options.tau", -1)
    assert [sentence.split()[0].rstrip(":") for sentence in complaints(smoke)] == [
        "dataset.image_size",
        "run_methods",
        "methods.vecaf.options.tau",
    ]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "has no settings; copy one of the files in profiles/."),
        (b"# only a comment\n", "has no settings; copy one of the files in profiles/."),
        (b"- a\n- list\n", "has no settings; copy one of the files in profiles/."),
        (b"seeds: [0, 1\n", "is not readable YAML: "),
        (b"seeds:\n\t- 1\n", "is not readable YAML: "),
        (b"\xff\xfe\x00binary", "is not readable YAML: "),
    ],
)
def test_files_that_hold_no_settings(tmp_path: Path, content: bytes, sentence: str) -> None:
    path = tmp_path / "params.yaml"
    path.write_bytes(content)
    with pytest.raises(BadInput) as raised:
        settings.read(path)
    assert str(raised.value).startswith(f"{path} {sentence}")
    assert "\n" not in str(raised.value)


def test_a_file_that_is_missing_or_a_folder(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    with pytest.raises(BadInput, match=r"is missing; `make profile PROFILE=smoke` makes it\.$"):
        settings.read(path)
    path.mkdir()
    with pytest.raises(BadInput, match=r"params\.yaml cannot be read: Is a directory\.$"):
        settings.read(path)


def test_an_unknown_profile_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"no profile 'smok'; did you mean 'smoke'\? known are:"):
        switch("smok", profiles=ROOT / "profiles", params=tmp_path / "params.yaml")
