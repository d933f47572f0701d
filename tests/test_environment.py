"""The lock file pins what pyproject.toml asks for, on any machine; environment.yml agrees."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = ("pipeline", "site", "dev")  # the lock's; the others are installed when asked for
ASKED = [PROJECT["dependencies"], *(PROJECT["optional-dependencies"][name] for name in EXTRAS)]
DIRECT = [Requirement(text) for texts in ASKED for text in texts]
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


def test_every_line_is_one_exact_version_of_another_project_for_any_machine() -> None:
    """No URL, path, editable install or option, nothing of CUDA, no local build."""
    for line in LINES:
        assert re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.!]+", line), line
        assert not re.search(r"cuda|nvidia|cudnn|triton", line, re.IGNORECASE), line
        Version(line.split("==")[1])
    assert len(PINNED) == len(LINES)
    assert canonicalize_name(PROJECT["name"]) not in PINNED


def test_environment_yml_agrees_with_the_lock() -> None:
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    assert environment["name"] == PROJECT["name"]
    (pip,) = [part["pip"] for part in environment["dependencies"] if isinstance(part, dict)]
    assert environment["dependencies"][:2] == ["python=3.11", "pip"], "all else is in the lock"
    assert Version("3.11") in Requirement(f"python{PROJECT['requires-python']}").specifier
    assert sorted(pip) == ["-e .", "-r requirements.lock"]


def test_the_environment_that_runs_the_tests_is_the_locked_one() -> None:
    for name in ("torch", "timm", "transformers", "numpy", "scikit-learn", "dvc", "papermill"):
        assert version(name).split("+")[0] == PINNED[name], name


def test_help_says_how_long_each_target_takes() -> None:
    targets = re.findall("^[a-z-]+:.*## .*", (ROOT / "Makefile").read_text(), flags=re.M)
    assert [line for line in targets if not re.search("second|minute|hour", line)] == []


def make(folder: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run make in a folder with the Makefile, outside any git checkout."""
    shutil.copy(ROOT / "Makefile", folder)
    for name in ("requirements.lock", "requirements-nodeps.lock", "pyproject.toml"):
        (folder / name).touch()
    given = {"PATH": os.environ["PATH"], "GIT_CEILING_DIRECTORIES": str(folder.parent)}
    return subprocess.run(
        ["make", *words], cwd=folder, env=given | environment, capture_output=True, text=True
    )


def test_an_archive_without_git_a_nameless_user_and_anothers_settings(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    dvc = tmp_path / "bin" / "dvc"
    dvc.write_text('#!/bin/sh\necho "$@" "user ${USER:-none}" "backend ${MPLBACKEND:-none}"\n')
    dvc.chmod(0o755)
    (tmp_path / "data/generated/settings").mkdir(parents=True)
    (tmp_path / "data/generated/settings/profile.json").write_text('"smoke"')
    words = ("-o", "env", "repro", "VENV=.")
    done = make(tmp_path, *words, MPLBACKEND="TkAgg")
    assert done.stdout.splitlines()[:2] == [
        f"config --local core.no_scm true user {os.getuid()} backend none",
        f"repro user {os.getuid()} backend none",
    ]
    subprocess.run(["git", "init", "--quiet", str(tmp_path)], check=True)
    assert "no_scm" not in make(tmp_path, *words).stdout


def test_a_folder_that_cannot_be_written_is_named_before_anything_is_installed(
    tmp_path: Path,
) -> None:
    done = make(tmp_path, "env", "VENV=/proc/environment", f"PYTHON={sys.executable}")
    assert "/proc/environment must be folders that you can write" in done.stderr.splitlines()[0]
    assert "-m venv" not in done.stdout
