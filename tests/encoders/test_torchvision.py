"""torchvision beside a CPU-only torch: importable here, and left alone where it needs no help."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from vecaf_lib.encoders import _torchvision
from vecaf_lib.encoders._torchvision import make_torchvision_importable

ROOT = Path(__file__).parents[2]


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """A pretended torchvision with compiled operators; what is declared is listed, not done."""
    declared: list[str] = []
    (tmp_path / "_C.so").touch()
    spec = SimpleNamespace(origin=str(tmp_path / "__init__.py"))
    monkeypatch.setattr(_torchvision.importlib.util, "find_spec", lambda name: spec)
    monkeypatch.delitem(sys.modules, "torchvision", raising=False)
    monkeypatch.setattr(_torchvision, "_declared", [])
    recorder = SimpleNamespace(define=declared.append)
    monkeypatch.setattr(torch.library, "Library", lambda *_: recorder)
    return declared


def test_torchvision_imports_in_a_fresh_process() -> None:
    """With the schemas declared if it does not import by itself, and without them if it does."""
    alone = python("import torchvision")
    cured = python(
        "import vecaf_lib.encoders as e, torchvision, timm; print(len(e._torchvision._declared))"
    )
    assert cured.returncode == 0, cured.stderr
    assert cured.stdout.strip() == ("0" if alone.returncode == 0 else "1")
    if alone.returncode:
        assert "torchvision::nms does not exist" in alone.stderr


def test_nothing_is_declared_where_the_operators_load(
    library: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[str] = []
    monkeypatch.setattr(torch.ops, "load_library", loaded.append)
    make_torchvision_importable()
    assert [Path(path).name for path in loaded] == ["_C.so"]
    assert library == []


def test_both_schemas_are_declared_where_they_do_not(
    library: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(path: str) -> None:
        raise OSError("libcudart.so.13: cannot open shared object file")

    monkeypatch.setattr(torch.ops, "load_library", fails)
    make_torchvision_importable()
    assert [schema.split("(")[0] for schema in library] == ["nms", "qnms"]
    make_torchvision_importable()
    assert len(library) == 2  # once is enough


def test_nothing_is_done_if_it_is_imported_or_absent(
    library: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torchvision", SimpleNamespace())  # type: ignore[arg-type]
    make_torchvision_importable()
    monkeypatch.delitem(sys.modules, "torchvision")
    monkeypatch.setattr(_torchvision.importlib.util, "find_spec", lambda name: None)
    make_torchvision_importable()
    assert library == []
