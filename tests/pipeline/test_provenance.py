"""What a file imports is found without running it."""

import json
from pathlib import Path

import pytest

from vecaf_lib.errors import BadInput
from vecaf_lib.pipeline.provenance import code_digests, imports_of, library_versions

ROOT = Path(__file__).parents[2]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    files = {
        "vecaf_lib/__init__.py": "",
        "vecaf_lib/errors.py": "",
        "vecaf_lib/files.py": "import json\nfrom vecaf_lib.errors import BadInput\n",
        "vecaf_lib/unused.py": "",
        "vecaf_lib/selection/__init__.py": "from .random import select\n",
        "vecaf_lib/selection/random.py": "from ..files import read_json\n",
        "vecaf_lib/selection/ods.py": "from . import random\nimport vecaf_lib.selection.ods\n",
        "vecaf_lib/late.py": "def f():\n    from vecaf_lib import errors\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def names(paths: frozenset[Path]) -> set[str]:
    return {path.as_posix().removeprefix("vecaf_lib/") for path in paths}


def notebook(path: Path, *cells: str) -> Path:
    code: list[dict[str, object]] = [
        {
            "cell_type": "code",
            "metadata": {},
            "source": source,
            "outputs": [],
            "execution_count": None,
        }
        for source in cells
    ]
    path.write_text(json.dumps({"nbformat": 4, "nbformat_minor": 4, "metadata": {}, "cells": code}))
    return path


def test_imports_are_followed_through_packages_and_functions(tree: Path) -> None:
    selection = {
        "__init__.py",
        "errors.py",
        "files.py",
        "selection/__init__.py",
        "selection/random.py",
    }
    assert names(imports_of(Path("vecaf_lib/files.py"), tree)) == {"__init__.py", "errors.py"}
    assert names(imports_of(Path("vecaf_lib/late.py"), tree)) == {"__init__.py", "errors.py"}
    ods = imports_of(tree / "vecaf_lib/selection/ods.py", tree)
    assert names(ods) == {*selection, "selection/ods.py"}  # it imports itself
    script = tree / "script.py"
    script.write_text("from vecaf_lib.selection import select, ods\n")
    assert names(imports_of(script, tree)) == {*selection, "selection/ods.py"}


def test_a_notebook_with_magics(tree: Path) -> None:
    path = notebook(
        tree / "n.ipynb",
        "%matplotlib inline\n!ls\nfrom vecaf_lib.errors import BadInput",
        "%%time\nimport vecaf_lib.unused",
        "%%bash\nthis is 'no Python",
        "x = 7\nprint(x\n      % 3)",
    )
    assert names(imports_of(path, tree)) == {"__init__.py", "errors.py", "unused.py"}


def test_sources_that_cannot_be_followed(tree: Path) -> None:
    script = tree / "script.py"
    script.write_text("import vecaf_lib.selektion\n")
    with pytest.raises(BadInput, match=r"imports vecaf_lib\.selektion, which does not exist"):
        imports_of(script, tree)
    script.write_text("import (\n")
    with pytest.raises(BadInput, match="not valid Python"):
        imports_of(script, tree)
    with pytest.raises(BadInput, match="does not exist"):
        imports_of(Path("nowhere.py"), tree)


def test_digests_change_with_the_code_alone(tree: Path) -> None:
    paths = imports_of(Path("vecaf_lib/files.py"), tree)
    before = code_digests(paths, tree)
    assert list(before) == ["vecaf_lib/__init__.py", "vecaf_lib/errors.py"]
    (tree / "vecaf_lib/unused.py").write_text("x = 1\n")
    assert code_digests(paths, tree) == before
    (tree / "vecaf_lib/errors.py").write_text("x = 1\n")
    assert code_digests(paths, tree) != before


def test_the_package_itself_can_be_followed() -> None:
    found = imports_of(Path("vecaf_lib/pipeline/store.py"), ROOT)
    assert names(found) == {"__init__.py", "errors.py", "files.py", "run_files.py"}


def test_versions() -> None:
    assert library_versions(["numpy", "nbformat"]).keys() == {"nbformat", "numpy"}
    with pytest.raises(BadInput, match="Package no-such-package is not installed"):
        library_versions(["no-such-package"])
