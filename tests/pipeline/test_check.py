"""`make check` is right about complete and incomplete set-ups of every profile."""

import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import torch
from PIL import Image

from vecaf_lib import settings
from vecaf_lib.datasets import KNOWN
from vecaf_lib.datasets.cifar10 import CLASS_NAMES
from vecaf_lib.errors import BadInput
from vecaf_lib.pipeline import check as check_module
from vecaf_lib.pipeline.check import check, main

ROOT = Path(__file__).parents[2]
PROFILES = sorted(path.stem for path in (ROOT / "profiles").glob("*.yaml"))
GIB = 2**30


@pytest.fixture(autouse=True)
def _nothing_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """No images, no hub, no GPU of the machine that runs the tests."""
    for name in KNOWN:
        monkeypatch.delenv(f"VECAF_{name.upper()}", raising=False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    rich = SimpleNamespace(available=100 * GIB)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: rich)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data folder with index files but no raw data, and a few classes of tiny images to copy."""
    for name in ("digits", "caltech101", "imagenet"):
        shutil.copytree(ROOT / "data" / name, tmp_path / "data" / name)
    return tmp_path / "data"


def profile(name: str) -> settings.Settings:
    return settings.read(ROOT / "profiles" / f"{name}.yaml")


def found(name: str, data: Path) -> dict[str, tuple[bool, str]]:
    findings = check(profile(name), data=data, results=data)
    return {finding.what: (finding.there, finding.told) for finding in findings}


def missing(name: str, data: Path) -> set[str]:
    return {what for what, (there, _) in found(name, data).items() if not there}


def picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (40, 32), (len(str(path)) % 256, 90, 30)).save(path)


def put_cifar10(data: Path) -> None:
    for name in CLASS_NAMES:
        for number in range(260):
            picture(data / "raw" / "cifar10" / "train" / name / f"{number:04d}.png")
        picture(data / "raw" / "cifar10" / "test" / name / "0000.png")


def put_caltech101(data: Path) -> None:
    """Empty files suffice: a look opens none."""
    for split in ("train", "validation", "test"):
        for line in (data / "caltech101" / f"{split}.csv").read_text().splitlines()[1:]:
            path = data / "raw" / "caltech101" / "101_ObjectCategories" / line.split(",")[0]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()


def put_imagenet(data: Path) -> None:
    for synset in ("n01440764", "n01443537"):
        for number in range(700):
            path = data / "raw" / "imagenet" / "train" / synset / f"{synset}_{number}.JPEG"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        path = data / "raw" / "imagenet" / "val" / synset / "ILSVRC2012_val_00000001.JPEG"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


PUT: dict[str, Callable[[Path], None]] = {
    "cifar10": put_cifar10,
    "caltech101": put_caltech101,
    "imagenet": put_imagenet,
    "digits": lambda data: None,
}
IMAGES = {"images, train", "images, validation", "images, test"}
HUB = {"captions", "vision model", "text encoder"}


@pytest.mark.parametrize("name", PROFILES)
def test_an_empty_machine(name: str, data: Path) -> None:
    lacking = missing(name, data)
    if name == "smoke":
        assert lacking == set()
    elif name.endswith("-cpu"):
        assert lacking == IMAGES
    else:
        assert lacking == IMAGES | HUB | {"processor"}


@pytest.mark.parametrize("name", PROFILES)
def test_a_complete_machine(name: str, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    PUT[profile(name).dataset.name](data)
    if name.startswith("paper"):
        for module in ("captions", "text"):
            monkeypatch.setattr(f"vecaf_lib.pipeline.check.{module}.available", lambda *a: None)
        monkeypatch.setattr(check_module, "weights_available", lambda *a: None)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda i: "a GPU")
        card = SimpleNamespace(total_memory=80 * GIB)
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda i: card)
    told = found(name, data)
    assert {what for what, (there, _) in told.items() if not there} == set()
    assert {"budgets", "disk", "memory", "processor"} <= told.keys()


def test_what_is_missing_comes_with_its_cure(data: Path) -> None:
    told = {what: text for what, (there, text) in found("paper-cifar10", data).items() if not there}
    assert "make fetch DATASET=cifar10" in told["images, train"]
    assert "VECAF_CIFAR10" in told["images, train"]
    assert all("make fetch PROFILE=" in told[what] for what in HUB)
    assert "compute.device" in told["processor"]
    assert "image-net.org" in found("paper-imagenet", data)["images, train"][1]


@pytest.mark.parametrize(
    ("change", "what", "sentence"),
    [
        ({"compute": {"memory_gib": 101.0}}, "memory", "needs 101 GiB, but only 100.0 GiB"),
        (
            {"training": {"batch_size": 2000}},
            "budgets",
            "is 2000, but the pool has 1000",
        ),
        ({"vision": {"name": "tf_efficientnet_lite9"}}, "vision model", "timm has no model"),
        ({"vision": {"weights": "absent.pth"}}, "vision model", "absent.pth is not a file"),
        ({"text": {"weights": "absent"}}, "text encoder", "absent is no folder"),
        ({"captions": {"source": "absent.csv"}}, "captions", "absent.csv is missing"),
    ],
)
def test_each_thing_that_may_be_wrong(
    change: dict[str, dict[str, object]], what: str, sentence: str, data: Path
) -> None:
    smoke = profile("smoke")
    parts = {
        name: getattr(smoke, name).model_copy(update=values) for name, values in change.items()
    }
    findings = check(smoke.model_copy(update=parts), data=data, results=data)
    wrong = {finding.what: finding.told for finding in findings if not finding.there}
    assert wrong.keys() == {what}
    assert sentence in wrong[what]


def test_a_full_disk_and_a_small_gpu(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    there, told = found("smoke", data)["disk"]
    assert not there
    assert "make room" in told
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda i: "a GPU")
    card = SimpleNamespace(total_memory=8 * GIB)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda i: card)
    there, told = found("paper-cifar10", data)["processor"]
    assert not there
    assert "has 8 GiB, but the profile needs 38 GiB" in told


def test_the_command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    main(["smoke"])
    assert "Profile smoke has all it needs." in capsys.readouterr().out
    monkeypatch.setenv("VECAF_CIFAR10", "/absent")
    with pytest.raises(BadInput, match="Profile cifar10-cpu lacks 3 of 8 things"):
        main(["cifar10-cpu"])
    assert "MISSING images, train" in capsys.readouterr().out
    with pytest.raises(BadInput, match="no profile 'smok'; did you mean 'smoke'"):
        main(["smok"])
