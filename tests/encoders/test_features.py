"""Feature maps: their depths and shapes, their agreement with hooks, their gradients."""

import vecaf_lib.encoders  # noqa: F401 (timm can be imported after it)

# isort: split
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn

from vecaf_lib.encoders.features import depths, feature_widths, features
from vecaf_lib.encoders.vision import PVM
from vecaf_lib.errors import BadInput

TINY: dict[str, tuple[dict[str, Any], list[int], list[str]]] = {
    # arguments; sides of the maps of a 64 px image; modules whose output each map is
    "test_vit": ({"img_size": 64}, [4] * 4, [f"blocks.{i}" for i in (0, 2, 3, 5)]),
    "xcit_nano_12_p16_224": (
        {"img_size": 64, "embed_dim": 16, "depth": 12, "num_heads": 2},
        [4] * 4,
        [f"blocks.{i}" for i in (2, 5, 8, 11)],
    ),
    "swin_tiny_patch4_window7_224": (
        {"img_size": 64, "embed_dim": 8, "depths": (1, 1, 1, 1), "num_heads": (1, 1, 2, 2)},
        [16, 8, 4, 2],
        [f"layers.{i}" for i in range(4)],
    ),
    "test_resnet": ({}, [16, 8, 4, 2], [f"layer{i}" for i in range(1, 5)]),
}


def build(name: str) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return timm.create_model(name, pretrained=False, **TINY[name][0]).eval()


def noise(count: int = 2) -> Tensor:
    draw = torch.Generator().manual_seed(1)
    return torch.randint(256, (count, 3, 64, 64), generator=draw, dtype=torch.uint8)


def wrap(backbone: nn.Module, **options: Any) -> PVM:
    return PVM(backbone, 3, generator=torch.Generator().manual_seed(0), **options).eval()


@torch.inference_mode()
@pytest.mark.parametrize("name", TINY)
def test_each_map_is_the_output_of_its_block(name: str) -> None:
    backbone = build(name)
    _, sides, modules = TINY[name]
    seen: dict[str, Tensor] = {}
    for module in modules:
        backbone.get_submodule(module).register_forward_hook(
            lambda _, __, out, module=module: seen.__setitem__(module, out)
        )
    pvm = wrap(backbone)
    maps, embedding = features(pvm, noise())
    assert [tuple(part.shape[2:]) for part in maps] == [(side, side) for side in sides]
    assert [part.shape[1] for part in maps] == feature_widths(pvm) == feature_widths(backbone)
    for part, module in zip(maps, modules, strict=True):
        out = seen[module]
        if out.dim() == 3:  # tokens, the class token first where there is one
            out = out[:, -part[0, 0].numel() :].transpose(1, 2).reshape(part.shape)
        elif module.startswith("layers"):
            out = out.permute(0, 3, 1, 2)
        assert torch.equal(part, out)
    assert torch.equal(embedding, pvm.embed(noise()))


@pytest.mark.parametrize("name", TINY)
def test_gradients_flow_through_maps_and_embedding(name: str) -> None:
    pvm = wrap(build(name))
    maps, embedding = features(pvm, noise())
    assert all(part.requires_grad for part in (*maps, embedding))
    convolution = next(m for m in pvm.backbone.modules() if isinstance(m, nn.Conv2d))
    for result in (maps[0], embedding):
        (gradient,) = torch.autograd.grad(
            result.square().sum(), convolution.weight, retain_graph=True
        )
        assert gradient.abs().sum() > 0


@torch.inference_mode()
def test_a_bare_backbone_takes_its_own_scale() -> None:
    pvm = wrap(build("test_resnet"))
    maps, embedding = features(pvm, noise(), 2)
    bare, same = features(pvm.backbone, pvm.pixels(noise()), 2)
    assert len(maps) == len(bare) == 2
    assert all(torch.equal(one, other) for one, other in zip(maps, bare, strict=True))
    assert torch.equal(embedding, same)


@torch.inference_mode()
def test_bfloat16_maps_come_out_as_float32() -> None:
    maps, embedding = features(wrap(build("test_vit"), precision="bfloat16"), noise())
    assert {part.dtype for part in (*maps, embedding)} == {torch.float32}


def test_depths() -> None:
    vit = nn.Module()
    vit.feature_info = [{"reduction": 16, "num_chs": 8}] * 12
    vit.forward_intermediates = None
    assert depths(vit, 4) == [2, 5, 8, 11]
    assert depths(vit, 1) == [11]
    assert depths(vit, 12) == list(range(12))
    with pytest.raises(BadInput, match=r"Module has 12 feature maps, but 13 are asked"):
        depths(vit, 13)
    with pytest.raises(BadInput, match=r"timm gives no feature maps of Identity"):
        depths(nn.Identity(), 4)
