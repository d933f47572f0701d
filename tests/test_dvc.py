"""dvc.yaml, the notebooks and the library agree: a stage reruns when, and only when, it must."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from itertools import chain
from pathlib import Path
from typing import Any

import grimp
import pytest
import yaml

from vecaf_lib.pipeline.notebooks import read_notebook
from vecaf_lib.pipeline.settings import Settings

ROOT = Path(__file__).parents[1]
STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("[1-9]*.ipynb"))
PROJECT, SETTINGS = "vecaf_lib.pipeline.project", "vecaf_lib.pipeline.settings"


class Stage:
    """A stage that executes a notebook; ``{profile}`` for the active profile in all paths."""

    def __init__(self, name: str) -> None:
        parts = STAGES[name]
        self.name, self.deps = name, paths(parts["deps"])
        self.outs = paths(parts["outs"], parts.get("metrics", []), parts.get("plots", []))
        _, _, source, self.output, *words = parts["cmd"].split()
        self.values = dict(word.split("=") for word in words if "=" in word)
        self.notebook = ROOT / "notebooks" / Path(source).name
        cells = [c for c in read_notebook(self.notebook).cells if c.cell_type == "code"]
        self.tags = [cell.metadata.get("tags", []) for cell in cells]
        self.code = [cell.source for cell in cells]


def paths(*lists: list[str | dict[str, Any]]) -> list[str]:
    names = [part if isinstance(part, str) else next(iter(part)) for part in chain(*lists)]
    return [name.replace("${item.profile}", "{profile}") for name in names]


EXECUTED = [Stage(name) for name, parts in STAGES.items() if parts["cmd"].split()[1] == "execute"]
each_stage = pytest.mark.parametrize("stage", EXECUTED, ids=lambda stage: stage.name)


def within(path: str, *folders: str) -> bool:
    return any(path == folder or path.startswith(f"{folder}/") for folder in folders)


def sections_read(code: str) -> set[str]:
    """Sections named in ``project.section(...)``, or listed, as for a loop over it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Attribute) and ast.unparse(node) == "project.profile":
            names.add("profile")
        elif isinstance(node, ast.Tuple) or (
            isinstance(node, ast.Call) and ast.unparse(node.func).endswith("project.section")
        ):
            parts = node.elts if isinstance(node, ast.Tuple) else node.args
            words = {part.value for part in parts if isinstance(part, ast.Constant)}
            names |= words if words <= set(Settings.model_fields) else set()  # type: ignore[arg-type]
    return names


def modules_behind(names: set[str]) -> set[str]:
    """Modules and all that they import; settings come to a stage as files, not through project."""
    graph = grimp.build_graph("vecaf_lib", cache_dir=None)
    behind: set[str] = set()
    pending = {name for name in names if name in graph.modules}
    while pending:
        name = pending.pop()
        behind.add(name)
        imported = graph.find_modules_directly_imported_by(name) | {name.rpartition(".")[0]} - {""}
        pending |= imported - behind - ({SETTINGS} if name == PROJECT else set())
    return behind


def file_of(module: str) -> str:
    path = Path(*module.split("."))
    return str(path / "__init__.py" if (ROOT / path).is_dir() else path.with_suffix(".py"))


def modules_below(folder: str) -> set[str]:
    files = [path.relative_to(ROOT).with_suffix("") for path in (ROOT / folder).rglob("*.py")]
    return {".".join(file.parts).removesuffix(".__init__") for file in files}


def imports(code: str) -> set[str]:
    """Modules that a notebook's code imports; names taken from a package may be modules."""
    names = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)}
    return {name for name in names if name.startswith("vecaf_lib")}


def test_every_numbered_notebook_has_a_stage_and_dvc_yaml_is_short() -> None:
    assert {stage.notebook for stage in EXECUTED} == set(NOTEBOOKS)
    assert STAGES["sources"]["cmd"].endswith("notebooks/[1-9]*.ipynb")
    assert len((ROOT / "dvc.yaml").read_text().splitlines()) <= 200


@each_stage
def test_deps_are_the_library_that_the_notebook_imports(stage: Stage) -> None:
    """Methods and data sets are imported by name, for which their whole folders are deps."""
    library = [dep for dep in stage.deps if within(dep, "vecaf_lib")]
    imported = imports("\n".join(stage.code))
    folders = {dep: modules_below(dep) for dep in library if (ROOT / dep).is_dir()}
    behind = modules_behind(imported.union(*folders.values()))
    code = {file_of(name) for name in behind if not file_of(name).endswith("__init__.py")}
    assert {file for file in code if not within(file, *library)} == set(), "list these"
    for dep in library:
        others = [modules for folder, modules in folders.items() if folder != dep]
        needed = {file_of(name) for name in modules_behind(imported.union(*others))}
        assert any(within(file, dep) for file in needed), f"{dep} is not imported"
    assert len(set(stage.deps)) == len(stage.deps)


@each_stage
def test_deps_are_the_sections_that_the_notebook_reads(stage: Stage) -> None:
    listed = {Path(dep).stem for dep in stage.deps if dep.startswith("${set}/")}
    assert listed == sections_read("\n".join(stage.code))


@each_stage
def test_the_first_cell_holds_values_and_what_it_reads_are_deps(stage: Stage) -> None:
    assert stage.tags[0] == ["parameters"]
    tree = ast.parse(stage.code[0])
    defaults = {node.targets[0].id: ast.literal_eval(node.value) for node in tree.body}  # type: ignore[attr-defined]
    assert None not in defaults.values()
    assert stage.values.keys() <= defaults.keys()
    assert "data/generated/notebooks/" + stage.notebook.name in stage.deps
    for name, value in (defaults | stage.values).items():
        if isinstance(value, str) and value.startswith(("data/", "reports/", "profiles/")):
            parts = [*stage.deps, *stage.outs]
            assert any(within(value, p) or within(p, value) for p in parts), f"{name} = {value}"
    for name, value in stage.values.items():  # by hand, and in `vecaf verify`, it writes elsewhere
        assert defaults[name].startswith("data/generated/scratch/")
        assert any(within(out, value) or within(value, out) for out in stage.outs)


@each_stage
def test_what_a_stage_writes_is_the_profiles_own(stage: Stage) -> None:
    assert STAGES[stage.name]["matrix"]["profile"] == ["${profile}"]
    assert stage.output in stage.outs
    assert all("/{profile}/" in out for out in stage.outs)
    others = [out for other in EXECUTED if other is not stage for out in other.outs]
    assert [o for o in stage.outs if within(o, *others)] == []


def test_no_command_holds_a_name_that_nothing_has_checked() -> None:
    for parts in STAGES.values():
        assert "$" not in parts["cmd"]
    assert not re.search("profile", str(STAGES["settings"]) + str(STAGES["sources"]))


VECAF = """#!{python}
# as the project's own command, but for notebooks and pages, which take seconds each
import pathlib, sys
if sys.argv[1] not in ("execute", "site"):
    from vecaf_lib.cli import main
    sys.exit(main())
for path in {outs!r}[pathlib.Path(sys.argv[2]).name]:
    path = pathlib.Path(path.replace("{{profile}}", "smoke"))
    path = path if path.suffix else path / "file.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text('{{"table1": {{"vecaf": %d}}}}' % open("params.yaml").read().count("0"))
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout with these stages and settings, whose notebooks write a line each."""
    for name in ("dvc.yaml", "params.yaml", ".dvcignore", ".dvc/config", ".gitignore"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    for parts in STAGES.values():
        for dep in parts["deps"]:
            if dep.startswith(("vecaf_lib", "data/paper", "profiles", "reports/performance")):
                file = tmp_path / dep if Path(dep).suffix else tmp_path / dep / "file.txt"
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(dep)
    shutil.copytree(ROOT / "data" / "digits", tmp_path / "data" / "digits")
    shutil.copytree(ROOT / "notebooks", tmp_path / "notebooks")
    outs = {stage.notebook.name: stage.outs for stage in EXECUTED}
    outs["{profile}"] = ["data/generated/site/{profile}"]
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "vecaf").write_text(VECAF.format(python=sys.executable, outs=outs))
    (tmp_path / "bin" / "vecaf").chmod(0o755)
    path = f"{tmp_path}/bin:{Path(sys.executable).parent}:{os.environ['PATH']}"
    monkeypatch.setenv("PATH", path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.chdir(tmp_path)
    git("init", "--quiet")
    git("config", "user.name", "a")  # DVC's experiments ask git for an identity
    git("config", "user.email", "a@example.org")
    git("add", ".")
    git("commit", "--quiet", "-m", "before")
    return tmp_path


def run(*words: str) -> str:
    done = subprocess.run(words, capture_output=True, text=True)
    return f"{done.stdout}{done.stderr}exit {done.returncode}"


def git(*words: str) -> None:
    who = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", *who, *words], check=True, capture_output=True)


def rerun() -> set[str]:
    """The stages that `dvc repro` runs, but for the one that always does."""
    text = run("dvc", "repro")
    assert text.endswith("exit 0"), text
    return {name.split("@")[0] for name in re.findall("Running stage '(.*)'", text)} - {"inputs"}


def edit(path: str, old: str, new: str) -> None:
    text = Path(path).read_text(encoding="utf-8")
    assert old in text
    Path(path).write_text(text.replace(old, new, 1), encoding="utf-8")


@pytest.mark.timeout(240)
def test_what_reruns_and_what_dvc_shows(project: Path) -> None:
    assert rerun() == STAGES.keys() - {"inputs"}
    assert rerun() == set()
    assert len(Path("dvc.lock").read_bytes()) <= 60_000
    git("add", ".")
    git("commit", "--quiet", "-m", "results")

    notebook = json.loads(Path("notebooks/40_tables.ipynb").read_text())
    notebook["metadata"]["widgets"] = {}  # as Jupyter leaves it
    Path("notebooks/40_tables.ipynb").write_text(json.dumps(notebook))
    edit("params.yaml", "profile: smoke", "profile: smoke  # a comment")
    assert rerun() == {"settings", "sources", "site"}  # the site shows params.yaml
    edit("vecaf_lib/results/file.txt", "vecaf", "blue")  # a colour
    edit("params.yaml", "target_accuracy: [", "target_accuracy: [40, ")
    text = run("dvc", "exp", "run", "-S", "seeds=[0]")
    assert "Experiment results have been applied" in text
    assert "Running stage 'tables@smoke'" in text
    assert not re.search("Running stage '(captions|embeddings)@", text)
    shown = json.loads(run("dvc", "exp", "show", "--json").rpartition("]")[0] + "]")
    assert shown[1]["experiments"], "the experiment is listed"
    changes = run("dvc", "metrics", "diff")
    assert "reports/smoke/metrics.json" in changes
    assert "table1.vecaf" in changes


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    "name",
    ['"$(touch touched); touch touched"', "../../victim"],
    ids=["command", "path"],
)
def test_a_hostile_name_runs_and_deletes_nothing(project: Path, name: str) -> None:
    victims = [project.parent / "victim" / part / "file.txt" for part in ("tables", "runs", "")]
    for victim in victims:
        victim.parent.mkdir(parents=True, exist_ok=True)
        victim.touch()
    edit("params.yaml", "profile: smoke", f"profile: {name}")
    assert "profile is" in run("dvc", "repro", "--keep-going")
    assert not list(Path().glob("reports/*/tables"))
    for stage in ("tables", "runs"):  # even where a person names the stage and leaves out the first
        run("dvc", "repro", "--force", "--single-item", f"{stage}@{yaml.safe_load(name)}")
    assert not Path("touched").exists()
    assert all(victim.exists() for victim in victims)
