"""What ODS and ActiveFT share: assignment, written-out gradients, descent, K distinct samples."""

import oracles
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small import seeded
from torch.nn.functional import normalize

from vecaf_lib.selection import descent, load
from vecaf_lib.selection.activeft import contrast
from vecaf_lib.selection.descent import nearest, nearest_unused, optimise
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
    value, gradient = ods_objective(e, torch.tensor(p, dtype=e.dtype), tau, lambda_)(unit)
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
    end = optimise(normalize(raw, dim=1), objective, iterations=8, **SETTINGS)
    torch.testing.assert_close(end, theta.detach())


def objective_of(name, e, weights):
    if name == "ods":
        return ods_objective(e, weights / weights.sum(), 0.07, 1.0)
    return contrast(e, 0.07)


BOTH = pytest.mark.parametrize("name", ["ods", "activeft"])


@BOTH
def test_permuting_the_pool_permutes_the_answer_from_the_same_centroids(name, make_pool):
    e = normalize(make_pool().embeddings.double(), dim=1)
    order = torch.randperm(60, generator=seeded(9))
    weights = torch.linspace(0.1, 2, 60, dtype=e.dtype)

    def answer(rows, weights):
        theta = optimise(e[:6], objective_of(name, rows, weights), iterations=60, **SETTINGS)
        return nearest_unused(rows, theta)

    assert torch.equal(order[answer(e[order], weights[order])], answer(e, weights))


def test_the_chunk_size_changes_nothing(make_pool, monkeypatch):
    e = normalize(make_pool().embeddings.double(), dim=1)
    whole = nearest(e, e[:6])
    monkeypatch.setattr(descent, "CHUNK", 7)
    parts = nearest(e, e[:6])
    torch.testing.assert_close(parts[0], whole[0])
    assert torch.equal(parts[1], whole[1])


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
    values, record = iter(100 - per_step * step for step in range(1000)), {}

    def slope(theta):
        return next(values), torch.zeros_like(theta)

    optimise(torch.eye(3), slope, iterations=40, tolerance=tolerance, record=record)
    assert record["iterations"] == iterations


@given(st.integers(1, 14), st.data())
def test_k_distinct_samples_against_the_oracle(n, data):
    k = data.draw(st.integers(1, n))
    draw = seeded(data.draw(st.integers(0, 1000)))
    e = normalize(torch.randn(n, 3, generator=draw, dtype=torch.float64), dim=1)
    theta = normalize(torch.randn(k, 3, generator=draw, dtype=torch.float64), dim=1)
    assert nearest_unused(e, theta).tolist() == oracles.exact_k(e, theta)


def test_only_candidates_are_taken():
    e = normalize(torch.tensor([[1.0, 0], [1, 0.1], [0.2, 1], [0, 1]]), dim=1)
    theta = torch.tensor([[1.0, 0], [1, 0]])
    assert nearest_unused(e, theta).tolist() == [0, 1]
    assert nearest_unused(e, theta, torch.tensor([1, 2, 3])).tolist() == [1, 2]


def test_the_record_counts_centroids_that_are_nobodys_and_samples_of_the_start_that_stay():
    """Four centroids, of which two lie apart from all samples; three of the start are chosen."""
    e, record = torch.eye(5)[:3], {}
    theta = torch.eye(5)[[0, 2, 3, 4]]
    first, chosen = torch.tensor([0, 1, 2, 7]), torch.tensor([2, 1, 0, 9])
    descent.describe(record, e, theta, first, chosen)
    assert record == {"empty_centroids": 0.5, "start_kept": 0.75}


@pytest.mark.parametrize("name", ["ods", "activeft", "ods_official", "ods_self_paced"])
def test_every_descent_records_its_start_and_end(name, make_pool):
    """Next to no step keeps the start; one with large steps does not."""
    options = {} if name == "activeft" else {"ensemble": 1}
    still, moved = {}, {}
    for record, rate in ((still, 1e-9), (moved, 0.3)):
        options |= {"record": record, "learning_rate": rate, "iterations": 30}
        load(name).select(make_pool(), 6, generator=seeded(0), **options)
    assert (still["start_kept"], still["empty_centroids"]) == (1, 0)
    assert moved["start_kept"] < 1
    assert 0 <= moved["empty_centroids"] < 1


def test_centroids_take_turns_and_ties_go_to_the_lower_index():
    e = normalize(torch.tensor([[1.0, 0], [1, 0.1], [1, 0], [0, 1]]), dim=1)
    theta = torch.tensor([[1.0, 0], [1, 0], [1, 0], [1, 0]])
    assert nearest_unused(e, theta).tolist() == [0, 2, 1, 3]


def test_more_centroids_than_a_block_holds_take_their_own_samples():
    e = normalize(torch.randn(600, 6, generator=seeded(0)), dim=1)
    order = torch.randperm(600, generator=seeded(1))
    assert torch.equal(nearest_unused(e, e[order]), order)
