"""The lock file pins what pyproject.toml asks for, on any machine; environment.yml agrees."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
DIRECT = [
    Requirement(text) for text in PROJECT["dependencies"] + PROJECT["optional-dependencies"]["dev"]
]
LINES = [
    line
    for line in (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    if line and not line.startswith("#")
]
PINNED = {
    canonicalize_name(name): version for name, _, version in (li.partition("==") for li in LINES)
}


@pytest.mark.parametrize("requirement", DIRECT, ids=lambda requirement: requirement.name)
def test_the_lock_pins_every_direct_dependency(requirement: Requirement) -> None:
    name = canonicalize_name(requirement.name)
    assert name in PINNED, f"{requirement} is not locked; run `make lock`"
    assert requirement.specifier.contains(PINNED[name], prereleases=True)


def test_every_line_is_one_exact_version() -> None:
    """No URL, no path, no editable install, no option: only ``name==version``."""
    for line in LINES:
        assert re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.!]+", line), line
        Version(line.split("==")[1])
    assert len(PINNED) == len(LINES)


def test_nothing_of_cuda_and_no_local_build() -> None:
    for line in LINES:
        assert not re.search(r"cuda|nvidia|cudnn|triton|\+cpu|\+cu\d", line, re.IGNORECASE), line


def test_torch_and_torchvision_are_a_pair() -> None:
    torch, vision = Version(PINNED["torch"]), Version(PINNED["torchvision"])
    assert (torch.major, vision.major) == (2, 0)
    assert vision.minor == torch.minor + 15  # torch 2.13 goes with torchvision 0.28


def test_the_lock_does_not_hold_the_project_itself() -> None:
    assert canonicalize_name(PROJECT["name"]) not in PINNED


def test_environment_yml_agrees_with_the_lock() -> None:
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    assert environment["name"] == PROJECT["name"]
    (pip,) = [part["pip"] for part in environment["dependencies"] if isinstance(part, dict)]
    conda = [part for part in environment["dependencies"] if isinstance(part, str)]
    assert "python=3.11" in conda
    assert Version("3.11") in Requirement(f"python{PROJECT['requires-python']}").specifier
    assert set(conda) <= {"python=3.11", "pip"}, "all else comes from the lock"
    assert "-e ." in pip
    rest = [line for line in pip if line != "-e ."]
    if rest != ["-r requirements.lock"]:
        for line in rest:
            name, equals, version = line.partition("==")
            assert equals, f"{line} is not pinned"
            assert PINNED[canonicalize_name(name)] == version


def test_the_environment_that_runs_the_tests_is_the_locked_one() -> None:
    """What torch, timm and the like do depends on their versions."""
    from importlib.metadata import version

    for name in ("torch", "timm", "transformers", "numpy", "scikit-learn", "dvc", "papermill"):
        assert version(name).split("+")[0] == PINNED[name], name
