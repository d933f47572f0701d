"""The stylist: it moves images along the text's direction, keeps content, repeats itself."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, cosine_similarity

import vecaf_lib.encoders  # noqa: F401 (timm can be imported after it)

# isort: split
import timm

from vecaf_lib.datasets import ImageSet
from vecaf_lib.encoders.vision import PVM
from vecaf_lib.errors import BadInput
from vecaf_lib.stylise.clip_towers import ClipTowers
from vecaf_lib.stylise.images import StylisedImages
from vecaf_lib.stylise.losses import Weights
from vecaf_lib.stylise.stylist import fit_stylist, pvm_content, stylised, text_direction
from vecaf_lib.stylise.unet import StyleNet

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


def along(clip: ClipTowers, net: nn.Module, photos: Tensor) -> Tensor:
    """Cosine of dI and dT of each image."""
    with torch.no_grad():
        x = photos.float() / 255
        change = clip.encode_image(net(x)) - clip.encode_image(x)
        return cosine_similarity(change, text_direction(clip, PROMPT).unsqueeze(0), dim=1)


def test_images_move_along_the_texts_direction(clip: ClipTowers, photos: Tensor) -> None:
    fit = {"content": blurred, "generator": seeded(0)}
    start = fit_stylist(photos, PROMPT, clip, steps=0, **FAST, **fit)  # type: ignore[arg-type]
    fit["generator"] = seeded(0)
    net = fit_stylist(photos, PROMPT, clip, steps=120, **FAST, **fit)  # type: ignore[arg-type]
    before, after = along(clip, start, photos), along(clip, net, photos)
    assert (after > before).all()
    assert after.mean() > before.mean() + 0.2
    unseen = photos.flip(3)
    assert along(clip, net, unseen).mean() > along(clip, start, unseen).mean() + 0.2


def test_each_of_the_two_directional_losses_moves_images(clip: ClipTowers, photos: Tensor) -> None:
    start = along(clip, StyleNet(seeded(0), 4), photos).mean()
    for weights in (Weights(patch=9000.0, direction=0.0), Weights(patch=0.0, direction=500.0)):
        net = fit_stylist(
            photos, PROMPT, clip, blurred, steps=60, weights=weights, generator=seeded(0), **FAST
        )
        assert along(clip, net, photos).mean() > start + 0.1


def test_content_alone_keeps_the_image(clip: ClipTowers, photos: Tensor) -> None:
    weights = Weights(patch=0.0, direction=0.0, smoothness=0.0)
    net = fit_stylist(
        photos, PROMPT, clip, blurred, steps=60, weights=weights, generator=seeded(0), **FAST
    )
    x = photos.float() / 255
    kept = (net(x) - x).abs().mean()
    styled = fit_stylist(photos, PROMPT, clip, blurred, steps=60, generator=seeded(0), **FAST)(x)
    assert kept < 0.03
    assert kept < 0.3 * (styled - x).abs().mean()


def test_same_seed_same_network(clip: ClipTowers, photos: Tensor) -> None:
    nets = [
        fit_stylist(photos, PROMPT, clip, blurred, steps=2, generator=seeded(seed), **FAST)
        for seed in (0, 0, 1)
    ]
    x = photos.float() / 255
    assert torch.equal(nets[0](x), nets[1](x))
    assert not torch.equal(nets[0](x), nets[2](x))
    assert not any(p.requires_grad for p in nets[0].parameters())


def test_every_image_is_seen_and_the_bar_wraps_the_steps(clip: ClipTowers, photos: Tensor) -> None:
    seen: list[Tensor] = []

    def watch(images: Tensor) -> list[Tensor]:
        if not images.requires_grad:
            seen.append(images)
        return blurred(images)

    told: list[int] = []

    def bar(steps: Any) -> Any:
        for step in steps:
            told.append(step)
            yield step

    fit_stylist(photos, PROMPT, clip, watch, steps=2, generator=seeded(0), bar=bar, **FAST)
    assert told == [0, 1]
    values = (255 * torch.cat(seen)).round().to(torch.uint8).flatten(1)
    assert sorted(map(tuple, values.tolist())) == sorted(map(tuple, photos.flatten(1).tolist()))


@pytest.mark.parametrize("size", [(32, 32), (33, 47), (40, 36)])
def test_any_size_from_32_px(size: tuple[int, int]) -> None:
    net = StyleNet(seeded(0), 4)
    images = torch.rand(2, 3, *size, generator=seeded(1))
    out = net(images)
    assert out.shape == images.shape
    assert out.min() >= 0
    assert out.max() <= 1
    assert 0 < float((out - images).abs().mean()) < 0.25  # it starts near the image
    with pytest.raises(BadInput, match=r"31 x 40 px .* 32 px or more"):
        net(torch.zeros(1, 3, 31, 40))


def test_a_network_starts_from_its_generator() -> None:
    one, same, other = (StyleNet(seeded(seed), 4).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["leave.weight"], other["leave.weight"])


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
    assert torch.equal(torch.cat(list(lazy.split(4))), lazy[:])


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
    assert pvm.training
    assert all(torch.equal(before[name], tensor) for name, tensor in pvm.state_dict().items())
    levels = (255 * images.detach()).round().to(torch.uint8)
    pvm.eval()
    expected = pvm.backbone.forward_intermediates(pvm.pixels(levels))[1]
    torch.testing.assert_close(content(levels / 255)[1], expected[-1], atol=1e-4, rtol=1e-3)


def test_a_runs_training_set(
    saved: tuple[Path, Any], pvm: PVM, photos: Tensor, tmp_path: Path
) -> None:
    train = ImageSet(
        images=photos,
        labels=torch.tensor([0, 1, 2, 0, 1, 2]),
        ids=tuple("abcdef"),
        class_names=("x", "y", "z"),
    )
    asked: dict[str, Any] = {"prompt": PROMPT, "pvm": pvm, "steps": 1, "batch_size": 1}
    after = stylised(train, weights=str(saved[0]), **asked)
    assert after.ids == ("a+stylised", *(f"{name}+stylised" for name in "bcdef"))
    assert torch.equal(after.labels, train.labels)
    assert after.class_names == train.class_names
    assert not torch.equal(after.images[:], photos)
    assert all(p.grad is None for p in pvm.parameters())
    with pytest.raises(BadInput, match=r"clipstyler needs CLIP weights: .*nowhere is no folder"):
        stylised(train, weights=str(tmp_path / "nowhere"), **asked)
    with pytest.raises(BadInput, match="prompt is empty"):
        stylised(train, weights=str(saved[0]), **(asked | {"prompt": " "}))
