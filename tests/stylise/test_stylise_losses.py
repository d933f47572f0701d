"""The losses of CLIPstyler, and the crops on which the first of them is measured."""

import pytest
import torch

from vecaf_lib import stylise as losses
from vecaf_lib.stylise import random_crops


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_the_directional_loss_is_one_minus_the_cosine() -> None:
    before = torch.zeros(3, 2)
    after = torch.tensor([[2.0, 0.0], [0.0, 3.0], [-1.0, 0.0]])
    loss = losses.directional(after, before, torch.tensor([0.5, 0.0]))
    torch.testing.assert_close(loss, torch.tensor([0.0, 1.0, 2.0]))
    shifted = losses.directional(after + 5, before + 5, torch.tensor([0.5, 0.0]))
    torch.testing.assert_close(shifted, loss)


def test_patches_below_the_threshold_are_dropped_but_counted() -> None:
    patches = torch.tensor([0.1, 0.69, 0.7, 1.3], requires_grad=True)
    loss = losses.patchwise(patches)
    assert float(loss) == pytest.approx((0.7 + 1.3) / 4)
    loss.backward()
    assert patches.grad is not None
    assert patches.grad.tolist() == [0, 0, 0.25, 0.25]


def test_content_is_relative_and_zero_for_the_source() -> None:
    maps = [torch.rand(shape, generator=seeded(0)) for shape in ((2, 4, 3, 3), (2, 8, 2, 2))]
    assert float(losses.content_loss(maps, maps)) == 0
    twice = [2 * part for part in maps]
    assert float(losses.content_loss(twice, maps)) == pytest.approx(1)
    hundred = [100 * part for part in maps], [50 * part for part in maps]
    assert float(losses.content_loss(*hundred)) == pytest.approx(1)


def test_total_variation() -> None:
    assert float(losses.total_variation(torch.full((2, 3, 8, 9), 0.3))) == 0
    edge = torch.zeros(1, 3, 4, 4)
    edge[..., 2:] = 0.5  # 4 steps of 0.5 across in each of 3 channels, 3 along each diagonal
    across, diagonal = (12 * 0.25) ** 0.5, (9 * 0.25) ** 0.5
    assert float(losses.total_variation(edge)) == pytest.approx(across + 2 * diagonal)


def test_crops_come_from_all_over_the_image_and_their_inside_from_a_quarter_of_its_side() -> None:
    """Pixels that hold their own coordinates tell where a crop comes from."""
    y, x = torch.meshgrid(torch.arange(40.0), torch.arange(60.0), indexing="ij")
    crops = random_crops(torch.stack([x, y])[None] + 1, 50, 20, generator=seeded(0))
    assert crops.shape == (50, 2, 20, 20)
    inside = crops[:, :, 8:12, 8:12].flatten(2)
    assert inside.min() > 0
    assert (inside.amax(2) - inside.amin(2)).max() < 10
    assert inside[:, 0].min() < 12
    assert inside[:, 0].max() > 48
    assert inside[:, 1].max() > 32


def test_a_perspective_leaves_black_outside_and_gradients_flow() -> None:
    image = torch.ones(2, 3, 32, 32, requires_grad=True)
    crops = random_crops(image, 8, 24, generator=seeded(0))
    assert torch.equal(crops, random_crops(image, 8, 24, generator=seeded(0)))
    assert crops.shape == (16, 3, 24, 24)
    black = (crops == 0).float().mean((1, 2, 3))
    assert 0.1 < black.mean() < 0.6
    assert (black < 0.8).all()  # corners move inwards by half a side at most: 3/4 of the area
    assert ((crops >= 0) & (crops < 1 + 1e-5)).all()
    crops.sum().backward()
    assert image.grad is not None
    assert image.grad.abs().sum() > 0
