"""Both towers of a tiny CLIP, saved by open_clip, against open_clip's own."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import tiny_clip
import torch
from safetensors.torch import load_file, save_file
from tiny_clip import CONFIG, WEIGHTS
from torch import Tensor
from torch.nn.functional import interpolate, normalize

from vecaf_lib.errors import BadInput
from vecaf_lib.models.clip import Clip
from vecaf_lib.models.text import commit, encode, load_text_encoder, locate

import open_clip  # isort: skip  (after vecaf_lib.models, which makes it importable)

CAPTIONS = ["a dog", "the image shows an old red car, near the sea!", "Two cats sleep.", "a dog"]
NAME = "clip_vit_l"
MEAN = torch.tensor(open_clip.OPENAI_DATASET_MEAN).view(3, 1, 1)
STD = torch.tensor(open_clip.OPENAI_DATASET_STD).view(3, 1, 1)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """The folder, and the model itself."""
    folder = tmp_path_factory.mktemp("clip") / "tiny"
    return folder, tiny_clip.save(folder)


@pytest.fixture
def copy(saved: tuple[Path, Any], tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved[0], tmp_path / "tiny"))


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """open_clip knows an architecture without QuickGELU, and a tag of it trained with QuickGELU."""
    plain = {key: value for key, value in CONFIG.items() if key != "quick_gelu"}
    tags = {
        "openai": {"hf_hub": "someone/tiny/", "quick_gelu": True, "mean": [0.5] * 3},
        "plain": {"hf_hub": "someone/plain/weights.safetensors"},
    }
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "tiny-clip", plain)
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, "tiny-clip", tags)


def oracle(model: Any, captions: list[str], length: int = 24) -> Tensor:
    with torch.no_grad():
        return model.encode_text(open_clip.tokenize(captions, context_length=length))


def noise(count: int, side: int = 16) -> Tensor:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    "changes",
    [{}, {"custom_text": True}, {"text_cfg": CONFIG["text_cfg"] | {"no_causal_mask": True}}],
    ids=["plain", "custom text", "not causal"],
)
@pytest.mark.parametrize("batch_size", [1, 3])
def test_captions_are_embedded_as_open_clip_embeds_them(
    tmp_path: Path, changes: dict[str, Any], batch_size: int
) -> None:
    model = tiny_clip.save(tmp_path / "clip", **changes)
    t = encode(CAPTIONS, name=NAME, weights=str(tmp_path / "clip"), batch_size=batch_size)
    assert t.shape == (4, 12)
    assert t.dtype == torch.float32
    assert not t.requires_grad
    torch.testing.assert_close(t, oracle(model, CAPTIONS), atol=1e-5, rtol=0)
    assert (t.norm(dim=1) - 1).abs().max() > 0.02  # the tower's own length


def test_long_captions_keep_the_end_of_text(saved: tuple[Path, Any]) -> None:
    long = " ".join(["dog"] * 30)
    captions = [long, "a dog", long + " cat"]
    with pytest.warns(UserWarning, match="2 of 3 captions are longer than 24 tokens") as caught:
        t = encode(captions, name=NAME, weights=str(saved[0]))
    assert len(caught) == 1
    torch.testing.assert_close(t, oracle(saved[1], captions), atol=1e-5, rtol=0)
    just = " ".join(["dog"] * 22)  # with start and end exactly 24
    encoder = load_text_encoder(NAME, str(saved[0]), None, None, "cpu")
    assert encoder.limit == 24
    assert encoder.lengths([just, just + " !", "!"], 24) == [24, 25, 3]
    with pytest.warns(UserWarning, match="longer than 5 tokens"):
        short = encode([long], name=NAME, weights=str(saved[0]), max_tokens=5)
    torch.testing.assert_close(short, oracle(saved[1], ["dog dog dog"]), atol=1e-5, rtol=0)


def test_images_are_embedded_as_open_clip_embeds_them(saved: tuple[Path, Any]) -> None:
    clip = Clip("", saved[0])
    with torch.no_grad():
        expected = normalize(saved[1].encode_image((noise(3) - MEAN) / STD), dim=1)
    assert clip.size == 16
    torch.testing.assert_close(clip.encode_image(noise(3)), expected, atol=1e-5, rtol=0)
    texts = ["a Photo", "it is a snowy day in the mountains", "a dog"]
    expected = normalize(oracle(saved[1], texts), dim=1)
    torch.testing.assert_close(clip.encode_text(texts), expected, atol=1e-5, rtol=0)


def test_large_images_are_resized_and_gradients_reach_the_pixels_alone(
    saved: tuple[Path, Any],
) -> None:
    clip, large = Clip("", saved[0]), noise(2, 40)
    small = interpolate(large, size=16, mode="bicubic", antialias=True, align_corners=False)
    torch.testing.assert_close(clip.encode_image(large), clip.encode_image(small.clamp(0, 1)))
    pixels = large.requires_grad_()
    clip.encode_image(pixels)[:, 0].sum().backward()
    assert pixels.grad is not None
    assert pixels.grad.abs().sum() > 0
    assert not any(p.requires_grad for p in clip._clip.parameters())


@pytest.mark.usefixtures("registered")
@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_a_file_of_a_named_architecture(
    saved: tuple[Path, Any], tmp_path: Path, suffix: str
) -> None:
    path = tmp_path / f"weights{suffix}"
    state = load_file(saved[0] / WEIGHTS)
    if suffix == ".safetensors":
        save_file(state, path)
    else:  # as open_clip's own training leaves it
        torch.save({"state_dict": {f"module.{k}": v for k, v in state.items()}}, path)
    options = {"name": NAME, "weights": str(path)}
    quick = encode(CAPTIONS, **options, model="tiny-clip:openai")
    torch.testing.assert_close(quick, oracle(saved[1], CAPTIONS), atol=1e-5, rtol=0)
    plain = encode(CAPTIONS, **options, model="tiny-clip")
    assert (plain - quick).abs().max() > 1e-3  # another activation than it was trained with
    assert Clip("tiny-clip:openai", path)._mean.unique().tolist() == [0.5]


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
    with pytest.raises(BadInput, match="at revision main is not whole"):
        encode(CAPTIONS, name=NAME, weights="hub", model=model)
    at = "0123456789abcdef0123456789abcdef01234567"
    snapshot, refs = (tmp_path / f"models--{place}" / part for part in (f"snapshots/{at}", "refs"))
    snapshot.mkdir(parents=True)
    refs.mkdir()
    (refs / "main").write_text(at)
    state = load_file(saved[0] / WEIGHTS)
    (torch.save if name.endswith(".bin") else save_file)(state, snapshot / name)
    assert locate(NAME, "hub", model) == snapshot / name
    assert commit(NAME, "hub", model) == at
    assert commit("minilm", "package") is None
    t = encode(CAPTIONS, name=NAME, weights="hub", model=model)
    assert torch.allclose(t, oracle(saved[1], CAPTIONS), atol=1e-5) == model.endswith("openai")


def _edit(folder: Path, change: Callable[[dict[str, Tensor]], object]) -> None:
    state = load_file(folder / WEIGHTS)
    change(state)
    save_file(state, folder / WEIGHTS)


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda f: (f / "open_clip_config.json").write_text("{"), "no readable CLIP model"),
        (lambda f: (f / WEIGHTS).unlink(), "is no folder of .*open_clip_model"),
        (lambda f: (f / WEIGHTS).write_bytes(b"\0" * 99), "no readable CLIP model"),
        (lambda f: _edit(f, lambda s: s.pop("visual.proj")), 'Missing .*"visual.proj"'),
        (lambda f: _edit(f, lambda s: s.update(more=torch.zeros(1))), 'Unexpected .*"more"'),
    ],
    ids=["configuration", "no weights", "cut", "missing", "surplus"],
)
def test_a_damaged_folder(copy: Path, spoil: Callable[[Path], Any], says: str) -> None:
    spoil(copy)
    with pytest.raises(BadInput, match=rf"text\.weights: .*{says}"):
        encode(CAPTIONS, name=NAME, weights=str(copy))


@pytest.mark.parametrize(
    "own",
    [
        {"hf_tokenizer_name": "x", "tokenizer_kwargs": {"trust_remote_code": True}},
        {"hf_model_name": "{folder}"},
    ],
    ids=["tokenizer", "text tower"],
)
def test_code_beside_a_model_is_never_run(
    copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own: dict[str, Any]
) -> None:
    (copy / "own.py").write_text(f"open({str(tmp_path / 'trace')!r}, 'w')\nConfig = Words = dict")
    own = {key: str(copy) if value == "{folder}" else value for key, value in own.items()}
    config = CONFIG | {"text_cfg": CONFIG["text_cfg"] | own}
    (copy / "open_clip_config.json").write_text(json.dumps({"model_cfg": config}))
    code = {"model_type": "own", "auto_map": {"AutoConfig": "own.Config"}}
    (copy / "config.json").write_text(json.dumps(code))
    code = {"tokenizer_class": "Words", "auto_map": {"AutoTokenizer": ["own.Words", None]}}
    (copy / "tokenizer_config.json").write_text(json.dumps(code))
    monkeypatch.setattr("builtins.input", lambda *_: "y")  # whoever is asked may say yes
    with pytest.raises(BadInput, match="no readable CLIP model") as refused:
        encode(CAPTIONS, name=NAME, weights=str(copy))
    assert "trust_remote_code" not in str(refused.value)
    assert not (tmp_path / "trace").exists()


@pytest.mark.filterwarnings("ignore:'torch.load' received a zip file")
def test_openais_own_archive_is_code_and_refused(tmp_path: Path) -> None:
    path = tmp_path / "ViT-L-14.pt"
    torch.jit.save(torch.jit.script(torch.nn.Identity()), str(path))
    with pytest.raises(BadInput, match=r"ViT-L-14\.pt is no readable CLIP model \(.*never run"):
        encode(CAPTIONS, name=NAME, weights=str(path))
