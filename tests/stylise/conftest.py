"""A tiny CLIP, and images to restyle."""

from pathlib import Path

import pytest
import tiny_clip
import torch
from torch import Tensor

from vecaf_lib.models.clip import Clip


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stylise") / "tiny"
    tiny_clip.save(folder, text_cfg=tiny_clip.CONFIG["text_cfg"] | {"layers": 1})
    return folder


@pytest.fixture(scope="session")
def clip(saved: Path) -> Clip:
    return Clip("ViT-B-32:openai", saved)


@pytest.fixture
def photos() -> Tensor:
    """Six smooth images, 40 px."""
    draw = torch.Generator().manual_seed(0)
    coarse = 255 * torch.rand(6, 3, 5, 5, generator=draw)
    large = torch.nn.functional.interpolate(coarse, size=40, mode="bilinear", align_corners=False)
    return large.round().to(torch.uint8)
