"""Embeddings, accuracy, and the closed-form probe against as many refits as samples."""

import oracles
import pytest
import torch
from small import make_pvm, seeded

from vecaf_lib.data.images import ImageSet
from vecaf_lib.evaluation import embed_pool, linear_probe_losses


def images_of(size):
    images = torch.randint(0, 256, (size, 3, 32, 32), generator=seeded(0)).to(torch.uint8)
    ids = tuple(str(index) for index in range(size))
    return ImageSet(images, torch.arange(size) % 3, ids, ("a", "b", "c"))


def test_the_batch_size_changes_nothing():
    pvm, images = make_pvm(), images_of(11).images
    whole, parts = embed_pool(pvm, images), embed_pool(pvm, images, batch_size=4)
    for one, other in zip(whole, parts, strict=True):
        torch.testing.assert_close(one, other)
    assert [tuple(part.shape) for part in whole] == [(11, 96), (11, 3)]
    assert not whole[0].requires_grad


def pool(n, d, classes, seed=0):
    draw = seeded(seed)
    labels = torch.arange(n) % classes
    e = torch.randn(classes, d, generator=draw)[labels] + torch.randn(n, d, generator=draw)
    return e, labels


@pytest.mark.parametrize(("n", "d", "classes"), [(30, 5, 3), (12, 20, 2), (8, 3, 8)])
@pytest.mark.parametrize("ridge", [1e-2, 1.0])
def test_leave_one_out_is_n_refits(n, d, classes, ridge):
    e, labels = pool(n, d, classes)
    expected = oracles.leave_one_out(e, labels.tolist(), classes, ridge)
    losses = linear_probe_losses(e, labels, classes=classes, ridge=ridge)
    assert losses.dtype == torch.float32
    torch.testing.assert_close(losses, torch.tensor(expected), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("classes", [1, 3, 12])
def test_equal_embeddings_and_absent_classes_give_finite_losses(classes):
    labels = torch.arange(10) % min(classes, 3)
    losses = linear_probe_losses(torch.ones(10, 4), labels, classes=classes)
    assert torch.isfinite(losses).all()
    assert (losses >= 0).all()
