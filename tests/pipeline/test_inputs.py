"""One file tells whether images, captions or weights changed, wherever they lie."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from vecaf_lib import settings
from vecaf_lib.errors import BadInput
from vecaf_lib.pipeline.inputs import inputs

ROOT = Path(__file__).parents[2]


def smoke(**changes: dict[str, Any]) -> settings.Settings:
    profile = settings.read(ROOT / "profiles" / "smoke.yaml")
    parts = {n: getattr(profile, n).model_copy(update=v) for n, v in changes.items()}
    return profile.model_copy(update=parts)


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
    return inputs(smoke(dataset=dataset), data=folder / "data")


def test_the_same_images_elsewhere_are_the_same(folder: Path, tmp_path: Path) -> None:
    first = of_folder(folder)
    shutil.copytree(folder / "images", tmp_path / "elsewhere" / "images")
    assert of_folder(tmp_path / "elsewhere") == first
    assert first["images"]["raw"]["files"] == 3
    assert str(tmp_path) not in str(first)


@pytest.mark.parametrize("change", ["add", "remove", "rename", "resize"])
def test_other_images_are_others(folder: Path, change: str) -> None:
    first, path = of_folder(folder), folder / "images" / "a" / "2.png"
    if change == "add":
        picture(folder / "images" / "b" / "2.png")
    elif change == "remove":
        path.unlink()
    elif change == "rename":
        path.rename(path.with_name("3.png"))
    else:
        picture(path, side=64)
    assert of_folder(folder) != first


def test_captions_and_weights_of_ones_own(tmp_path: Path) -> None:
    plain = inputs(smoke(), data=ROOT / "data")
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
        told.append(inputs(profile, data=ROOT / "data"))
    for part in ("captions", "vision", "text"):
        assert told[0][part]
        assert told[0][part] != told[1][part]
    assert told[0]["images"] == plain["images"]
    captions.unlink()
    with pytest.raises(BadInput, match=r"captions\.source: .*captions\.csv does not exist"):
        inputs(profile, data=ROOT / "data")


def test_a_set_made_of_another_is_identified_by_its_images() -> None:
    options = {"of": "digits", "corruption": "snow", "severity": 3}
    made = inputs(smoke(dataset={"name": "corrupted", "options": options}), data=ROOT / "data")
    assert made["images"] == inputs(smoke(), data=ROOT / "data")["images"]
