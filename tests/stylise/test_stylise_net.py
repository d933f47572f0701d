"""The stylist: it moves images along the text's direction, keeps content, repeats itself."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, cosine_similarity

import vecaf_lib.models  # noqa: F401 (timm can be imported after it)

# isort: split
import timm

from vecaf_lib.data.images import ImageSet
from vecaf_lib.errors import BadInput
from vecaf_lib.models.clip import Clip
from vecaf_lib.models.vision import PVM
from vecaf_lib.stylise import (
    THEIRS,
    StyleNet,
    StylisedImages,
    fit_stylist,
    pvm_content,
    stylised,
    text_direction,
)

PROMPT = "a snowy day"
FAST = {"batch_size": 3, "crops": 4, "width": 4, "learning_rate": 5e-3}


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def blurred(images: Tensor) -> list[Tensor]:
    return [avg_pool2d(images, 4), avg_pool2d(images, 8)]


@pytest.fixture(scope="module")
def pvm() -> PVM:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        backbone = timm.create_model("test_resnet", pretrained=False)
    return PVM(backbone, 3, generator=seeded(0))


def along(clip: Clip, net: nn.Module, photos: Tensor) -> Tensor:
    """Cosine of dI and dT of each image."""
    with torch.no_grad():
        x = photos.float() / 255
        change = clip.encode_image(net(x)) - clip.encode_image(x)
        return cosine_similarity(change, text_direction(clip, PROMPT).unsqueeze(0), dim=1)


def test_images_move_along_the_texts_direction(clip: Clip, photos: Tensor) -> None:
    fit = {"content": blurred, "generator": seeded(0)}
    start = fit_stylist(photos, PROMPT, clip, steps=0, **FAST, **fit)  # type: ignore[arg-type]
    fit["generator"] = seeded(0)
    net = fit_stylist(photos, PROMPT, clip, steps=120, **FAST, **fit)  # type: ignore[arg-type]
    before, after = along(clip, start, photos), along(clip, net, photos)
    assert (after > before).all()
    assert after.mean() > before.mean() + 0.2
    unseen = photos.flip(3)
    assert along(clip, net, unseen).mean() > along(clip, start, unseen).mean() + 0.2


def test_each_of_the_two_directional_losses_moves_images(clip: Clip, photos: Tensor) -> None:
    start = along(clip, StyleNet(seeded(0), 4), photos).mean()
    for weights in (THEIRS | {"direction": 0.0}, THEIRS | {"patch": 0.0}):
        net = fit_stylist(
            photos, PROMPT, clip, blurred, steps=60, weights=weights, generator=seeded(0), **FAST
        )
        assert along(clip, net, photos).mean() > start + 0.1


def test_same_seed_same_network(clip: Clip, photos: Tensor) -> None:
    nets = [
        fit_stylist(photos, PROMPT, clip, blurred, steps=2, generator=seeded(seed), **FAST)
        for seed in (0, 0, 1)
    ]
    x = photos.float() / 255
    assert torch.equal(nets[0](x), nets[1](x))
    assert not torch.equal(nets[0](x), nets[2](x))
    assert not any(p.requires_grad for p in nets[0].parameters())


@pytest.mark.parametrize("size", [(32, 32), (33, 47), (40, 36)])
def test_any_size_from_32_px(size: tuple[int, int]) -> None:
    net = StyleNet(seeded(0), 4)
    images = torch.rand(2, 3, *size, generator=seeded(1))
    out = net(images)
    assert out.shape == images.shape
    assert out.min() >= 0
    assert out.max() <= 1
    assert 0 < float((out - images).abs().mean()) < 0.25  # it starts near the image


def test_lazy_images_are_the_network_applied(photos: Tensor) -> None:
    net = StyleNet(seeded(3), 4)
    lazy = StylisedImages(photos, net)
    with torch.no_grad():
        direct = (255 * net(photos.float() / 255)).round()
    assert lazy.shape == (6, 3, 40, 40)
    assert lazy[:].dtype == torch.uint8
    assert (lazy[:].float() - direct).abs().max() <= 1  # the last bits depend on the batch
    assert torch.equal(lazy[4], lazy[2:][2])  # but not what is asked for
    taken = lazy.take([5, 1])
    assert torch.equal(taken[:], lazy[[5, 1]])
    assert torch.equal(StylisedImages(lazy, net).take([1])[0], StylisedImages(lazy[:], net)[1])
    assert torch.equal(torch.cat([lazy[:4], lazy[4:]]), lazy[:])


def test_the_pvm_gives_content_and_is_left_as_it_was(pvm: PVM) -> None:
    pvm.train()
    before = {name: tensor.clone() for name, tensor in pvm.state_dict().items()}
    images = torch.rand(2, 3, 40, 40, generator=seeded(0), requires_grad=True)
    content = pvm_content(pvm)
    maps = content(images)
    assert len(maps) == 2
    assert maps[0].shape[2] > maps[1].shape[2]  # the two deepest stages
    gradient = torch.autograd.grad(sum(part.sum() for part in maps), images)[0]
    assert gradient.abs().sum() > 0
    assert all(torch.equal(before[name], tensor) for name, tensor in pvm.state_dict().items())
    levels = (255 * images.detach()).round().to(torch.uint8)
    expected = pvm.backbone.forward_intermediates(pvm.pixels(levels))[1]
    torch.testing.assert_close(content(levels / 255)[1], expected[-1], atol=1e-4, rtol=1e-3)


def test_a_runs_training_set(saved: Path, pvm: PVM, photos: Tensor, tmp_path: Path) -> None:
    train = ImageSet(
        images=photos,
        labels=torch.tensor([0, 1, 2, 0, 1, 2]),
        ids=tuple("abcdef"),
        class_names=("x", "y", "z"),
    )
    options: dict[str, Any] = {"prompt": PROMPT, "pvm": pvm, "steps": 1, "batch_size": 1}
    after = stylised(train, weights=str(saved), **options)
    assert after.ids == ("a+stylised", *(f"{name}+stylised" for name in "bcdef"))
    assert torch.equal(after.labels, train.labels)
    assert after.class_names == train.class_names
    assert not torch.equal(after.images[:], photos)
    assert all(p.grad is None for p in pvm.parameters())
    with pytest.raises(BadInput, match=r"stylise\.weights: .*nowhere"):
        stylised(train, weights=str(tmp_path / "nowhere"), **options)
