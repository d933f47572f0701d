"""ODS, mode `paper`: equation 3, and what equation 7's two terms do."""

from dataclasses import replace

import oracles
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from torch.nn.functional import normalize

from vecaf_lib.selection import Pool, load, option_schema
from vecaf_lib.selection.ods import loss_distribution, ods_objective

losses = st.lists(st.floats(0, 1000, width=32), min_size=1, max_size=40).map(torch.tensor)


def choose(pool, budget, seed=0, **options):
    generator = torch.Generator().manual_seed(seed)
    return load("ods").select(pool, budget, generator=generator, **options)


@given(losses, st.floats(0, 4))
def test_equation_3_is_a_distribution_that_keeps_the_order_of_the_losses(L, gamma):
    p = loss_distribution(L, gamma)
    assert (p >= 0).all()
    assert p.sum().item() == pytest.approx(1, abs=1e-5)
    assert (p[L.argsort()].diff() >= 0).all()


@given(losses)
def test_power_0_is_uniform(L):
    torch.testing.assert_close(loss_distribution(L, 0.0), torch.full((len(L),), 1 / len(L)))


@given(st.integers(1, 30), st.floats(0, 4))
def test_all_losses_zero_or_equal_is_uniform(n, gamma):
    uniform = torch.full((n,), 1 / n)
    torch.testing.assert_close(loss_distribution(torch.zeros(n), gamma), uniform)
    torch.testing.assert_close(loss_distribution(torch.full((n,), 0.3), gamma), uniform)


@given(st.lists(st.floats(0.015625, 100, width=32), min_size=1, max_size=20), st.floats(0, 3))
def test_equation_3_against_the_oracle(L, gamma):
    expected = torch.tensor(oracles.equation_3(L, gamma))
    torch.testing.assert_close(loss_distribution(torch.tensor(L), gamma), expected)


@given(st.floats(1e-30, 1e30))
def test_the_unit_of_the_loss_does_not_matter(unit):
    L = torch.tensor([0.5, 1.0, 2.5])
    expected = loss_distribution(L, 1.0)
    torch.testing.assert_close(loss_distribution(L * unit, 1.0), expected)


def test_a_higher_loss_pulls_harder():
    """The sign that tells mode `paper` from mode `official` (see test_official.py)."""
    e = normalize(torch.tensor([[1.0, 0.2], [0.1, 1.0]]), dim=1)  # one sample a centroid
    theta = torch.eye(2)
    pulls = []
    for loss in (0.5, 1.0, 2.0, 4.0):
        p = loss_distribution(torch.tensor([loss, 1.0]), 1.0)
        pulls.append(ods_objective(e, p, 0.07, 0.0)(theta)[1][0].norm().item())
    assert pulls == sorted(pulls)
    assert pulls[-1] > 2 * pulls[0]


def pairwise(e):
    """Mean cosine between different rows."""
    cosines = normalize(e, dim=1) @ normalize(e, dim=1).T
    return ((cosines.sum() - cosines.trace()) / (len(e) * (len(e) - 1))).item()


def test_lambda_0_clusters_and_a_large_lambda_spreads():
    """Nearly all loss is in a tight bunch: without diversity the centroids stay there."""
    draw = torch.Generator().manual_seed(0)
    bunch = torch.eye(16)[0] + 0.05 * torch.randn(100, 16, generator=draw)
    scattered = torch.randn(40, 16, generator=draw)
    loss = torch.cat([torch.ones(100), torch.full((40,), 0.01)])
    pool = Pool(140, embeddings=torch.cat([bunch, scattered]), losses=loss)
    mean = {}
    for lambda_ in (0.0, 1.0, 10.0):
        options = {"lambda_": lambda_, "ensemble": 1, "learning_rate": 1e-2, "iterations": 100}
        picks = [choose(pool, 8, seed=seed, **options) for seed in range(3)]
        mean[lambda_] = sum(pairwise(pool.embeddings[chosen]) for chosen in picks) / 3
    assert mean[0.0] > 0.3 + max(mean[1.0], mean[10.0])


def test_the_loss_weight_draws_the_selection_to_high_losses(make_pool):
    pool = make_pool(n=120)
    angle = normalize(pool.embeddings, dim=1) @ normalize(pool.embeddings[:1], dim=1).T
    pool = replace(pool, losses=(3 * angle.squeeze(1)).exp())  # high in one region
    options = {"lambda_": 0.1, "ensemble": 1, "learning_rate": 1e-2, "iterations": 150}

    def mean_loss(power):
        picks = [choose(pool, 8, seed=s, loss_power=power, **options) for s in range(3)]
        return pool.losses[torch.cat(picks)].mean().item()

    assert mean_loss(1.0) > 1.1 * mean_loss(0.0)


def test_power_0_is_blind_to_the_losses(make_pool):
    pool = make_pool()
    other = replace(pool, losses=pool.losses.flip(0) ** 2)
    options = {"iterations": 30, "learning_rate": 1e-2}
    for power, blind in ((0.0, True), (1.0, False)):
        answers = [choose(those, 6, loss_power=power, **options) for those in (pool, other)]
        assert torch.equal(*answers) is blind


def test_the_record_tells_iterations_objective_and_overlap(make_pool):
    record = {}
    choose(make_pool(), 6, iterations=20, tolerance=0.0, record=record)
    assert record["iterations"] == 20
    assert 0 <= record["ensemble_overlap"] <= 1
    alone = {}
    choose(make_pool(), 6, iterations=20, ensemble=1, record=alone)
    assert "ensemble_overlap" not in alone


def test_one_member_is_the_plain_answer_of_member_1():
    pool = Pool(12, embeddings=torch.eye(12), losses=torch.ones(12))
    draws = torch.randperm(12, generator=torch.Generator().manual_seed(4))[:5]
    assert torch.equal(choose(pool, 5, seed=4, ensemble=1, iterations=1), draws)


@pytest.mark.parametrize(
    ("method", "option", "wrong"),
    [
        *[("ods", "tau", v) for v in (0, -1, float("nan"))],
        *[("ods", "lambda_", v) for v in (-0.1, float("inf"))],
        *[("ods", "loss_power", v) for v in (-1, "high")],
        *[("ods", "iterations", v) for v in (0, 2.5)],
        *[("ods", "learning_rate", v) for v in (0, -1e-3)],
        *[("ods", "tolerance", v) for v in (-1e-9, None)],
        *[("ods", "ensemble", v) for v in (0, -1, None)],
        *[("ods", "shrinkage", v) for v in (0, 1.01)],
        ("ods", "temperature", 1),
        ("activeft", "tau", 0),
        ("activeft", "lambda_", 1),
        ("ods_official", "weight", "softmax"),
        ("ods_official", "ensemble", 0),
        ("random", "seed", 1),
        ("random", "generator", 1),
    ],
)
def test_options_out_of_range_or_unknown_are_refused(method, option, wrong):
    with pytest.raises(ValidationError, match=option):
        option_schema(method)(**{option: wrong})


def test_option_defaults_are_those_of_the_signature():
    options = option_schema("ods")().model_dump()
    assert options["ensemble"] == 5
    assert options["learning_rate"] == 1e-3
    assert options["loss_power"] == 1.0
    assert not {"pool", "budget", "generator", "record"} & set(options)
    assert option_schema("ods")(lambda_=0, shrinkage=1).model_dump()["lambda_"] == 0
