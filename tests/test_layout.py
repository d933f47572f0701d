"""The layers of the library, its size, and notebooks that explain and hold no outputs."""

import ast
from pathlib import Path

import grimp
import pytest
from counts import LIMITS, counts

from vecaf_lib.pipeline.notebooks import read_notebook

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
LONGEST = 25  # lines of a function in a notebook: enough to measure, plot or save
# A module imports from its own layer and from those above it; imports inside functions count.
LAYERS = [
    {"errors"},
    {"files", "seeding", "options"},
    {"data", "objective", "results"},
    {"devices", "ensemble"},
    {"models"},
    {"captions", "large_pool", "cea"},
    {"evaluation", "training"},
    {"selection"},
    {"subset"},
    {"observation", "loop"},
    {"stylise"},
    {"pipeline"},
    {"cli"},
]
ALONE = {"large_pool": {"errors", "options", "objective", "ensemble", "large_pool"}}
ALONE["results"] = {"errors", "files", "results"}


def direct_imports() -> set[tuple[str, str]]:
    """(importer, imported) of the library's packages and top modules."""
    graph = grimp.build_graph("vecaf_lib", cache_dir=None)
    pairs = {
        (importer.split(".")[1], imported.split(".")[1])
        for importer in graph.modules - {"vecaf_lib"}
        for imported in graph.find_modules_directly_imported_by(importer) - {"vecaf_lib"}
    }
    return {(importer, imported) for importer, imported in pairs if importer != imported}


def test_modules_import_from_the_layers_above_and_packages_not_each_other() -> None:
    layer = {name: number for number, names in enumerate(LAYERS) for name in names}
    present = {path.stem for path in (ROOT / "vecaf_lib").iterdir() if path.stem[0] != "_"}
    assert present == layer.keys()
    pairs = direct_imports()
    assert {
        pair for pair in pairs if layer[pair[0]] < layer[pair[1]] or pair[::-1] in pairs
    } == set()


@pytest.mark.parametrize("package", sorted(ALONE))
def test_a_package_that_others_may_take_alone(package: str) -> None:
    imported = {name for importer, name in direct_imports() if importer == package}
    assert imported <= ALONE[package]


def test_results_need_no_torch() -> None:
    graph = grimp.build_graph("vecaf_lib", include_external_packages=True, cache_dir=None)
    for module in graph.find_descendants("vecaf_lib.results") | {"vecaf_lib.results"}:
        assert "torch" not in graph.find_upstream_modules(module), module


@pytest.mark.parametrize("name", sorted(LIMITS))
def test_the_project_stays_readable(name: str) -> None:
    assert counts()[name] <= LIMITS[name]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_explains_and_holds_neither_outputs_nor_a_library(path: Path) -> None:
    cells = read_notebook(path).cells
    assert cells[0].cell_type == "markdown"
    assert cells[0].source.startswith("# "), "say at the start what this page is about"
    for cell in cells:
        if cell.cell_type != "code":
            continue
        assert cell.execution_count is None
        assert cell.outputs == []
        for node in ast.walk(ast.parse(cell.source)):
            assert not isinstance(node, ast.ClassDef | ast.AsyncFunctionDef)
            if isinstance(node, ast.FunctionDef):
                assert len(ast.unparse(node).splitlines()) <= LONGEST, node.name
