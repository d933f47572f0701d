"""`vecaf check` and `vecaf fetch` on complete and incomplete set-ups of every profile."""

import functools
import shutil
from collections.abc import Callable
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import torch
from PIL import Image

from vecaf_lib.data.cifar10 import CLASS_NAMES
from vecaf_lib.data.load import load_lazily
from vecaf_lib.data.place import KNOWN
from vecaf_lib.errors import BadInput
from vecaf_lib.pipeline import needs
from vecaf_lib.pipeline.needs import check, fetch, report
from vecaf_lib.pipeline.settings import Captions, Settings, change, checked, read, read_yaml

ROOT = Path(__file__).parents[2]
PROFILES = sorted(path.stem for path in (ROOT / "profiles").glob("*.yaml"))
GIB = 2**30
LAST = {"trainable": "last_blocks"}


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


def profile(name: str) -> Settings:
    return read(ROOT / "profiles" / f"{name}.yaml")


def found(name: str, data: Path) -> dict[str, tuple[bool, str]]:
    return {what: (there, told) for what, there, told in check(profile(name), data=data)}


def touch(path: Path) -> None:
    """Empty files suffice: a look opens none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


def put_cifar10(data: Path) -> None:
    for name in CLASS_NAMES:
        picture = data / "raw" / "cifar10" / "test" / name / "0000.png"
        touch(picture)
        Image.new("RGB", (40, 32), (90, 90, 30)).save(picture)
        for number in range(260):
            path = data / "raw" / "cifar10" / "train" / name / f"{number:04d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.hardlink_to(picture)


def put_caltech101(data: Path) -> None:
    for split in ("train", "validation", "test"):
        for line in (data / "caltech101" / f"{split}.csv").read_text().splitlines()[1:]:
            touch(data / "raw" / "caltech101" / "101_ObjectCategories" / line.split(",")[0])


def put_imagenet(data: Path) -> None:
    for synset in ("n01440764", "n01443537"):
        for number in range(700):
            touch(data / "raw" / "imagenet" / "train" / synset / f"{synset}_{number}.JPEG")
        touch(data / "raw" / "imagenet" / "val" / synset / "ILSVRC2012_val_00000001.JPEG")
        for domain, severity in product(("snow", "fog"), range(1, 6)):
            touch(data / "raw" / "imagenet_c" / domain / str(severity) / synset / "1.JPEG")


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
    lacking = (
        IMAGES if name.startswith(("caltech101-", "cifar10-")) else IMAGES | HUB | {"processor"}
    )
    told = {what: line for what, (there, line) in found(name, data).items() if not there}
    assert told.keys() == (set() if name == "smoke" else lacking)
    cures = {"images, train": "VECAF_", "processor": "compute.device"}  # each comes with its cure
    for what, cure in (cures | dict.fromkeys(HUB, "make fetch PROFILE=")).items():
        assert cure in told.get(what, cure)


@pytest.mark.parametrize("name", PROFILES)
def test_a_complete_machine(name: str, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    PUT[profile(name).dataset.name](data)
    if name.startswith("paper"):
        places = ("captions.locate", "text.locate", "weights.weights_file")
        for place in places:
            monkeypatch.setattr(f"vecaf_lib.pipeline.needs.{place}", lambda *a: None)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
        card = SimpleNamespace(total_memory=80 * GIB, name="a GPU")
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda i: card)
    told = found(name, data)
    assert all(there for there, _ in told.values()), told
    assert {"budgets", "disk", "memory", "processor"} <= told.keys()


@pytest.mark.parametrize(
    ("lost", "sentence"),
    [
        ("fog", "has no fog/1; ImageNet-C is <corruption>/<severity>/<synset>/"),
        ("fog/4", "has no fog/4; ImageNet-C is"),
        ("fog/4/n01443537 n01729322", "train and fog/4 differ in 2 classes: only one has goldfish"),
    ],
)
def test_the_folders_of_imagenet_c(lost: str, sentence: str, data: Path) -> None:
    put_imagenet(data)
    old, *new = lost.split()
    place = data / "raw" / "imagenet_c" / old
    place.rename(place.with_name(new[0]) if new else data / "lost")
    told = found("paper-imagenet", data)
    assert told["domain snowy"] == (True, "snow, 2 images a severity")
    assert not told["domain foggy"][0]
    assert sentence in told["domain foggy"][1]


@pytest.mark.parametrize(
    ("change", "what", "sentence"),
    [
        ({"compute": {"memory_gib": 101.0}}, "memory", "101.00 GiB needed, 100.0 GiB free"),
        ({"training": {"batch_size": 2000}}, "budgets", "is 2000, more than the pool's"),
        ({"vision": {"name": "tf_efficientnet_lite9"}}, "vision model", "timm has no model"),
        ({"vision": {"weights": "absent.pth"}}, "vision model", "absent.pth is not a file"),
        ({"captions": {"source": "absent.csv"}}, "captions", "absent.csv"),
        ({"training": LAST | {"blocks": 8}}, "finetuned", "blocks is 8, but EfficientNet has 7"),
        ({"training": LAST, "vision": {"name": "resnet18"}}, "finetuned", "not for ResNet"),
        (
            {"training": {"drop_path": 0.1}, "vision": {"name": "vgg11"}},
            "finetuned",
            "vgg11 has none",
        ),
    ],
    ids=["memory", "budget", "model", "weights", "captions", "blocks", "kind", "drop path"],
)
def test_each_thing_that_may_be_wrong(
    change: dict[str, dict[str, object]], what: str, sentence: str, data: Path
) -> None:
    smoke = profile("smoke")
    parts = {
        name: getattr(smoke, name).model_copy(update=values) for name, values in change.items()
    }
    lines = check(smoke.model_copy(update=parts), data=data)
    wrong = {name: line for name, available, line in lines if not available}
    # the need of disk is unknown without a model, and without weights in a package it is not there
    assert {what} <= wrong.keys() <= {what, "disk", "vision model", "finetuned"}
    assert sentence in wrong[what]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"table2.targets": ["tree"]}, "'tree' is no class of the pool, but stands in targets"),
        ({"table1.ratios": [0.01]}, "ratio: 0.01 % of 1000 samples; use 0.1 to 100"),
        (
            {"table1.ratios": [14.26], "table1.loops": [7]},
            "7 kept sets of 143 images are more than the pool's 1000",
        ),
    ],
)
def test_runs_that_do_not_fit_the_pool(changes: dict[str, Any], sentence: str, data: Path) -> None:
    content = read_yaml(ROOT / "profiles" / "smoke.yaml")
    content = change(content, {f"tables.{name}": value for name, value in changes.items()})
    lines = {name: (there, line) for name, there, line in check(checked(content, ""), data=data)}
    assert not lines["budgets"][0]
    assert sentence in lines["budgets"][1]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"methods.vecaf.cea": None}, "methods.vecaf should be there, with select: ods, cea"),
        ({"tables": {}}, "table1 is missing"),
        ({"figures.methods": ["vecaf"]}, "figures.methods has no activeft"),
        ({"tables.table1.methods": ["activeft", "vecaf"]}, "has full, but tables.table1.methods"),
    ],
)
def test_what_the_pages_need(changes: dict[str, Any], sentence: str, data: Path) -> None:
    content = change(read_yaml(ROOT / "profiles" / "smoke.yaml"), changes)
    with pytest.raises(BadInput, match=sentence):
        needs._pages(checked(content, ""))


def test_models_of_methods_are_looked_for_too(data: Path) -> None:
    content = read_yaml(ROOT / "profiles" / "smoke.yaml")
    content["tables"]["table3"]["optional"] = []
    content["methods"]["vecaf_lite1"]["change"]["vision"]["weights"] = "absent.pth"
    missing = {n: line for n, there, line in check(checked(content, "x"), data=data) if not there}
    assert missing.keys() == {"vision model", "CLIPstyler's CLIP"}
    assert "absent.pth is not a file" in missing["vision model"]


@pytest.mark.parametrize("name", ["cifar10-cpu", "caltech101-look"])  # a part as pool; blind
def test_captions_of_all_images_whatever_their_split(name: str, data: Path) -> None:
    own = profile(name)
    PUT[own.dataset.name](data)
    source = data / "captions.csv"
    root = next((data / "raw").glob("*/101_ObjectCategories"), data / "raw" / "cifar10")
    everything = [path.relative_to(root).as_posix() for path in root.glob("**/*.*")]
    source.write_text("id,caption\n" + "".join(f"{id_},words\n" for id_ in everything))
    settings = own.model_copy(update={"captions": Captions(source=str(source))})
    train = load_lazily(split="train", data=data, **own.dataset.model_dump(exclude={"memory_gib"}))
    assert needs._captions(settings, train, data) == f"{len(train):,} in {source}"
    with source.open("a") as file:
        file.write("train/none.jpg,words\n")
    with pytest.raises(BadInput, match=r"caption for unknown 1 images: train/none\.jpg; ids here"):
        needs._captions(settings, train, data)


def test_a_full_disk_and_a_small_gpu(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    there, told = found("smoke", data)["disk"]
    assert not there
    assert "make room" in told
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    card = SimpleNamespace(total_memory=8 * GIB, name="a GPU")
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda i: card)
    there, told = found("paper-cifar10", data)["processor"]
    assert not there
    assert "8 GiB; the profile needs 38" in told


def test_the_report(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    report("smoke")
    assert "Profile smoke has all it needs." in capsys.readouterr().out
    monkeypatch.setenv("VECAF_CIFAR10", "/absent")
    with pytest.raises(BadInput, match="cifar10-cpu lacks: images, train; images, validation"):
        report("cifar10-cpu")
    assert "MISSING images, train" in capsys.readouterr().out
    with pytest.raises(BadInput, match="'smok' is no profile; did you mean 'smoke'"):
        report("smok")


@pytest.fixture
def fetched(monkeypatch: pytest.MonkeyPatch, data: Path) -> list[tuple[Any, ...]]:
    """What would be fetched from nothing; nothing is."""
    calls: list[tuple[Any, ...]] = []
    monkeypatch.chdir(data.parent)
    monkeypatch.setattr(needs, "settings_of", profile)
    monkeypatch.setattr(needs, "fetch_images", lambda *a: calls.append(("images", *a)))
    for place in ("weights.weights_file", "text.locate", "captions.locate"):
        note = functools.partial(lambda name, *a: calls.append((name, *a)), place.split(".")[0])
        monkeypatch.setattr(f"vecaf_lib.pipeline.needs.{place}", note)
    return calls


def test_what_is_fetched(fetched: list[tuple[Any, ...]]) -> None:
    fetch("paper-cifar10")
    fetch("smoke")  # whose models come in packages
    fetch(None, "caltech101")
    assert all(call[-1] is True for call in fetched if call[0] == "captions")  # fetched
    assert [call[:2] for call in fetched] == [
        ("images", "cifar10"),
        ("weights", "vit_base_patch16_224.dino"),
        ("text", "clip_vit_l"),
        ("captions", "blip2"),
        ("captions", "attributes"),  # which has nothing to fetch
        ("images", "caltech101"),
    ]


def test_what_fails_does_not_keep_the_rest(
    fetched: list[tuple[Any, ...]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refuse(*_: Any) -> None:
        raise BadInput("no network.")

    monkeypatch.setattr(needs.text, "locate", refuse)
    settings = profile("paper-cifar10")
    place = {"root": str(tmp_path / "absent")}  # what a profile names is not filled
    settings = settings.model_copy(update={"dataset": settings.dataset.model_copy(update=place)})
    monkeypatch.setattr(needs, "settings_of", lambda _: settings)
    with pytest.raises(BadInput, match="lacks: images; text encoder"):
        fetch("paper-cifar10")
    assert [call[0] for call in fetched] == ["weights", "captions"]


@pytest.mark.parametrize("name", ["deit_small_patch16_224", "swin_base_patch4_window7_224"])
def test_a_model_that_has_learnt_imagenets_labels_is_refused(name: str) -> None:
    paper = read(ROOT / "profiles" / "paper-imagenet.yaml")
    assert needs._pretraining(paper) == "without ImageNet's labels"
    supervised = paper.model_copy(update={"vision": paper.vision.model_copy(update={"name": name})})
    with pytest.raises(BadInput, match=rf"{name} .* use vit_base_patch16_224\.dino"):
        needs._pretraining(supervised)
