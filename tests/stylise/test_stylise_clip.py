"""CLIP's two towers: against open_clip's own, and what is said when they are missing."""

import json
import shutil
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn.functional import normalize

import vecaf_lib.encoders  # noqa: F401 (open_clip can be imported after it)

# isort: split
import open_clip

from vecaf_lib.errors import BadInput
from vecaf_lib.stylise.clip_towers import ClipTowers, available, load_clip

WEIGHTS = "open_clip_model.safetensors"


def test_images_are_embedded_as_open_clip_embeds_them(
    saved: tuple[Path, Any], clip: ClipTowers
) -> None:
    pixels = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    mean = torch.tensor(open_clip.OPENAI_DATASET_MEAN).view(3, 1, 1)
    std = torch.tensor(open_clip.OPENAI_DATASET_STD).view(3, 1, 1)
    with torch.no_grad():
        expected = normalize(saved[1].encode_image((pixels - mean) / std), dim=1)
    assert clip.size == 16
    torch.testing.assert_close(clip.encode_image(pixels), expected, atol=1e-5, rtol=0)


def test_texts_are_embedded_as_open_clip_embeds_them(
    saved: tuple[Path, Any], clip: ClipTowers
) -> None:
    texts = ["a Photo", "it is a snowy day in the mountains", "a dog"]
    with torch.no_grad():
        tokens = open_clip.tokenize(texts, context_length=24)
        expected = normalize(saved[1].encode_text(tokens), dim=1)
    torch.testing.assert_close(clip.encode_text(texts), expected, atol=1e-5, rtol=0)


def test_gradients_reach_the_pixels_alone(clip: ClipTowers) -> None:
    pixels = torch.full((2, 3, 24, 40), 0.5, requires_grad=True)
    clip.encode_image(pixels)[:, 0].sum().backward()
    assert pixels.grad is not None
    assert pixels.grad.abs().sum() > 0
    assert not any(p.requires_grad for p in clip._tower.parameters())


def test_large_images_are_resized(clip: ClipTowers, photos: Tensor) -> None:
    large = photos.float() / 255
    small = torch.nn.functional.interpolate(
        large, size=16, mode="bicubic", antialias=True, align_corners=False
    ).clamp(0, 1)
    torch.testing.assert_close(clip.encode_image(large), clip.encode_image(small))


def test_the_mean_and_std_of_the_folder_are_used(
    saved: tuple[Path, Any], clip: ClipTowers, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(saved[0], tmp_path / "tiny"))
    config = json.loads((folder / "open_clip_config.json").read_text())
    config["preprocess_cfg"] = {"mean": [0.5] * 3, "std": [0.5] * 3}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    other = load_clip("ViT-B-32:openai", str(folder))
    x = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    mean = torch.tensor(open_clip.OPENAI_DATASET_MEAN).view(3, 1, 1)
    std = torch.tensor(open_clip.OPENAI_DATASET_STD).view(3, 1, 1)
    same = (x * 2 - 1) * std + mean  # what gives the other scale of pixels
    torch.testing.assert_close(other.encode_image(x), clip.encode_image(same), atol=1e-5, rtol=0)


@pytest.mark.parametrize("fault", ["missing", "surplus"])
def test_an_image_tower_that_does_not_fit(
    saved: tuple[Path, Any], tmp_path: Path, fault: str
) -> None:
    folder = Path(shutil.copytree(saved[0], tmp_path / "tiny"))
    state = load_file(folder / WEIGHTS)
    if fault == "missing":
        del state["visual.proj"]
    else:
        state["visual.more"] = torch.zeros(1)
    save_file(state, folder / WEIGHTS)
    says = {"missing": "lacks proj", "surplus": "has besides more"}[fault]
    with pytest.raises(BadInput, match=says):
        load_clip("ViT-B-32:openai", str(folder))


def test_what_is_missing_is_one_sentence(
    saved: tuple[Path, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("reached for a network"))
    assert available("ViT-B-32:openai", str(saved[0])) is None
    missing = available()
    assert missing is not None
    assert missing.startswith("clipstyler needs CLIP weights: timm/vit_base_patch32_clip_224")
    assert missing.endswith(".")
    assert "is not in the local cache" in missing
    assert "no architecture 'ViT-B-23'" in (available("ViT-B-23:openai") or "")
    with pytest.raises(BadInput, match="is not in the local cache"):
        load_clip()
