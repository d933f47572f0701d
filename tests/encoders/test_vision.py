"""The packaged weights see a cat; wrong weights are refused; the classifier has its own seed."""

import vecaf_lib.encoders  # noqa: F401 (timm can be imported after it)

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
from timm.data import ImageNetInfo
from torch import Tensor, nn
from torch.nn.functional import interpolate

from vecaf_lib.encoders.state_dict import in_order
from vecaf_lib.encoders.vision import PVM, load_backbone, own_config, width_of
from vecaf_lib.encoders.weights import packaged_weights
from vecaf_lib.errors import BadInput

LITE0 = "tf_efficientnet_lite0"
TINY: dict[str, dict[str, Any]] = {
    "test_resnet": {},
    "test_efficientnet": {},
    "test_vit": {"img_size": 64},
    "deit_tiny_distilled_patch16_224": {
        "img_size": 64,
        "embed_dim": 12,
        "depth": 4,
        "num_heads": 2,
    },
    "swin_tiny_patch4_window7_224": {
        "img_size": 64,
        "embed_dim": 8,
        "depths": (1, 1, 1, 1),
        "num_heads": (1, 1, 2, 2),
    },
    "xcit_nano_12_p16_224": {"img_size": 64, "embed_dim": 16, "depth": 4, "num_heads": 2},
}
CATS = range(281, 286)  # ImageNet-1K: tabby, tiger cat, Persian, Siamese, Egyptian


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def lite0() -> nn.Module:
    return load_backbone(LITE0, weights="package").eval()


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
def test_the_cat_is_called_a_cat(lite0: nn.Module, cat: Tensor) -> None:
    names = ImageNetInfo()
    assert all("cat" in names.index_to_description(label).lower() for label in CATS)
    pvm = PVM(lite0, 10, generator=seeded(0)).eval()
    scores = lite0.get_submodule("classifier")(pvm.embed(cat))  # of ImageNet's 1000 classes
    assert scores.shape == (1, 1000)
    first, second = scores[0].topk(2).indices.tolist()
    assert first in CATS, names.index_to_description(first)
    assert second in CATS
    assert scores.softmax(1)[0, list(CATS)].sum() > 0.7


@torch.inference_mode()
def test_without_its_weights_it_is_not(cat: Tensor) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        untrained = timm.create_model(LITE0, pretrained=False).eval()
    pvm = PVM(untrained, 10, generator=seeded(0)).eval()
    scores = untrained.get_submodule("classifier")(pvm.embed(cat))
    assert scores.softmax(1)[0, list(CATS)].sum() < 0.1


@torch.inference_mode()
def test_the_embedding_is_the_penultimate_layer(lite0: nn.Module, cat: Tensor) -> None:
    pvm = PVM(lite0, 10, generator=seeded(0)).eval()
    e = pvm.embed(cat)
    assert e.shape == (1, pvm.width) == (1, 1280)
    # the same by timm's own way, from pixels of mean and deviation 0.5
    pixels = (cat / 255 - 0.5) / 0.5
    torch.testing.assert_close(lite0(pixels), lite0.get_submodule("classifier")(e))
    torch.testing.assert_close(pvm(cat), pvm.classifier(e))
    torch.testing.assert_close(pvm(cat, lambda e: 2 * e), pvm.classifier(2 * e))


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


def test_a_state_dict_from_a_file(tiny: nn.Module, tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    torch.save(tiny.state_dict(), path)
    loaded = load_backbone("test_resnet", weights=str(path)).state_dict()
    assert loaded.keys() == tiny.state_dict().keys()
    assert all(torch.equal(loaded[name], value) for name, value in tiny.state_dict().items())


def test_unknown_model() -> None:
    with pytest.raises(
        BadInput,
        match="timm has no model 'tf_efficientnet_lite9'; near it are tf_efficientnet_lite",
    ):
        load_backbone("tf_efficientnet_lite9", weights="package")


def test_truncated_weights(tmp_path: Path) -> None:
    whole = packaged_weights(LITE0).read_bytes()
    path = tmp_path / "half.pth"
    for content in (whole[: len(whole) // 2], b"", b"not weights"):
        path.write_bytes(content)
        with pytest.raises(BadInput, match=r"vision\.weights: .*half\.pth is not a readable"):
            load_backbone(LITE0, weights=str(path))


@pytest.mark.parametrize("content", [torch.zeros(3), {"epoch": 3}, {"state_dict": {}}, [1, 2]])
def test_a_file_of_something_else(tmp_path: Path, content: object) -> None:
    path = tmp_path / "other.pt"
    torch.save(content, path)
    with pytest.raises(BadInput, match="holds other things than the tensors of a model"):
        load_backbone("test_resnet", weights=str(path))


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
    assert pvm(images).shape == (2, 3)


@pytest.mark.parametrize("name", TINY)
def test_every_trainable_weight_takes_part(name: str) -> None:
    """Training in several processes waits for the gradient of each weight that asks for one."""
    pvm = PVM(build(name), 3, generator=seeded(0)).eval()
    pvm(noise(2, 64)).square().sum().backward()
    idle = [key for key, w in pvm.named_parameters() if w.requires_grad and w.grad is None]
    frozen = [key for key, weight in pvm.named_parameters() if not weight.requires_grad]
    assert not idle
    assert 2 <= len(frozen) <= 4
    assert all(
        key.startswith(("backbone.head", "backbone.fc", "backbone.classifier")) for key in frozen
    )


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
    with pytest.raises(
        BadInput,
        match=r"^dataset.image_size: test_vit cannot take images of 100 pixels .*multiple of its "
        r"patch size 16.*; its own size is 160\.$",
    ):
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
            assert not loaded[key].any(), "an absent classifier is zero, not left to chance"
        else:
            assert torch.equal(loaded[key], value), key


def test_safetensors(tiny: nn.Module, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    safetensors.torch.save_file(tiny.state_dict(), path)
    loaded = load_backbone("test_resnet", weights=str(path)).state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in tiny.state_dict().items())
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(BadInput, match=r"model\.safetensors is not a readable state_dict"):
        load_backbone("test_resnet", weights=str(path))


def test_nothing_in_a_checkpoint_is_executed(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "executed",))

    path = save({"model": Trap()}, tmp_path)
    with pytest.raises(BadInput, match="objects other than tensors, which are never unpickled"):
        load_backbone("test_resnet", weights=path)
    assert not (tmp_path / "executed").exists()


def test_missing_and_surplus_tensors_are_named(tiny: nn.Module, tmp_path: Path) -> None:
    state = tiny.state_dict()
    lost = [key for key in sorted(state) if "running_mean" in key][:4]
    changed = {key: value for key, value in state.items() if key not in lost}
    changed |= {"extra.b": torch.ones(1), "extra.a": torch.ones(1), "conv1.0.weight": torch.ones(2)}
    with pytest.raises(BadInput) as caught:
        load_backbone("test_resnet", weights=save(changed, tmp_path))
    said = str(caught.value)
    assert f"4 missing ({', '.join(lost[:3])}, ...), 2 surplus (extra.a, extra.b)" in said
    assert "1 of another shape (conv1.0.weight)" in said


def test_a_classifier_may_be_absent_or_of_other_classes(tiny: nn.Module, tmp_path: Path) -> None:
    state = tiny.state_dict()
    body = {key: value for key, value in state.items() if not key.startswith("fc.")}
    other = body | {"fc.weight": torch.ones(7, 96), "fc.bias": torch.ones(7)}
    for content in (body, other):
        path = save(content, tmp_path)
        loaded = load_backbone("test_resnet", weights=path).state_dict()
        assert all(torch.equal(loaded[key], value) for key, value in body.items())
        assert not loaded["fc.weight"].any()
        with pytest.raises(BadInput, match="has no classifier that fits the model"):
            load_backbone("test_resnet", weights=path, need_classifier=True)
    whole = save(state, tmp_path)
    kept = load_backbone("test_resnet", weights=whole, need_classifier=True).state_dict()
    assert torch.equal(kept["fc.weight"], state["fc.weight"])


def test_renaming_follows_the_order_and_checks_every_pair(tiny: nn.Module) -> None:
    ours = tiny.state_dict()
    theirs = {f"module.{i}.{name.rsplit('.')[-1]}": t for i, (name, t) in enumerate(ours.items())}
    renamed = in_order(theirs, ours)
    assert renamed is not None
    assert list(renamed) == list(ours)
    assert all(renamed[name] is theirs[other] for name, other in zip(ours, theirs, strict=True))
    first, last = next(iter(theirs)), list(theirs)[-1]
    assert in_order({name: tensor for name, tensor in theirs.items() if name != last}, ours) is None
    assert in_order(theirs | {first: torch.zeros(1)}, ours) is None
    kind = first.replace("weight", "bias")
    wrong_kind = {(kind if name == first else name): tensor for name, tensor in theirs.items()}
    assert in_order(wrong_kind, ours) is None


def test_names_in_another_order_go_to_their_own_places(tiny: nn.Module, tmp_path: Path) -> None:
    state = tiny.state_dict()
    shuffled = dict(sorted(state.items(), key=lambda item: item[0][::-1]))
    loaded = load_backbone("test_resnet", weights=save(shuffled, tmp_path)).state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in state.items())


@pytest.mark.parametrize(
    ("name", "size"), [("tf_efficientnet_lite1", 240), ("tf_efficientnet_lite2", 260)]
)
def test_the_larger_packaged_models_see_the_cat_too(name: str, size: int, cat: Tensor) -> None:
    assert own_config(name).image_size == size
    assert own_config(name).mean == own_config(name).std == (0.5, 0.5, 0.5)
    model = load_backbone(name, weights="package", need_classifier=True).eval()
    with torch.inference_mode():
        scores = model.get_submodule("classifier")(
            PVM(model, 2, generator=seeded(0)).eval().embed(cat)
        )
    assert scores.softmax(1)[0, list(CATS)].sum() > 0.7


@pytest.mark.parametrize("name", [LITE0, "test_vit", "test_resnet", "xcit_nano_12_p16_224"])
def test_the_width_without_the_model(name: str) -> None:
    before = torch.get_rng_state()
    width = width_of(name)
    assert torch.equal(torch.get_rng_state(), before)
    with torch.random.fork_rng():
        assert width == timm.create_model(name, pretrained=False).head_hidden_size


def test_a_name_with_a_tag_and_its_own_preparation() -> None:
    cfg = own_config("vit_base_patch16_224.dino")
    assert (cfg.image_size, cfg.crop, cfg.interpolation) == (224, 0.9, "bicubic")
    assert cfg.mean == (0.485, 0.456, 0.406)
    with pytest.raises(BadInput, match=r"no weights 'vit_base_patch16_224.dina'; it has .*\.dino"):
        own_config("vit_base_patch16_224.dina")


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
