"""ALFA-Mix: samples near a boundary flip when mixed, and K of them, apart, are chosen."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from small import seeded
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from vecaf_lib.selection import Pool, alfa_mix
from vecaf_lib.selection.alfa_mix import flipping_caps, optimised_flips

D, CLASSES, N = 6, 3, 150


def toy(seed: int = 0, n: int = N, labelled: int = 15, scale: float = 1.0) -> Pool:
    """Three bunches that overlap, and the classifier that asks for the nearest centre."""
    draw = seeded(seed)
    centres = torch.randn(CLASSES, D, generator=draw)
    y = torch.arange(n) % CLASSES
    e = centres[y] + torch.randn(n, D, generator=draw)
    with torch.random.fork_rng(devices=[]):
        classifier = nn.Linear(D, CLASSES)
    with torch.no_grad():
        classifier.weight.copy_(scale * centres)
        classifier.bias.copy_(-scale * centres.square().sum(1) / 2)
    known = torch.randperm(n, generator=draw)[:labelled].sort().values
    return Pool(n, embeddings=e, labelled=known, labels=y[known], classifier=classifier)


def anchors_of(pool: Pool) -> Tensor:
    e, known, y = pool.need("embeddings"), pool.need("labelled"), pool.need("labels")
    return torch.stack([e[known[y == label]].mean(0) for label in y.unique()])


def literal(e: Tensor, anchor: Tensor, classifier: nn.Linear, cap: float) -> Tensor:
    """Their equation 6 as printed, element by element, the gradient by autograd."""
    live = e.clone().requires_grad_(True)
    loss = cross_entropy(classifier(live), classifier(live).argmax(1), reduction="sum")
    (g,) = torch.autograd.grad(loss, live)
    z = anchor - e
    scale = cap / D**0.5 * z.norm(dim=1, keepdim=True) / g.norm(dim=1, keepdim=True)
    alpha = scale * g / (z + 1e-8)
    return ((1 - alpha) * e + alpha * anchor).detach()


def double(pool: Pool) -> tuple[Tensor, Tensor, nn.Linear]:
    return pool.need("embeddings").double(), anchors_of(pool).double(), pool.classifier.double()


def choose(pool: Pool, budget: int, seed: int = 0, **options: Any) -> Tensor:
    return alfa_mix.select(pool, budget, generator=seeded(seed), **options)


@pytest.mark.parametrize("cap", [1 / 16, 0.2, 1.0])
def test_samples_flip_exactly_where_the_printed_formula_flips_them(cap: float) -> None:
    e, anchors, classifier = double(toy())
    pseudo = classifier(e).argmax(1)
    says = torch.zeros(len(e), dtype=torch.bool)
    for anchor in anchors:
        says |= classifier(literal(e, anchor, classifier, cap)).argmax(1) != pseudo
    with torch.no_grad():
        assert torch.equal(flipping_caps(e, anchors, classifier) < cap, says)
    assert 0 < says.sum() < len(e)


def test_a_sure_classifier_does_not_lose_its_gradient() -> None:
    """In float32 the loss of a sure prediction has no gradient; the direction is still known."""
    pool = toy(scale=30.0)
    e, anchors, classifier = pool.need("embeddings"), anchors_of(pool), pool.classifier
    with torch.no_grad():
        caps = flipping_caps(e, anchors, classifier)
        p = classifier(e).softmax(1).amax(1)
        exact = flipping_caps(e.double(), anchors.double(), classifier.double())
    assert (p == 1).any()
    assert caps.isfinite().all()
    torch.testing.assert_close(caps.double(), exact, rtol=1e-2, atol=1e-4)


def test_nothing_flips_where_no_other_class_can_lead() -> None:
    pool = toy()
    with torch.no_grad():
        pool.classifier.weight.zero_()
        pool.classifier.bias[1] = 1.0
        caps = flipping_caps(pool.embeddings, anchors_of(pool), pool.classifier)
    assert caps.isinf().all()
    record: dict[str, Any] = {}
    assert len(choose(pool, 20, record=record).unique()) == 20
    assert record == {"cap": 1.0, "candidates": 0, "filled": 20}


@pytest.mark.parametrize("variant", ["closed_form", "optimised"])
@pytest.mark.parametrize("budget", [1, 20, 135])
def test_exactly_k_distinct_samples_without_a_label(variant: str, budget: int) -> None:
    pool, record = toy(), {}
    chosen = choose(pool, budget, variant=variant, record=record)
    assert chosen.dtype == torch.int64
    assert len(chosen) == len(chosen.unique()) == budget
    assert not torch.isin(chosen, pool.labelled).any()
    assert record["filled"] == max(0, budget - record["candidates"])
    assert record["candidates"] > budget or record["cap"] == 1.0


def test_the_cap_is_raised_only_as_far_as_needed() -> None:
    pool, few, many = toy(), {}, {}
    choose(pool, 3, record=few)
    choose(pool, 60, record=many)
    assert 0 < few["cap"] < many["cap"] <= 1
    assert few["cap"] * 32 == round(few["cap"] * 32)
    coarse: dict[str, Any] = {}
    choose(pool, 60, cap_step=0.4, record=coarse)
    assert coarse["cap"] in (0.4, 0.8, 1.0)


def test_the_optimised_alpha_is_the_gradient_descent_it_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its written-out gradient against autograd's, seen through the optimiser it is given to."""
    e, anchors, classifier = double(toy(n=9))
    seen: list[tuple[Tensor, Tensor]] = []

    class Spy(torch.optim.SGD):
        def step(self, *_: Any) -> None:  # type: ignore[override]
            alpha = self.param_groups[0]["params"][0]
            seen.append((alpha.clone(), alpha.grad.clone()))
            super().step()

    monkeypatch.setattr(alfa_mix.torch.optim, "Adam", Spy)
    with torch.no_grad():
        optimised_flips(e, anchors[0], classifier, 0.3, learning_rate=0.05, iterations=3, l2=0.2)
    pseudo = classifier(e).argmax(1)
    assert len(seen) == 3
    for alpha, gradient in seen:
        assert alpha.min() >= 1e-8
        assert alpha.max() <= 0.3
        live = alpha.requires_grad_(True)
        mixed = (1 - live) * e + live * anchors[0]
        loss = 0.2 * live.norm(dim=1).sum() - cross_entropy(
            classifier(mixed), pseudo, reduction="sum"
        )
        torch.testing.assert_close(torch.autograd.grad(loss, live)[0], gradient)


@pytest.mark.parametrize("variant", ["closed_form", "optimised"])
def test_the_size_of_a_chunk_changes_nothing(variant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = choose(toy(), 20, variant=variant)
    monkeypatch.setattr(alfa_mix, "CHUNK", 31)
    assert torch.equal(choose(toy(), 20, variant=variant), whole)
    monkeypatch.setattr(alfa_mix, "LARGE", 30)  # K-means on mini-batches
    monkeypatch.setattr(alfa_mix, "MANY", 10)
    assert len(choose(toy(), 20, variant=variant).unique()) == 20


def test_only_the_labels_of_chosen_samples_are_known() -> None:
    pool = toy()
    bare = replace(pool, losses=torch.rand(N, generator=seeded(0)))
    assert torch.equal(choose(pool, 20), choose(bare, 20))
    wrong = replace(pool, labels=pool.labels.roll(1))
    assert not torch.equal(choose(pool, 20), choose(wrong, 20))  # they are used
