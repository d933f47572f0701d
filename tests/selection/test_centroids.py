"""The shared engine: assignment, written-out gradients, descent."""

import oracles
import pytest
import torch
from torch.nn.functional import normalize

from vecaf_lib.selection import _centroids, ods
from vecaf_lib.selection._centroids import nearest, optimise, start
from vecaf_lib.selection._exact import nearest_unused
from vecaf_lib.selection.activeft import contrast
from vecaf_lib.selection.ods import ods_objective

SETTINGS = {"learning_rate": 1e-2, "tolerance": 0.0}


def through_the_norm(gradient, raw):
    """Chain rule from unit centroids back to centroids of any length."""
    length = raw.norm(dim=1, keepdim=True)
    unit = raw / length
    return (gradient - (gradient * unit).sum(1, keepdim=True) * unit) / length


@pytest.mark.parametrize("seed", range(3))
def test_nearest_is_the_naive_assignment(seed, make_centroids):
    e, theta = make_centroids(seed=seed)
    cosines, c = nearest(e, normalize(theta, dim=1))
    assert c.tolist() == oracles.nearest_centroid(e, theta)
    expected = [oracles.cosine(e[i], theta[k]) for i, k in enumerate(c.tolist())]
    torch.testing.assert_close(cosines, torch.stack(expected))


@pytest.mark.parametrize("k", [1, 2, 5])
@pytest.mark.parametrize(("tau", "lambda_"), [(1.0, 0.0), (1.0, 1.0), (0.07, 1.0), (0.5, 7.0)])
def test_equation_7_and_its_gradient(k, tau, lambda_, make_centroids):
    e, raw = make_centroids(k=k)
    p = oracles.equation_3([0.1 + (i * 7 % 5) for i in range(len(e))])
    raw.requires_grad_()
    expected = oracles.equation_7(e, p, raw, tau, lambda_)
    expected.backward()
    unit = normalize(raw.detach(), dim=1)
    weights = torch.tensor(p, dtype=e.dtype)
    value, gradient = ods_objective(e, weights, tau, lambda_)(unit)
    assert value == pytest.approx(expected.item())
    torch.testing.assert_close(through_the_norm(gradient, raw.detach()), raw.grad)


@pytest.mark.parametrize("k", [1, 2, 5])
@pytest.mark.parametrize("tau", [1.0, 0.07])
@pytest.mark.parametrize("weighted", [False, True])
def test_contrast_and_its_gradient(k, tau, weighted, make_centroids):
    e, raw = make_centroids(k=k)
    w = [0.2 + (i * 7 % 5) for i in range(len(e))] if weighted else None
    raw.requires_grad_()
    expected = oracles.contrast(e, raw, tau, w)
    expected.backward()
    log_w = torch.tensor(w, dtype=e.dtype).log() if w else None
    value, gradient = contrast(e, tau, log_w)(normalize(raw.detach(), dim=1))
    assert value == pytest.approx(expected.item())
    torch.testing.assert_close(through_the_norm(gradient, raw.detach()), raw.grad)


def test_descent_is_adam_on_the_naive_formula_through_the_norm(make_centroids):
    e, raw = make_centroids(k=3)
    p = oracles.equation_3([0.1 + (i * 7 % 5) for i in range(len(e))])
    theta = normalize(raw, dim=1).requires_grad_()
    adam = torch.optim.Adam([theta], lr=1e-2)
    for _ in range(8):
        adam.zero_grad()
        oracles.equation_7(e, p, theta, 0.07, 1.0).backward()
        adam.step()
        theta.data = normalize(theta.data, dim=1)
    objective = ods_objective(e, torch.tensor(p, dtype=e.dtype), 0.07, 1.0)
    found = optimise(normalize(raw, dim=1), objective, iterations=8, **SETTINGS)
    torch.testing.assert_close(found, theta.detach())


def objectives(e):
    p = torch.linspace(0.1, 2, len(e), dtype=e.dtype)
    return {"ods": ods_objective(e, p / p.sum(), 0.07, 1.0), "activeft": contrast(e, 0.07)}


@pytest.mark.parametrize("name", ["ods", "activeft"])
def test_descent_lowers_the_objective_and_stays_on_the_sphere(name, make_pool):
    e = normalize(make_pool().embeddings, dim=1)
    objective = objectives(e)[name]
    first = start(e, 6, generator=torch.Generator().manual_seed(0))
    before, record = first.clone(), {}
    theta = optimise(first, objective, iterations=60, record=record, **SETTINGS)
    assert torch.equal(first, before), "the caller's centroids were changed"
    assert objective(theta)[0] < objective(first)[0] - 0.1
    torch.testing.assert_close(theta.norm(dim=1), torch.ones(6))
    assert record["iterations"] == 60
    assert record["objective"] == pytest.approx(objective(theta)[0], rel=0.01)


@pytest.mark.parametrize("name", ["ods", "activeft"])
def test_permuting_the_pool_permutes_the_answer_from_the_same_first_centroids(name, make_pool):
    e = normalize(make_pool().embeddings.double(), dim=1)
    order = torch.randperm(60, generator=torch.Generator().manual_seed(9))
    p = torch.linspace(0.1, 2, 60, dtype=e.dtype)

    def answer(rows, weights):
        objective = {
            "ods": ods_objective(rows, weights / weights.sum(), 0.07, 1.0),
            "activeft": contrast(rows, 0.07),
        }[name]
        theta = optimise(e[:6], objective, iterations=60, **SETTINGS)
        return nearest_unused(rows, theta)

    assert torch.equal(order[answer(e[order], p[order])], answer(e, p))


def test_the_chunk_size_changes_nothing(make_pool, monkeypatch):
    e = normalize(make_pool().embeddings.double(), dim=1)
    whole = nearest(e, e[:6])
    monkeypatch.setattr(_centroids, "CHUNK", 7)
    parts = nearest(e, e[:6])
    torch.testing.assert_close(parts[0], whole[0])
    assert torch.equal(parts[1], whole[1])


def test_first_centroids_are_distinct_samples():
    e = torch.eye(20)
    first = start(e, 20, generator=torch.Generator().manual_seed(0))
    assert first.argmax(1).sort().values.tolist() == list(range(20))


def slope(per_step):
    """An objective whose value falls by ``per_step`` from 100 each time it is asked."""
    values = iter(100 - per_step * step for step in range(1000))
    return lambda theta: (next(values), torch.zeros_like(theta))


@pytest.mark.parametrize(
    ("per_step", "tolerance", "iterations"),
    [
        (0.0, 1e-4, 11),  # flat: seen after ten steps
        (0.01, 2e-3, 11),  # ten steps gain 0.1 of 100: less than 2 in 1000
        (0.01, 5e-4, 40),  # and more than 5 in 10,000
        (0.0, 0.0, 40),  # tolerance 0 never stops early,
        (-1.0, 0.0, 40),  # not even where the objective rises
    ],
)
def test_early_stop(per_step, tolerance, iterations):
    record = {}
    optimise(
        torch.eye(3),
        slope(per_step),
        iterations=40,
        learning_rate=1e-3,
        tolerance=tolerance,
        record=record,
    )
    assert record["iterations"] == iterations


@pytest.mark.parametrize("kind", ["ods", "activeft"])
def test_between_two_lookups_samples_keep_their_centroid(kind, make_centroids, monkeypatch):
    e, raw = make_centroids(k=4)
    theta = normalize(raw, dim=1)
    p = torch.full((len(e),), 1 / len(e), dtype=e.dtype)
    looked = []
    for module in (_centroids, ods):
        monkeypatch.setattr(module, "nearest", lambda *a: looked.append(1) or nearest(*a))

    def make(every):
        if kind == "ods":
            return ods_objective(e, p, 0.1, 1.0, every)
        return contrast(e, 0.1, reassign_every=every)

    held, exact = make(3), make(1)
    first = held(theta)
    assert first[0] == pytest.approx(exact(theta)[0])
    swapped = theta[[1, 0, 2, 3]]  # every nearest centroid of 0 and 1 is now another one
    assert held(swapped)[0] > exact(swapped)[0] + 1e-3
    held(theta)
    looked.clear()
    value, gradient = held(swapped)  # the fourth call looks again
    assert looked == [1]
    torch.testing.assert_close(gradient, exact(swapped)[1])
    assert value == pytest.approx(exact(swapped)[0])
