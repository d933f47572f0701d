"""The packaged weights see a cat; wrong weights are refused; the classifier has its own seed."""

import vecaf_lib.models  # noqa: F401 (timm can be imported after it)

# isort: split
import argparse
import random
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import timm
import torch
from skimage.data import chelsea
from timm.layers import DropPath
from torch import Tensor, nn
from torch.nn.functional import interpolate

from vecaf_lib.errors import BadInput
from vecaf_lib.models.vision import PVM, feature_widths, features, load_backbone, template
from vecaf_lib.models.weights import weights_file

LITE0 = "tf_efficientnet_lite0"
SMALL = {"img_size": 64, "depth": 4, "num_heads": 2}
TINY: dict[str, dict[str, Any]] = {
    "test_resnet": {},
    "test_efficientnet": {},
    "test_vit": {"img_size": 64},
    "deit_tiny_distilled_patch16_224": SMALL | {"embed_dim": 12},
    "swin_tiny_patch4_window7_224": {"img_size": 64, "embed_dim": 8, "depths": (1, 1, 1, 1)}
    | {"num_heads": (1, 1, 2, 2)},
    "xcit_nano_12_p16_224": SMALL | {"embed_dim": 16},
}
CATS = range(281, 286)  # ImageNet-1K: tabby, tiger cat, Persian, Siamese, Egyptian


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def tiny() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        return timm.create_model("test_resnet", pretrained=False)


@pytest.fixture(scope="module")
def cat() -> Tensor:
    """scikit-image's cat, 1 x 3 x 224 x 224, uint8."""
    pixels = torch.from_numpy(chelsea().copy()).permute(2, 0, 1)[None].float()  # (1, 3, 300, 451)
    square = pixels[..., 75:375]
    resized = interpolate(square, size=(224, 224), mode="bicubic", antialias=True)
    return resized.clamp(0, 255).round().to(torch.uint8)


@torch.inference_mode()
@pytest.mark.parametrize("name", [LITE0, "tf_efficientnet_lite1", "tf_efficientnet_lite2"])
def test_each_packaged_model_calls_the_cat_a_cat(name: str, cat: Tensor) -> None:
    model = load_backbone(name, weights="package").eval()
    pvm = PVM(model, 10, generator=seeded(0)).eval()
    scores = model.get_submodule("classifier")(pvm.embed(cat))  # of ImageNet's 1000 classes
    assert scores.shape == (1, 1000)
    assert scores[0].argmax() in CATS
    assert scores.softmax(1)[0, list(CATS)].sum() > 0.7


def test_the_classifier_depends_on_its_generator_alone(tiny: nn.Module) -> None:
    def classifier(seed: int, disturbance: int) -> nn.Linear:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(disturbance)
            return PVM(tiny, 7, generator=seeded(seed)).classifier

    first, again, other = classifier(1, 0), classifier(1, 1), classifier(2, 0)
    assert first.weight.shape == (7, 96)
    assert torch.equal(first.weight, again.weight)
    assert not torch.equal(first.weight, other.weight)
    assert not first.bias.any()
    assert 0.015 < first.weight.std() < 0.025


def test_building_and_loading_draw_nothing_global(tiny: nn.Module) -> None:
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002
    load_backbone(LITE0, weights="package")
    PVM(tiny, 7, generator=seeded(0))
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]
    assert np.random.get_state()[1].tolist() == before[2]  # noqa: NPY002


def test_truncated_weights(tmp_path: Path) -> None:
    whole = weights_file(LITE0, "package").read_bytes()
    path = tmp_path / "half.pth"
    for content in (whole[: len(whole) // 2], b"", b"not weights"):
        path.write_bytes(content)
        with pytest.raises(BadInput, match=r"vision\.weights: .*half\.pth is no readable"):
            load_backbone(LITE0, weights=str(path))


@torch.inference_mode()
@pytest.mark.parametrize("name", TINY)
def test_every_kind_of_model_gives_what_its_own_head_sees(name: str) -> None:
    backbone = build(name).eval()
    pvm = PVM(backbone, 3, generator=seeded(0)).eval()
    images = noise(2, 64)
    e = pvm.embed(images)
    cfg = backbone.pretrained_cfg
    mean, std = (torch.tensor(cfg[key])[:, None, None] for key in ("mean", "std"))
    heads = backbone.get_classifier()
    heads = heads if isinstance(heads, tuple) else (heads,)
    scores = sum(head(e) for head in heads) / len(heads)
    if len(heads) == 1:
        torch.testing.assert_close(backbone((images / 255 - mean) / std), scores)
    assert e.shape == (2, pvm.width)
    torch.testing.assert_close(pvm(images, lambda e: 2 * e), pvm.classifier(2 * e))


@pytest.mark.parametrize("name", TINY)
def test_every_trainable_weight_takes_part(name: str) -> None:
    """Training in several processes waits for the gradient of each weight that asks for one."""
    pvm = PVM(build(name), 3, generator=seeded(0)).eval()
    pvm(noise(2, 64)).square().sum().backward()
    idle = [key for key, w in pvm.named_parameters() if w.requires_grad and w.grad is None]
    frozen = [key for key, weight in pvm.named_parameters() if not weight.requires_grad]
    assert not idle
    assert {key.split(".")[1] for key in frozen} <= {"head", "head_dist", "fc", "classifier"}


def test_bfloat16_is_near_float32_and_comes_out_as_float32() -> None:
    images = noise(4, 64)
    exact = PVM(build("test_vit"), 3, generator=seeded(0)).eval()
    rough = PVM(exact.backbone, 3, generator=seeded(0), evaluation_precision="bfloat16").eval()
    with torch.inference_mode():
        e, near = exact.embed(images), rough.embed(images)
    assert near.dtype == torch.float32
    assert not torch.equal(e, near)
    assert (e - near).norm() / e.norm() < 0.03
    trained = rough.train().embed(images)  # training keeps its own precision
    torch.testing.assert_close(trained, exact.train().embed(images), rtol=0, atol=0)


def test_a_vit_at_another_size_has_its_positions_interpolated(tmp_path: Path) -> None:
    native = build("test_vit", img_size=160)
    path = save(native.state_dict(), tmp_path)
    assert load_backbone("test_vit", weights=path).pos_embed.shape == (1, 101, 64)
    small = load_backbone("test_vit", weights=path, image_size=64)
    assert small.pos_embed.shape == (1, 1 + 4 * 4, 64)
    grid = native.pos_embed[:, 1:].unflatten(1, (10, 10)).permute(0, 3, 1, 2)
    wanted = interpolate(grid, size=(4, 4), mode="bicubic", antialias=True, align_corners=False)
    got = small.pos_embed[:, 1:].unflatten(1, (4, 4)).permute(0, 3, 1, 2)
    torch.testing.assert_close(got, wanted)
    torch.testing.assert_close(small.pos_embed[:, 0], native.pos_embed[:, 0])
    assert PVM(small, 3, generator=seeded(0)).eval()(noise(1, 64)).shape == (1, 3)


@pytest.mark.parametrize("name", ["swin_tiny_patch4_window7_224", "xcit_nano_12_p16_224"])
def test_swin_and_xcit_from_a_file_at_another_size(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    native = build(name, img_size=224)
    path = save(native.state_dict(), tmp_path)
    shape = {key: value for key, value in TINY[name].items() if key != "img_size"}
    monkeypatch.setattr(timm, "create_model", partial(timm.create_model, **shape))
    loaded = load_backbone(name, weights=path, image_size=64).state_dict()
    assert loaded.keys() == native.state_dict().keys()
    same = [key for key, value in native.state_dict().items() if torch.equal(value, loaded[key])]
    others = sorted(set(loaded) - set(same))  # Swin's windows shrink with the image
    assert all("relative_position_bias_table" in key for key in others)


def test_an_image_size_that_a_model_cannot_take(tmp_path: Path) -> None:
    path = save(build("test_vit").state_dict(), tmp_path)
    with pytest.raises(BadInput, match=r"^dataset.image_size: .* 160, .* 100 pixels .*size 16"):
        load_backbone("test_vit", weights=path, image_size=100)


def wrapped(state: dict[str, Tensor]) -> dict[str, Any]:
    teacher = {f"backbone.{key}": value for key, value in state.items() if "head" not in key}
    return {
        "plain": state,
        "model": {"model": state, "args": argparse.Namespace(lr=0.1), "epoch": 3},
        "ddp": {"state_dict": {f"module.{key}": value for key, value in state.items()}},
        "compiled": {f"_orig_mod.{key}": value for key, value in state.items()},
        "averaged": {"state_dict": zeros(state), "state_dict_ema": state},
        "dino": {
            "student": zeros(state),
            "teacher": teacher | {"head.mlp.0.weight": torch.ones(2)},
            "epoch": 1,
        },
    }


def zeros(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key: torch.zeros_like(value) for key, value in state.items()}


@pytest.mark.parametrize("form", ["plain", "model", "ddp", "compiled", "averaged", "dino"])
def test_a_checkpoint_in_each_of_its_wrappings(form: str, tmp_path: Path) -> None:
    state = build("test_vit", img_size=160).state_dict()
    path = save(wrapped(state)[form], tmp_path)
    loaded = load_backbone("test_vit", weights=path).state_dict()
    for key, value in state.items():
        if form == "dino" and key.startswith("head."):
            assert key not in loaded, "an absent classifier is not left to chance"
        else:
            assert torch.equal(loaded[key], value), key


def test_nothing_in_a_checkpoint_is_executed(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "executed",))

    path = save({"model": Trap()}, tmp_path)
    with pytest.raises(BadInput, match="no readable state_dict of tensors"):
        load_backbone("test_resnet", weights=path)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("classes", [0, 7])
def test_a_classifier_may_be_absent_or_of_other_classes(
    classes: int, tiny: nn.Module, tmp_path: Path
) -> None:
    body = {key: value for key, value in tiny.state_dict().items() if not key.startswith("fc.")}
    head = {"fc.weight": torch.ones(classes, 96), "fc.bias": torch.ones(classes)} if classes else {}
    path = tmp_path / "model.safetensors"
    safetensors.torch.save_file(body | head, path)
    loaded = load_backbone("test_resnet", weights=str(path)).state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in body.items())
    assert "fc.weight" not in loaded
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(BadInput, match=r"model\.safetensors is no readable state_dict"):
        load_backbone("test_resnet", weights=str(path))


def test_missing_and_surplus_tensors_are_named(tiny: nn.Module, tmp_path: Path) -> None:
    state = tiny.state_dict()
    lost = [key for key in sorted(state) if "running_mean" in key][:4]
    changed = {key: value for key, value in state.items() if key not in lost}
    changed |= {"extra.b": torch.ones(1), "extra.a": torch.ones(1), "conv1.0.weight": torch.ones(2)}
    with pytest.raises(BadInput) as caught:
        load_backbone("test_resnet", weights=save(changed, tmp_path))
    for key in (lost[0], "extra.a"):
        assert key in str(caught.value)


@pytest.mark.parametrize("name", [LITE0, "test_vit", "test_resnet", "xcit_nano_12_p16_224"])
def test_the_width_without_the_model(name: str) -> None:
    with torch.random.fork_rng():
        whole = timm.create_model(name, pretrained=False)
        assert template(name, None).head_hidden_size == whole.head_hidden_size


# sides of the maps of a 64 px image; modules whose output each map is
MAPS: dict[str, tuple[list[int], list[str]]] = {
    "test_vit": ([4] * 4, [f"blocks.{i}" for i in (0, 2, 3, 5)]),
    "xcit_nano_12_p16_224": ([4] * 4, [f"blocks.{i}" for i in range(4)]),
    "swin_tiny_patch4_window7_224": ([16, 8, 4, 2], [f"layers.{i}" for i in range(4)]),
    "test_resnet": ([16, 8, 4, 2], [f"layer{i}" for i in range(1, 5)]),
}


@torch.inference_mode()
@pytest.mark.parametrize("name", MAPS)
def test_each_map_is_the_output_of_its_block(name: str) -> None:
    backbone = build(name).eval()
    sides, modules = MAPS[name]
    seen: dict[str, Tensor] = {}
    for module in modules:
        backbone.get_submodule(module).register_forward_hook(
            lambda _, __, out, module=module: seen.__setitem__(module, out)
        )
    pvm = PVM(backbone, 3, generator=seeded(0)).eval()
    maps, embedding = features(pvm, noise(2, 64))
    assert [tuple(part.shape[2:]) for part in maps] == [(side, side) for side in sides]
    assert [part.shape[1] for part in maps] == feature_widths(pvm)
    for part, module in zip(maps, modules, strict=True):
        out = seen[module]
        if out.dim() == 3:  # tokens, the class token first where there is one
            out = out[:, -part[0, 0].numel() :].transpose(1, 2).reshape(part.shape)
        elif module.startswith("layers"):
            out = out.permute(0, 3, 1, 2)
        assert torch.equal(part, out)
    assert torch.equal(embedding, pvm.embed(noise(2, 64)))
    every, _ = features(pvm, noise(1, 64), 99)  # all that there are
    assert len(every) == len(backbone.feature_info)
    backbone.feature_info = []
    with pytest.raises(BadInput, match=r"vision\.name: \w+ has no feature maps"):
        features(pvm, noise(1, 64))


@pytest.mark.parametrize(
    "name", ["test_vit", "test_efficientnet", "deit_tiny_distilled_patch16_224"]
)
def test_drop_path_reaches_the_blocks_and_leaves_evaluation_alone(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shape = {key: value for key, value in TINY[name].items() if key != "img_size"}
    monkeypatch.setattr(timm, "create_model", partial(timm.create_model, **shape))
    path = save(build(name).state_dict(), tmp_path)

    def rates(**options: float) -> list[float]:
        model = load_backbone(name, weights=path, image_size=64, **options)  # type: ignore[arg-type]
        return [m.drop_prob for m in model.modules() if isinstance(m, DropPath)]

    assert rates() == rates(drop_path=0.0) == []
    assert 0.1 < max(rates(drop_path=0.2)) < 0.201
    plain, dropping = (
        load_backbone(name, weights=path, image_size=64, drop_path=rate).eval()
        for rate in (0.0, 0.2)
    )
    pixels = torch.randn(2, 3, 64, 64, generator=seeded(0))
    assert torch.equal(plain(pixels), dropping(pixels))
    with torch.random.fork_rng(devices=[]):
        assert not torch.equal(plain(pixels), dropping.train()(pixels))


def test_a_model_without_stochastic_depth(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    path.touch()
    with pytest.raises(BadInput, match=r"^training.drop_path: vgg11 has none"):
        load_backbone("vgg11", weights=str(path), drop_path=0.1)


def build(name: str, **changes: Any) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return timm.create_model(name, pretrained=False, **(TINY[name] | changes))


def noise(count: int, size: int) -> Tensor:
    return torch.randint(256, (count, 3, size, size), generator=seeded(1), dtype=torch.uint8)


def save(content: Any, folder: Path) -> str:
    path = folder / "weights.pth"
    torch.save(content, path)
    return str(path)
