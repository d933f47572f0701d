"""dvc.yaml, the notebooks and the library agree: a stage reruns when, and only when, it must."""

import ast
import shlex
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from vecaf_lib.pipeline.notebooks import read_notebook
from vecaf_lib.pipeline.provenance import imports_of
from vecaf_lib.settings import Settings

ROOT = Path(__file__).parents[1]
DVC = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))
VARS = {name: value for part in DVC["vars"] for name, value in part.items()}
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
SETTINGS = "vecaf_lib/settings"  # none imports it, but its defaults (alone) reach all


def plain(text: str) -> str:
    """The text with dvc.yaml's own variables filled in; those of a profile stay."""
    for name, value in VARS.items():
        text = text.replace(f"${{{name}}}", value)
    return text


@dataclass(frozen=True)
class Stage:
    """A stage that executes a notebook."""

    name: str
    notebook: Path
    output: str
    sections: dict[str, str]
    strings: dict[str, str]
    params: list[str]
    deps: list[str]
    outs: list[str]


def paths(entries: list[str | dict[str, object]]) -> list[str]:
    return [plain(e if isinstance(e, str) else next(iter(e))) for e in entries]


def stage(name: str) -> Stage:
    parts = DVC["stages"][name]
    _, _, _, source, output, *options = shlex.split(plain(parts["cmd"]))
    pairs: dict[str, dict[str, str]] = {"-s": {}, "-p": {}}
    for option, pair in zip(options[::2], options[1::2], strict=True):
        key, _, value = pair.partition("=")
        pairs[option][key] = value
    assert source == f"{VARS['source']}/{Path(source).name}"
    return Stage(
        name,
        ROOT / "notebooks" / Path(source).name,
        output,
        pairs["-s"],
        pairs["-p"],
        parts["params"],
        paths(parts["deps"]),
        paths(parts["outs"]),
    )


STAGES = [stage(name) for name, parts in DVC["stages"].items() if parts["cmd"].startswith("${run}")]
each_stage = pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.name)


def within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(f"{folder}/")


def says_something(file: Path) -> bool:
    """False for a package's ``__init__`` that imports nothing."""
    body = ast.parse((ROOT / file).read_bytes()).body
    return file.name != "__init__.py" or any(
        isinstance(node, ast.Import | ast.ImportFrom) for node in body
    )


def needed(stage: Stage) -> set[str]:
    """Files of vecaf_lib that the notebook imports, with all of each folder that it depends on.

    Methods and data sets are imported by name, which no look at the source can follow: that is
    what their folders are listed for.
    """
    found = set(imports_of(stage.notebook, ROOT))
    for dep in stage.deps:
        if dep.startswith("vecaf_lib/") and dep != SETTINGS and (ROOT / dep).is_dir():
            for file in (ROOT / dep).rglob("*.py"):
                found |= {file.relative_to(ROOT), *imports_of(file, ROOT)}
    return {file.as_posix() for file in found if says_something(file)}


def test_there_is_a_stage_for_every_numbered_notebook() -> None:
    numbered = {path for path in NOTEBOOKS if path.name[0] != "0"}
    assert {stage.notebook for stage in STAGES} == numbered
    sources = DVC["stages"]["sources"]
    assert sources["cmd"].endswith("notebooks/[1-9]*.ipynb")
    copies = {f"{VARS['source']}/{path.name}" for path in numbered}
    assert set(paths(sources["outs"])) == copies


@each_stage
def test_deps_cover_what_the_notebook_imports(stage: Stage) -> None:
    uncovered = {f for f in needed(stage) if not any(within(f, dep) for dep in stage.deps)}
    assert not uncovered, f"list these under deps of {stage.name}"
    assert SETTINGS in stage.deps


@each_stage
def test_no_dep_on_code_that_is_not_used(stage: Stage) -> None:
    used = needed(stage)
    imported = {file.as_posix() for file in imports_of(stage.notebook, ROOT)}
    texts = [(ROOT / file).read_text(encoding="utf-8") for file in imported]
    for dep in stage.deps:  # a theme's files may name a module, too
        if dep.startswith("vecaf_lib/") and dep != SETTINGS and (ROOT / dep).is_dir():
            texts += [file.read_text(encoding="utf-8") for file in (ROOT / dep).rglob("*.py")]
    for dep in stage.deps:
        if not dep.startswith("vecaf_lib/") or dep == SETTINGS:
            continue
        assert (ROOT / dep).exists(), dep
        module = dep.removesuffix(".py").replace("/", ".")  # Sphinx is told of one by its name
        if dep.endswith(".py"):
            named = any(module in text for text in texts)
            assert dep in used or named, f"{stage.name} has no use for {dep}"
        elif list((ROOT / dep).glob("*.py")) and (ROOT / dep / "__init__.py").exists():
            assert any(within(file, dep) for file in imported), f"nothing of {dep} is imported"
        else:  # a style sheet, a theme: named in the code
            assert any(Path(dep).name in text for text in texts), (
                f"{stage.name} has no use for {dep}"
            )
    assert len(set(stage.deps)) == len(stage.deps)


@pytest.mark.parametrize("path", sorted((ROOT / "profiles").glob("*.yaml")), ids=lambda p: p.stem)
def test_every_profile_states_what_dvc_asks_of_it(path: Path) -> None:
    """DVC knows no defaults: a section that it watches stands in the file."""
    stated = yaml.safe_load(path.read_text(encoding="utf-8"))
    wanted = {name for part in DVC["stages"].values() for name in part.get("params", [])}
    assert wanted <= set(stated)


@each_stage
def test_params_are_exactly_the_sections_that_are_passed(stage: Stage) -> None:
    assert sorted(stage.params) == sorted(stage.sections.values())
    for section in stage.params:
        assert section.split(".")[0] in Settings.model_fields


@each_stage
def test_the_notebook_declares_exactly_its_parameters_and_uses_each(stage: Stage) -> None:
    cells = [cell for cell in read_notebook(stage.notebook).cells if cell.cell_type == "code"]
    tagged = [n for n, cell in enumerate(cells) if "parameters" in cell.metadata.get("tags", [])]
    assert tagged == [0]
    declared = []
    for node in ast.parse(cells[0].source).body:
        assert isinstance(node, ast.Assign)
        assert isinstance(node.value, ast.Constant)
        assert node.value.value is None  # a parameter without a default: it must be passed
        declared += [target.id for target in node.targets if isinstance(target, ast.Name)]
    assert sorted(declared) == sorted(stage.sections | stage.strings)

    later = ast.parse("\n".join(cell.source for cell in cells[1:]))
    read = {
        node.id
        for node in ast.walk(later)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)
    }
    assert set(declared) <= read, "a parameter that is not read makes the stage rerun for nothing"


@each_stage
def test_the_notebook_and_its_inputs_are_deps(stage: Stage) -> None:
    assert f"{VARS['source']}/{stage.notebook.name}" in stage.deps
    known = [*stage.deps, *stage.outs]
    for name, value in stage.strings.items():
        if "/" in value:
            connected = any(within(value, path) or within(path, value) for path in known)
            assert connected, f"{stage.name}: {name}={value} is neither a dep nor an out"


@each_stage
def test_what_a_stage_writes_is_the_profiles_own(stage: Stage) -> None:
    assert DVC["stages"][stage.name]["matrix"]["profile"] == ["${profile}"]
    assert stage.output in stage.outs
    for out in stage.outs:
        assert "/${item.profile}/" in out, out
    read_only = [d for d in stage.deps if d.startswith(("reports/", "data/generated/"))]
    for dep in read_only:
        if dep == "reports/performance":  # of the engine, on whatever machine measured it
            continue
        assert "/${item.profile}/" in dep or within(dep, VARS["source"]), dep


def test_no_two_stages_write_one_place() -> None:
    outs = [out for stage in STAGES for out in stage.outs]
    for number, out in enumerate(outs):
        for other in outs[number + 1 :]:
            assert not within(out, other), (out, other)
            assert not within(other, out), (out, other)


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_hold_no_paths(notebook: Path) -> None:
    code = [cell.source for cell in read_notebook(notebook).cells if cell.cell_type == "code"]
    tree = ast.parse("\n".join(code))
    words = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
    for word in (word for word in words if isinstance(word, str)):
        assert not word.startswith(("data/", "reports/", "profiles/", "params.yaml", "/")), word
