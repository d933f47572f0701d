"""Training from stored states is training with the frozen trunk in place; a kill costs a part."""

import vecaf_lib.models  # noqa: F401 (timm can be imported after it)

# isort: split
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from small import make_pvm, seeded
from torch import Tensor

from vecaf_lib.data.images import ImageSet, ResizedImages
from vecaf_lib.errors import BadInput
from vecaf_lib.evaluation import embed_pool, measure, predicted_losses
from vecaf_lib.models.extract import extract
from vecaf_lib.models.trunk import StoredStates, freeze, state_shape, states_of
from vecaf_lib.models.vision import PVM, features, load_backbone
from vecaf_lib.training import Finetuner, LossPredictor, Recipe

KINDS = ["tf_efficientnet_lite0", "test_vit", "deit_tiny_distilled_patch16_224"]
FROZEN = [("last_blocks", 1), ("last_blocks", 2), ("head", 1)]


def images_of(size: int, seed: int = 0, side: int = 32) -> ImageSet:
    labels = torch.arange(size) % 3
    noise = torch.randint(0, 60, (size, 3, side, side), generator=seeded(seed))
    images = (noise + 90 * labels.view(-1, 1, 1, 1)).to(torch.uint8)
    return ImageSet(images, labels, tuple(map(str, range(size))), ("a", "b", "c"))


def build(name: str, trainable: str = "all", blocks: int = 1) -> PVM:
    if name == KINDS[0]:
        pvm = PVM(load_backbone(name, weights="package"), 3, generator=seeded(0))
    elif name == KINDS[2]:
        size: dict[str, Any] = {"img_size": 32, "depth": 3, "num_heads": 2, "embed_dim": 12}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            backbone = timm.create_model(name, pretrained=False, **size)
        pvm = PVM(backbone, 3, generator=seeded(0))
    else:
        pvm = make_pvm(name)
    freeze(pvm, trainable, blocks)
    return pvm


def stored(pvm: PVM, data: ImageSet, folder: Path) -> ImageSet:
    files = [folder / "states.npy", folder / "mirrored.npy"]
    for path, mirrored in zip(files, (False, True), strict=True):
        compute = states_of(pvm, mirrored=mirrored)
        extract(pvm, data.images, path, batch_size=8, identity={"m": mirrored}, compute=compute)
    return replace(data, states=StoredStates(files, len(data)))


@pytest.mark.parametrize(("trainable", "blocks"), FROZEN)
@pytest.mark.parametrize("name", KINDS)
def test_from_the_cache_as_from_images(
    name: str, trainable: str, blocks: int, tmp_path: Path
) -> None:
    """Both are given the same batches and the same mirroring."""
    recipe = Recipe(
        steps=6,
        batch_size=4,
        learning_rate=0.01,
        flip=True,
        trainable=trainable,  # type: ignore[arg-type]
        blocks=blocks,
        head_start="probe",
    )
    data, validation = images_of(14), images_of(9, seed=1)
    results = []
    for cached in (False, True):
        pvm = build(name, trainable, blocks)
        before = {key: value.clone() for key, value in pvm.state_dict().items()}
        train = stored(pvm, data, tmp_path) if cached else data
        finetuner = Finetuner(pvm, recipe, loops=1, seed=0)
        finetuner.finetune(train.subset([*range(13, 1, -1)]), validation, loop=0)
        after = pvm.state_dict()
        moved = {key.split(".")[0] for key in after if not torch.equal(after[key], before[key])}
        assert moved == ({"classifier"} if trainable == "head" else {"classifier", "backbone"})
        e, scores = embed_pool(pvm, train.inputs)
        results.append((torch.tensor(finetuner.train_loss), e, scores))
        assert all(not part.training for part in pvm.train().trunk.modules())  # type: ignore[union-attr]
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


@torch.inference_mode()
@pytest.mark.parametrize(("trainable", "blocks"), [*FROZEN, ("last_blocks", 3)])
@pytest.mark.parametrize("name", KINDS)
def test_split_in_two_it_is_the_same_model(name: str, trainable: str, blocks: int) -> None:
    whole, split = build(name).eval(), build(name, trainable, blocks).eval()
    images = images_of(3).images
    torch.testing.assert_close(split.embed(images), whole.embed(images))
    maps, e = features(split, images, 9)
    expected, _ = features(whole, images, 9)
    torch.testing.assert_close(e, whole.embed(images))
    if trainable == "head":
        assert len(maps) == 1
        assert torch.equal(maps[0].flatten(1), e)
    else:
        assert 0 < len(maps) <= blocks
        torch.testing.assert_close(maps, expected[-len(maps) :])
    trained = sum(p.numel() for p in split.parameters() if p.requires_grad)
    assert trained < sum(p.numel() for p in whole.parameters() if p.requires_grad)


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize(("trainable", "blocks"), FROZEN)
def test_all_that_is_trained_gets_a_gradient(name: str, trainable: str, blocks: int) -> None:
    """Training in several processes waits for the gradient of each weight that asks for one."""
    pvm = build(name, trainable, blocks).eval()
    pvm(images_of(2).images).square().sum().backward()
    assert not [key for key, p in pvm.named_parameters() if p.requires_grad and p.grad is None]


@pytest.mark.parametrize(
    ("name", "trainable", "shape"),
    [
        (KINDS[0], "last_blocks", (192, 4, 4)),
        (KINDS[0], "head", (1280,)),
        ("vit_base_patch16_224.dino", "last_blocks", (65, 768)),
        ("resnet18", "head", (512,)),
    ],
)
def test_the_shape_of_states_without_the_model(
    name: str, trainable: Any, shape: tuple[int, ...]
) -> None:
    assert state_shape(name, 128, trainable) == shape
    with pytest.raises(BadInput, match=r"training\.(blocks is 99|trainable: last_blocks is)"):
        state_shape(name, 128, "last_blocks", 99)


def test_mirrored_states_are_those_of_mirrored_images(tmp_path: Path) -> None:
    data, pvm = images_of(10), build(KINDS[0], "last_blocks")
    states = stored(pvm, data, tmp_path).states
    assert isinstance(states, StoredStates)
    at, mirror = torch.tensor([7, 0, 3, 3]), torch.tensor([True, False, True, False])
    assert isinstance(data.images, Tensor)
    images = torch.where(mirror.view(-1, 1, 1, 1), data.images[at].flip(3), data.images[at])
    with torch.inference_mode():
        torch.testing.assert_close(states.read(at, mirror), pvm.states(images))
    part = states.take([9, 7, 0])
    assert torch.equal(part[1], states[7])
    swapped = part.read([1, 1], torch.tensor([True, False]))  # type: ignore[attr-defined]
    assert torch.equal(swapped, states.read([7, 7], torch.tensor([True, False])))


class Stopped(ResizedImages):
    """Images of which the last cannot be made, and that count those they made."""

    stop, made = 10**9, 0

    def _make(self, rows: list[int]) -> Tensor:
        if rows[-1] >= self.stop:
            raise KeyboardInterrupt
        self.made += len(rows)
        return super()._make(rows)


def test_a_stopped_pass_goes_on_and_ends_in_the_same_bytes(tmp_path: Path) -> None:
    pvm, pixels = build("test_vit", "last_blocks"), images_of(40).images
    assert isinstance(pixels, Tensor)

    def take(name: str, images: Stopped) -> bytes:
        path = tmp_path / name
        extract(pvm, images, path, batch_size=8, identity={}, compute=states_of(pvm))
        return path.read_bytes()

    whole, cut, rest = (Stopped(pixels, 32) for _ in range(3))
    expected = take("whole.npy", whole)
    cut.stop = 32
    with pytest.raises(KeyboardInterrupt):
        take("states.npy", cut)
    assert take("states.npy", rest) == expected
    assert rest.made < whole.made == 40


def test_a_loss_predictor_reads_the_maps_of_the_tail(tmp_path: Path) -> None:
    for trainable, widths in (("last_blocks", [320]), ("head", [1280])):
        pvm = build(KINDS[0], trainable)
        predictor = LossPredictor(pvm, seeded(0))
        assert [layer.in_features for layer in predictor.reduce] == widths  # type: ignore[union-attr]
        data = stored(pvm, images_of(6), tmp_path)
        losses = [predicted_losses(pvm, predictor, x) for x in (data.images, data.inputs)]
        torch.testing.assert_close(*losses)
        for path in tmp_path.iterdir():
            path.unlink()


def test_what_cannot_be_split_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        BadInput, match=r"trainable: last_blocks is for .*ViT.*, not for ResNet; use"
    ):
        freeze(make_pvm("test_resnet"), "last_blocks")
    with pytest.raises(BadInput, match=r"training.blocks is 8, but EfficientNet has 7 blocks"):
        build(KINDS[0], "last_blocks", 8)
    pvm = make_pvm("test_resnet")
    freeze(pvm, "head")  # any model
    assert measure(pvm, images_of(6)).keys() >= {"accuracy"}
    data = stored(pvm, images_of(6), tmp_path)
    with pytest.raises(BadInput, match=r"states.npy cannot be used .*\(6, 96\), but .* 7 images"):
        StoredStates([tmp_path / "states.npy"], 7)
    with pytest.raises(BadInput, match=r"absent.npy cannot be used"):
        StoredStates([tmp_path / "absent.npy"], 6)
    assert len(data.inputs) == 6
