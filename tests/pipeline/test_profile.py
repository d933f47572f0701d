"""Switching profiles keeps what a user wrote."""

from pathlib import Path

import pytest

from vecaf_lib import settings
from vecaf_lib.errors import BadInput
from vecaf_lib.pipeline import cli
from vecaf_lib.pipeline.profile import main, switch


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with two profiles, each valid unless it says otherwise."""

    def read(path: Path) -> None:
        if "wrong" in path.read_text():
            raise BadInput(f"{path}: key 'wrong' is unknown.")

    monkeypatch.setattr(settings, "read", read)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "profiles").mkdir()
    for name in ("smoke", "cifar10-cpu"):
        (tmp_path / "profiles" / f"{name}.yaml").write_text(f"profile: {name}\n")
    return tmp_path


def params() -> str:
    return Path("params.yaml").read_text()


def test_one_command_switches_and_back(capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("smoke", "cifar10-cpu", "smoke"):
        main([name])
        assert params() == f"profile: {name}\n"
    assert "params.yaml is now profile smoke" in capsys.readouterr().out


def test_an_unknown_profile_names_the_nearest() -> None:
    with pytest.raises(BadInput, match=r"did you mean 'smoke'.*cifar10-cpu, smoke"):
        main(["smok"])


def test_an_invalid_profile_changes_nothing() -> None:
    main(["smoke"])
    Path("profiles/bad.yaml").write_text("wrong: 1\n")
    with pytest.raises(BadInput, match="'wrong' is unknown"):
        main(["bad"])
    assert params() == "profile: smoke\n"


def test_edits_are_kept_unless_forced() -> None:
    Path("params.yaml").write_text("profile: mine\n")
    with pytest.raises(BadInput, match=r"params\.yaml has edits.*--force"):
        main(["smoke"])
    assert params() == "profile: mine\n"
    main(["smoke", "--force"])
    assert params() == "profile: smoke\n"


def test_paths_come_from_the_caller(tmp_path: Path) -> None:
    switch("smoke", profiles=tmp_path / "profiles", params=tmp_path / "other.yaml")
    assert (tmp_path / "other.yaml").read_text() == "profile: smoke\n"


def test_a_command_line_prints_the_sentence_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["profile", "nothing-like-it"])
    with pytest.raises(SystemExit) as ended:
        cli.run(main)
    assert ended.value.code == 1
    text = capsys.readouterr().err
    assert text.startswith("There is no profile 'nothing-like-it'; known are: ")
    assert "Traceback" not in text
