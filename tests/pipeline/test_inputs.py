"""One file tells whether images, captions or weights changed, wherever they lie."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from vecaf_lib.data import place
from vecaf_lib.errors import BadInput
from vecaf_lib.files import sha256_file, write_json
from vecaf_lib.pipeline.provenance import identify_inputs
from vecaf_lib.pipeline.settings import read

ROOT = Path(__file__).parents[2]


def smoke(**changes: dict[str, Any]) -> dict[str, Any]:
    sections = read(ROOT / "profiles" / "smoke.yaml").model_dump(mode="json")
    return sections | {name: sections[name] | change for name, change in changes.items()}


def picture(path: Path, side: int = 32) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (side, side)).save(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a/1.png", "a/2.png", "b/1.png"):
        picture(tmp_path / "images" / name)
    return tmp_path


def of_folder(folder: Path) -> Any:
    dataset = {"name": "folder", "root": str(folder / "images"), "options": {}}
    return identify_inputs(smoke(dataset=dataset), data=folder / "data")


def test_the_same_images_elsewhere_are_the_same(folder: Path, tmp_path: Path) -> None:
    first = of_folder(folder)
    shutil.copytree(folder / "images", tmp_path / "elsewhere" / "images")
    assert of_folder(tmp_path / "elsewhere") == first
    assert first["images"]["raw"]["files"] == 3
    assert str(tmp_path) not in str(first)


@pytest.mark.parametrize("change", ["add", "rename", "resize", "in place", "of the same time"])
def test_other_images_are_others(folder: Path, change: str) -> None:
    before, path = of_folder(folder), folder / "images" / "a" / "2.png"
    if change == "rename":
        path.rename(path.with_name("3.png"))
    elif change in ("in place", "of the same time"):
        times = path.stat()
        path.write_bytes(path.read_bytes()[::-1])
        if change == "of the same time":
            os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    else:
        picture(path if change == "resize" else path.with_name("3.png"), side=64)
    assert of_folder(folder) != before


def test_only_folders_that_changed_are_read_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, read = of_folder(folder), list[str]()

    def note(path: Path) -> str:
        read.append(path.name)
        return sha256_file(path)

    monkeypatch.setattr(place, "sha256_file", note)
    assert (of_folder(folder), read) == (before, [])
    (folder / "images" / "a" / "1.png").touch()
    assert of_folder(folder) == before
    assert sorted(read) == ["1.png", "2.png"]


def test_captions_and_weights_of_ones_own(tmp_path: Path) -> None:
    plain = identify_inputs(smoke(), data=ROOT / "data")
    assert (plain["captions"], plain["vision"], plain["text"]) == (None, {}, {})
    captions, weights, text = (tmp_path / n for n in ("captions.csv", "weights.pth", "text"))
    text.mkdir()
    profile = smoke(
        captions={"source": str(captions), "options": {}},
        vision={"weights": str(weights)},
        text={"weights": str(text)},
    )
    told = []
    for content in ("one", "another"):
        for path in (captions, weights, text / "model.safetensors"):
            path.write_text(content)
        told.append(identify_inputs(profile, data=ROOT / "data"))
    for part in ("captions", "vision", "text"):
        assert told[0][part]
        assert told[0][part] != told[1][part]
    assert told[0]["images"] == plain["images"]
    captions.unlink()
    with pytest.raises(BadInput, match=r"captions\.source: .*captions\.csv does not exist"):
        identify_inputs(profile, data=ROOT / "data")


def test_images_of_another_set_and_weights_of_a_method(tmp_path: Path) -> None:
    options = {"of": "digits", "corruption": "snow", "severity": 3}
    made = smoke(dataset={"name": "corrupted", "options": options})
    weights = tmp_path / "own.pth"
    weights.write_text("weights")
    made["methods"]["random"]["vision"] = {"name": "x", "weights": str(weights)}
    digests = identify_inputs(made, data=ROOT / "data")
    assert digests["images"] == identify_inputs(smoke(), data=ROOT / "data")["images"]
    assert [*digests["vision"]] == [str(weights)]


def test_the_command_imports_no_torch(tmp_path: Path) -> None:
    """It runs at every `dvc repro`."""
    for name in ("params.yaml", "dvc.yaml"):
        (tmp_path / name).touch()
    (tmp_path / "data").symlink_to(ROOT / "data")
    for name, section in smoke().items():
        write_json(tmp_path / "elsewhere" / f"{name}.json", section)
    code = (
        "import sys; from vecaf_lib.pipeline import project, provenance\n"
        f"project.SECTIONS = {str(tmp_path / 'elsewhere')!r}\n"
        f"provenance.write_inputs({str(tmp_path / '{profile}.json')!r})\n"
        "sys.exit('torch' in sys.modules)"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, check=True)
    assert (tmp_path / "smoke.json").is_file()
