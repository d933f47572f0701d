"""The closed-form probe against as many refits as there are samples."""

import oracles
import pytest
import torch

from vecaf_lib.probe import linear_probe_losses


def pool(n, d, classes, seed=0):
    draw = torch.Generator().manual_seed(seed)
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


def test_only_the_direction_of_an_embedding_counts():
    e, labels = pool(30, 5, 3)
    losses = linear_probe_losses(e, labels, classes=3)
    scale = 1 + torch.arange(30.0).unsqueeze(1)
    torch.testing.assert_close(linear_probe_losses(scale * e, labels, classes=3), losses)


def test_a_sample_with_a_wrong_label_has_the_largest_loss():
    draw = torch.Generator().manual_seed(0)
    labels = torch.arange(40) % 2
    e = torch.eye(2)[labels] + 0.1 * torch.randn(40, 2, generator=draw)
    labels[17] = 1 - labels[17]
    assert linear_probe_losses(e, labels, classes=2).argmax() == 17


def test_permuting_the_pool_permutes_the_losses():
    e, labels = pool(30, 5, 3)
    order = torch.randperm(30, generator=torch.Generator().manual_seed(1))
    losses = linear_probe_losses(e, labels, classes=3)
    shuffled = linear_probe_losses(e[order], labels[order], classes=3)
    torch.testing.assert_close(shuffled, losses[order])


@pytest.mark.parametrize("classes", [1, 3, 12])
def test_equal_embeddings_and_absent_classes_give_finite_losses(classes):
    labels = torch.arange(10) % min(classes, 3)
    losses = linear_probe_losses(torch.ones(10, 4), labels, classes=classes)
    assert torch.isfinite(losses).all()
    assert (losses >= 0).all()
