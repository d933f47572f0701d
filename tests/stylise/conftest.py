"""A tiny CLIP with random weights, saved as open_clip saves one."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import vecaf_lib.encoders  # noqa: F401 (open_clip can be imported after it)

# isort: split
import open_clip
from open_clip.push_to_hf_hub import save_for_hf

from vecaf_lib.stylise.clip_towers import ClipTowers, load_clip

CONFIG: dict[str, Any] = {
    "embed_dim": 12,
    "quick_gelu": True,
    "vision_cfg": {"image_size": 16, "layers": 1, "width": 32, "head_width": 16, "patch_size": 8},
    "text_cfg": {"context_length": 24, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}


class NoTokenizer:
    """open_clip saves a tokenizer of the hub's; CLIP's own is part of its code."""

    def save_pretrained(self, folder: Path) -> None: ...


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """The folder, and the model itself."""
    folder = tmp_path_factory.mktemp("stylise") / "tiny"
    folder.mkdir()
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": CONFIG}))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = open_clip.create_model(f"local-dir:{folder}").eval()
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.2)
    save_for_hf(model, NoTokenizer(), CONFIG, str(folder), safe_serialization=True)
    return folder, model


@pytest.fixture(scope="session")
def clip(saved: tuple[Path, Any]) -> ClipTowers:
    return load_clip("ViT-B-32:openai", str(saved[0]))


@pytest.fixture
def photos() -> Tensor:
    """Six smooth images, 40 px."""
    draw = torch.Generator().manual_seed(0)
    coarse = 255 * torch.rand(6, 3, 5, 5, generator=draw)
    large = torch.nn.functional.interpolate(coarse, size=40, mode="bilinear", align_corners=False)
    return large.round().to(torch.uint8)
