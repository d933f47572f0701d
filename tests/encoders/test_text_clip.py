"""CLIP's text tower: a tiny model, saved by open_clip, against open_clip's own encode_text."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from vecaf_lib.encoders.text import available, commit, encode, load_text_encoder
from vecaf_lib.encoders.text_clip_tags import clip_config, clip_on_hub
from vecaf_lib.errors import BadInput

import open_clip  # isort: skip  (after vecaf_lib.encoders, which makes it importable)
from open_clip.push_to_hf_hub import save_for_hf  # isort: skip

CONFIG: dict[str, Any] = {
    "embed_dim": 12,
    "quick_gelu": True,
    "vision_cfg": {"image_size": 16, "layers": 1, "width": 32, "head_width": 16, "patch_size": 8},
    "text_cfg": {
        "context_length": 16,
        "vocab_size": 49408,
        "width": 16,
        "heads": 2,
        "layers": 2,
    },
}
CAPTIONS = ["a dog", "the image shows an old red car, near the sea", "Two cats sleep.", "a dog"]
WEIGHTS = "open_clip_model.safetensors"


class NoTokenizer:
    """open_clip saves a tokenizer of the hub's; CLIP's own is part of its code."""

    def save_pretrained(self, folder: Path) -> None: ...


def save(folder: Path, config: dict[str, Any], safe: bool | str = True) -> Any:
    """A tiny CLIP with random weights, its norms and biases too, in ``folder``."""
    folder.mkdir(parents=True)
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config}))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = open_clip.create_model(f"local-dir:{folder}").eval()
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
    save_for_hf(model, NoTokenizer(), config, str(folder), safe_serialization=safe)
    return model


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    folder = tmp_path_factory.mktemp("clip") / "tiny"
    return folder, save(folder, CONFIG)


@pytest.fixture
def copy(saved: tuple[Path, Any], tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved[0], tmp_path / "tiny"))


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """open_clip knows an architecture without QuickGELU, and a tag of it trained with QuickGELU."""
    plain = {key: value for key, value in CONFIG.items() if key != "quick_gelu"}
    tags = {
        "openai": {"hf_hub": "someone/tiny/", "quick_gelu": True},
        "plain": {"hf_hub": "someone/plain/weights.safetensors"},
        "elsewhere": {"url": "https://somewhere.invalid/tiny.pt"},
    }
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "tiny-clip", plain)
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, "tiny-clip", tags)


def oracle(model: Any, captions: list[str], length: int = 16) -> Tensor:
    with torch.no_grad():
        return model.encode_text(open_clip.tokenize(captions, context_length=length))


def edit(folder: Path, change: Callable[[dict[str, Tensor]], None]) -> None:
    state = load_file(folder / WEIGHTS)
    change(state)
    save_file(state, folder / WEIGHTS)


def test_a_folder_is_read_as_open_clip_reads_it(saved: tuple[Path, Any]) -> None:
    folder, model = saved
    t = encode(CAPTIONS, name="clip_vit_l", weights=str(folder))
    assert t.shape == (4, 12)
    assert t.dtype == torch.float32
    assert not t.requires_grad
    torch.testing.assert_close(t, oracle(model, CAPTIONS), atol=1e-5, rtol=0)
    assert (t.norm(dim=1) - 1).abs().max() > 0.1  # the tower's own length
    assert load_text_encoder("clip_vit_l", weights=str(folder)).limit == 16


@pytest.mark.parametrize("batch_size", [1, 2, 3])
def test_padding_does_not_change_an_embedding(saved: tuple[Path, Any], batch_size: int) -> None:
    t = encode(CAPTIONS[::-1], name="clip_vit_l", weights=str(saved[0]), batch_size=batch_size)
    torch.testing.assert_close(t.flip(0), oracle(saved[1], CAPTIONS), atol=1e-5, rtol=0)


def test_a_tower_that_is_not_causal_sees_its_padding(tmp_path: Path) -> None:
    text = {**CONFIG["text_cfg"], "no_causal_mask": True}
    model = save(tmp_path / "clip", {**CONFIG, "text_cfg": text})
    t = encode(CAPTIONS, name="clip_vit_l", weights=str(tmp_path / "clip"), batch_size=1)
    torch.testing.assert_close(t, oracle(model, CAPTIONS), atol=1e-5, rtol=0)


def test_the_layout_of_a_custom_text_tower(tmp_path: Path) -> None:
    model = save(tmp_path / "clip", {**CONFIG, "custom_text": True})
    assert any(key.startswith("text.") for key in load_file(tmp_path / "clip" / WEIGHTS))
    t = encode(CAPTIONS, name="clip_vit_l", weights=str(tmp_path / "clip"))
    torch.testing.assert_close(t, oracle(model, CAPTIONS), atol=1e-5, rtol=0)


def test_long_captions_keep_the_end_of_text(saved: tuple[Path, Any]) -> None:
    long = " ".join(["dog"] * 30)
    captions = [long, "a dog", long + " cat"]
    with pytest.warns(UserWarning, match="2 of 3 captions are longer than 16 tokens") as told:
        t = encode(captions, name="clip_vit_l", weights=str(saved[0]))
    assert len(told) == 1
    torch.testing.assert_close(t, oracle(saved[1], captions), atol=1e-5, rtol=0)
    just = " ".join(["dog"] * 14)  # with start and end exactly 16
    encoder = load_text_encoder("clip_vit_l", weights=str(saved[0]))
    ids, cut = encoder.tokenize([just, just + " dog"], 16)
    assert (ids[0], cut) == (ids[1], [1])


@pytest.mark.usefixtures("registered")
@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".bin"])
def test_a_file_of_a_named_architecture(
    saved: tuple[Path, Any], tmp_path: Path, suffix: str
) -> None:
    path = tmp_path / f"weights{suffix}"
    state = load_file(saved[0] / WEIGHTS)
    if suffix == ".safetensors":
        save_file(state, path)
    else:  # as open_clip's own training leaves it
        torch.save({"state_dict": {f"module.{k}": v for k, v in state.items()}}, path)
    asked = {"name": "clip_vit_l", "weights": str(path)}
    assert available(**asked) is None
    quick = encode(CAPTIONS, **asked, model="tiny-clip:openai")
    torch.testing.assert_close(quick, oracle(saved[1], CAPTIONS), atol=1e-5, rtol=0)
    plain = encode(CAPTIONS, **asked, model="tiny-clip")
    assert (plain - quick).abs().max() > 1e-3


def test_openais_weights_get_the_activation_they_were_trained_with() -> None:
    assert clip_config("ViT-L-14:openai")["quick_gelu"] is True
    assert clip_config("ViT-L-14:laion2b_s32b_b82k")["quick_gelu"] is False
    assert not clip_config("ViT-L-14").get("quick_gelu")
    assert clip_config("ViT-L-14-quickgelu")["quick_gelu"] is True
    assert clip_config("ViT-L-14:openai")["text_cfg"]["context_length"] == 77
    assert clip_on_hub("ViT-L-14:openai") == ("timm/vit_large_patch14_clip_224.openai", "")


@pytest.mark.usefixtures("registered")
@pytest.mark.parametrize(
    ("model", "place", "name"),
    [
        ("tiny-clip:openai", "someone--tiny", WEIGHTS),
        ("tiny-clip", "someone--tiny", "open_clip_pytorch_model.bin"),
        ("tiny-clip:plain", "someone--plain", "weights.safetensors"),
    ],
)
def test_from_the_hubs_cache(
    saved: tuple[Path, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    model: str,
    place: str,
    name: str,
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("reached for a network"))
    repository = place.replace("--", "/")
    with pytest.raises(BadInput, match=rf"{repository} is not in the local cache; `make fetch"):
        encode(CAPTIONS, name="clip_vit_l", weights="hub", model=model)
    at = "0123456789abcdef0123456789abcdef01234567"
    snapshot = tmp_path / f"models--{place}" / "snapshots" / at
    snapshot.mkdir(parents=True)
    refs = snapshot.parents[1] / "refs"
    refs.mkdir()
    (refs / "main").write_text(at)
    state = load_file(saved[0] / WEIGHTS)
    (torch.save if name.endswith(".bin") else save_file)(state, snapshot / name)
    assert available("clip_vit_l", "hub", model) is None
    assert commit("clip_vit_l", "hub", model) == at
    assert commit("minilm", "package") is None
    t = encode(CAPTIONS, name="clip_vit_l", weights="hub", model=model)
    assert torch.allclose(t, oracle(saved[1], CAPTIONS), atol=1e-5) == model.endswith("openai")


@pytest.mark.usefixtures("registered")
def test_unknown_names_suggest_near_ones() -> None:
    with pytest.raises(BadInput, match=r"text\.model: .* no architecture 'tiny-clap'.*tiny-clip"):
        clip_config("tiny-clap:openai")
    with pytest.raises(BadInput, match=r"no 'tiny-clip' trained on 'opanai'; .* openai, plain"):
        clip_config("tiny-clip:opanai")
    with pytest.raises(BadInput, match=r"'tiny-clip:elsewhere' is not on the hub; give the path"):
        clip_on_hub("tiny-clip:elsewhere")


@pytest.mark.parametrize("fault", ["missing", "surplus", "shape"])
def test_a_checkpoint_that_is_not_exactly_the_towers(copy: Path, fault: str) -> None:
    key = "transformer.resblocks.1.mlp.c_fc.weight"

    def spoil(state: dict[str, Tensor]) -> None:
        if fault == "missing":
            del state[key]
        elif fault == "surplus":
            state[key.replace(".1.", ".7.")] = torch.zeros(2)
        else:
            state[key] = torch.zeros(3, 3)

    edit(copy, spoil)
    says = {
        "missing": f"lacks {key}",
        "surplus": f"has besides {key.replace('.1.', '.7.')}",
        "shape": f"has in another shape {key}",
    }[fault]
    with pytest.raises(
        BadInput, match=rf"text\.weights: .*{WEIGHTS} does not fit .*: it {says}\.$"
    ):
        encode(CAPTIONS, name="clip_vit_l", weights=str(copy))


def test_the_image_tower_is_not_looked_at(copy: Path, saved: tuple[Path, Any]) -> None:
    def drop(state: dict[str, Tensor]) -> None:
        for key in [key for key in state if key.startswith("visual.")]:
            del state[key]

    edit(copy, drop)
    t = encode(CAPTIONS, name="clip_vit_l", weights=str(copy))
    torch.testing.assert_close(t, oracle(saved[1], CAPTIONS), atol=1e-5, rtol=0)


@pytest.mark.filterwarnings("ignore:'torch.load' received a zip file")
def test_openais_own_archive_is_code_and_refused(tmp_path: Path) -> None:
    path = tmp_path / "ViT-L-14.pt"
    torch.jit.save(torch.jit.script(torch.nn.Identity()), str(path))
    with pytest.raises(BadInput, match=r"ViT-L-14\.pt is no readable state_dict \(.*TorchScript"):
        encode(CAPTIONS, name="clip_vit_l", weights=str(path))


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda f: (f / "open_clip_config.json").unlink(), r"has no open_clip_config\.json"),
        (lambda f: (f / "open_clip_config.json").write_text("{"), "is no configuration of open_cl"),
        (lambda f: (f / WEIGHTS).unlink(), r"has no weights \(open_clip_model\.safetensors or"),
        (lambda f: (f / WEIGHTS).write_bytes(b"\0" * 99), r"is no readable state_dict \("),
    ],
)
def test_a_folder_that_is_not_complete(copy: Path, spoil: Callable[[Path], Any], says: str) -> None:
    spoil(copy)
    with pytest.raises(BadInput, match=rf"text\.weights: .*{says}"):
        encode(CAPTIONS, name="clip_vit_l", weights=str(copy))


@pytest.mark.parametrize("key", ["hf_model_name", "hf_tokenizer_name"])
def test_a_foreign_text_tower(copy: Path, key: str) -> None:
    text = {**CONFIG["text_cfg"], key: "someone/roberta"}
    (copy / "open_clip_config.json").write_text(
        json.dumps({"model_cfg": {**CONFIG, "text_cfg": text}})
    )
    with pytest.raises(BadInput, match=r"text tower of .* is made of 'someone/roberta'; only"):
        encode(CAPTIONS, name="clip_vit_l", weights=str(copy))


def test_a_file_of_another_format(tmp_path: Path) -> None:
    path = tmp_path / "weights.h5"
    path.touch()
    with pytest.raises(BadInput, match=r"weights\.h5 is none of \.safetensors, \.pt, \.bin"):
        encode(CAPTIONS, name="clip_vit_l", weights=str(path))
