"""What is fetched from the hub, and that a hub out of reach is one sentence: no network here."""

from typing import Any

import pytest

from vecaf_lib.encoders import text_download
from vecaf_lib.encoders.text import TEXT_ENCODERS, available, download
from vecaf_lib.errors import BadInput

GPT2 = [
    ".gitattributes",
    "64.tflite",
    "README.md",
    "config.json",
    "flax_model.msgpack",
    "generation_config.json",
    "merges.txt",
    "model.safetensors",
    "onnx/decoder_model.onnx",
    "pytorch_model.bin",
    "rust_model.ot",
    "tf_model.h5",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
]
TEXT_OF_GPT2 = {
    "config.json",
    "merges.txt",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
}
Fetched = list[tuple[str, str | None, list[str]]]


class Hub:
    """Stands for the hub: every repository has ``files``; keeps what is fetched."""

    def __init__(self, files: list[str]) -> None:
        self.files = files
        self.fetched: Fetched = []

    def list_repo_files(self, repository: str, *, revision: str | None) -> list[str]:
        return self.files

    def snapshot(self, repository: str, *, revision: str | None, allow_patterns: list[str]) -> str:
        self.fetched.append((repository, revision, allow_patterns))
        return "folder"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Hub:
    hub = Hub(GPT2)
    monkeypatch.setattr(text_download, "HfApi", lambda: hub)
    monkeypatch.setattr(text_download, "snapshot_download", hub.snapshot)
    return hub


def test_only_what_is_read_is_fetched(hub: Hub) -> None:
    assert download("gpt2_large") is None
    [(repository, revision, files)] = hub.fetched
    assert (repository, revision) == ("openai-community/gpt2-large", None)
    assert set(files) == TEXT_OF_GPT2 | {"model.safetensors"}


def test_another_model_at_a_revision(hub: Hub) -> None:
    download("gpt2_large", "openai-community/gpt2", "v1")
    assert hub.fetched[0][:2] == ("openai-community/gpt2", "v1")


@pytest.mark.parametrize(
    ("there", "wanted"),
    [
        (["pytorch_model.bin", "tf_model.h5"], {"pytorch_model.bin"}),
        (
            [
                "model-00001-of-00002.safetensors",
                "model-00002-of-00002.safetensors",
                "model.safetensors.index.json",
                "pytorch_model-00001-of-00002.bin",
                "pytorch_model.bin.index.json",
            ],
            {
                "model-00001-of-00002.safetensors",
                "model-00002-of-00002.safetensors",
                "model.safetensors.index.json",
            },
        ),
    ],
)
def test_the_best_form_of_the_weights(hub: Hub, there: list[str], wanted: set[str]) -> None:
    hub.files = ["config.json", "spiece.model", *there]
    download("mt5_large")
    assert set(hub.fetched[0][2]) == {"config.json", "spiece.model"} | wanted


def test_clip_comes_from_open_clips_repository(hub: Hub) -> None:
    hub.files = ["model.safetensors", "open_clip_config.json", "open_clip_model.safetensors"]
    download("clip_vit_l")
    [(repository, _, files)] = hub.fetched
    assert repository == "timm/vit_large_patch14_clip_224.openai"
    assert set(files) == {"open_clip_config.json", "open_clip_model.safetensors"}


def test_the_control_has_nothing_to_fetch(hub: Hub) -> None:
    download("hashed")
    assert hub.fetched == []


def test_a_repository_without_weights(hub: Hub) -> None:
    hub.files = ["config.json", "tf_model.h5"]
    with pytest.raises(BadInput, match=r"it has no model\.safetensors or pytorch_model\.bin\)\.$"):
        download("bert_large")
    assert hub.fetched == []


def test_a_hub_out_of_reach_is_one_sentence(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: Any, **__: Any) -> list[str]:
        raise ConnectionError("no route\nmore lines\n")

    monkeypatch.setattr(hub, "list_repo_files", unreachable)
    with pytest.raises(
        BadInput,
        match=r"^text\.model: google-bert/bert-large-uncased cannot be fetched .* \(no route\)\.$",
    ):
        download("bert_large")


@pytest.mark.parametrize("name", [n for n in TEXT_ENCODERS if n not in ("minilm", "hashed")])
def test_what_no_package_carries(name: str) -> None:
    assert available(name, "package") == (
        f"text.weights: no package carries {name!r}; give 'hub' or the path of a local copy."
    )


def test_what_is_available_without_loading(tmp_path: Any) -> None:
    assert available("minilm", "package") is None
    absent = tmp_path / "absent"
    assert available("bert_large", str(absent)) == (
        f"text.weights: {absent} is no folder; give the folder of a saved model, 'hub'."
    )
    assert available("bert_large", str(tmp_path)) == f"text.weights: {tmp_path} has no config.json."
    assert "did you mean 'bert_large'?" in (available("bert-large", "hub") or "")
    assert "is no id on the Hugging Face hub" in (available("bert_large", "hub", "a//b c") or "")
