"""Embeddings, accuracy, and the closed-form probe against as many refits as samples."""

import oracles
import pytest
import torch
from sklearn.linear_model import Ridge
from small import make_pvm, seeded
from torch.nn.functional import cross_entropy, one_hot

from vecaf_lib import evaluation
from vecaf_lib.data.images import ImageSet
from vecaf_lib.evaluation import embed_pool, linear_probe_losses, ridge_probe


def images_of(size):
    images = torch.randint(0, 256, (size, 3, 32, 32), generator=seeded(0)).to(torch.uint8)
    ids = tuple(str(index) for index in range(size))
    return ImageSet(images, torch.arange(size) % 3, ids, ("a", "b", "c"))


def test_the_batch_size_changes_nothing(monkeypatch):
    pvm, images = make_pvm(), images_of(11).images
    whole = embed_pool(pvm, images)
    monkeypatch.setattr(evaluation, "AT_ONCE", 4)
    parts = embed_pool(pvm, images)
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
def test_leave_one_out_is_n_refits(n, d, classes, ridge, monkeypatch):
    monkeypatch.setattr(evaluation, "RIDGE", ridge)
    e, labels = pool(n, d, classes)
    expected = oracles.leave_one_out(e, labels.tolist(), classes, ridge)
    losses = linear_probe_losses(e, labels, classes=classes)
    assert losses.dtype == torch.float32
    torch.testing.assert_close(losses, torch.tensor(expected), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("classes", [1, 3, 12])
def test_equal_embeddings_and_absent_classes_give_finite_losses(classes):
    labels = torch.arange(10) % min(classes, 3)
    losses = linear_probe_losses(torch.ones(10, 4), labels, classes=classes)
    assert torch.isfinite(losses).all()
    assert (losses >= 0).all()


@pytest.mark.parametrize(("n", "d", "classes"), [(40, 5, 3), (20, 50, 6), (30, 20, 3)])
@pytest.mark.parametrize("ridge", [1e-2, 1.0])
def test_a_ridge_probe_is_scikit_learns_times_the_best_scale(n, d, classes, ridge, monkeypatch):
    monkeypatch.setattr(evaluation, "RIDGES", [ridge])
    e, labels = pool(n, d, classes)
    e += 2 * torch.randn(n, d, generator=seeded(5))  # so that classes overlap
    weight, bias = ridge_probe(e, labels, classes=classes)
    penalty = ridge * float((e - e.mean(0)).double().square().sum() / d)
    targets = one_hot(labels, classes).double().numpy()

    def fit(rows):
        return Ridge(alpha=penalty).fit(e[rows].double().numpy(), targets[rows])

    whole = fit([*range(n)])
    coefficients = torch.from_numpy(whole.coef_).float()
    scale = float(weight.norm() / coefficients.norm())
    torch.testing.assert_close(weight, scale * coefficients, rtol=1e-4, atol=1e-5)
    intercept = torch.from_numpy(whole.intercept_).float()
    torch.testing.assert_close(bias, scale * intercept, rtol=1e-4, atol=1e-5)
    left_out = torch.stack(
        [
            torch.from_numpy(fit([j for j in range(n) if j != i]).predict(e[i : i + 1].double()))[0]
            for i in range(n)
        ]
    )
    loss = {
        factor: float(cross_entropy(factor * scale * left_out, labels)) for factor in (0.8, 1, 1.25)
    }
    assert min(loss, key=loss.get) == 1


@pytest.mark.parametrize("n", [1, 2, 10])
def test_a_probe_of_too_little_is_finite(n):
    for e in (torch.ones(n, 4), torch.randn(n, 4, generator=seeded(0))):
        for part in ridge_probe(e, torch.arange(n) % 2, classes=5):
            assert torch.isfinite(part).all()


def test_a_probe_chooses_the_penalty_of_the_least_leave_one_out_loss(monkeypatch):
    e, labels = pool(60, 40, 3)
    e += 2 * torch.randn(60, 40, generator=seeded(5))
    unseen, truth = (part[60:] for part in pool(600, 40, 3))
    unseen += 2 * torch.randn(540, 40, generator=seeded(6))
    probes = []
    for ridges in ([1e-4], [1.0], [1e-4, 1.0]):
        monkeypatch.setattr(evaluation, "RIDGES", ridges)
        probes.append(ridge_probe(e, labels, classes=3))
    loss = [float(cross_entropy(unseen @ weight.T + bias, truth)) for weight, bias in probes[:2]]
    assert loss[1] < loss[0]
    assert all(torch.equal(one, other) for one, other in zip(*probes[1:], strict=True))
