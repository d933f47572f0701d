"""Mode `official`: what the released code computes, and where it departs from mode `paper`."""

import math

import numpy as np
import oracles
import pytest
import torch
from sklearn.datasets import load_digits
from small import seeded
from torch.nn.functional import cosine_similarity, normalize

from vecaf_lib.errors import BadInput
from vecaf_lib.objective import loss_distribution
from vecaf_lib.selection import Pool, activeft, ods_official
from vecaf_lib.selection.activeft import contrast
from vecaf_lib.selection.descent import optimise, start
from vecaf_lib.selection.ods import ods_objective
from vecaf_lib.selection.ods_official import correct, log_weight

FLAGS = {
    "sigmoid": lambda L: [1 / (1 + math.exp(-x)) for x in L],
    "log": lambda L: [math.log(x) for x in L],
    "exp": lambda L: [math.exp(x) for x in L],
    "l2": lambda L: [x / math.sqrt(sum(y * y for y in L)) for x in L],
}


@pytest.mark.parametrize("flag", FLAGS)
def test_the_four_flags(flag):
    L = [1.2, 2.0, 3.5, 1.01]
    expected = torch.tensor(FLAGS[flag](L)).log()
    torch.testing.assert_close(log_weight(torch.tensor(L), flag), expected)


@pytest.mark.parametrize("low", [1.0, 0.5, 0.0])
def test_flag_log_is_refused_where_the_released_code_gives_nan(low):
    pool = Pool(2, embeddings=torch.eye(2), losses=torch.tensor([2.0, low]))
    with pytest.raises(BadInput, match="weight: 'log'"):
        ods_official.select(pool, 1, generator=seeded(0), weight="log")


@pytest.mark.parametrize("flag", FLAGS)
def test_raising_a_loss_pulls_less_in_official_and_harder_in_paper(flag):
    e = normalize(torch.tensor([[1.0, 0.4, 0.0], [0.0, 1.0, 0.3]], dtype=torch.float64), dim=1)
    theta = torch.eye(3, dtype=torch.float64)[:2]  # each sample has a centroid of its own
    away = e[0] - (e[0] @ theta[0]) * theta[0]  # where sample 0 draws centroid 0
    official, paper = [], []
    for loss in (1.5, 2.5, 4.0):
        L = torch.tensor([loss, 2.0], dtype=torch.float64)
        _, g = contrast(e, 0.5, log_weight(L, flag))(theta)
        official.append(-(g[0] @ away).item())
        _, g = ods_objective(e, loss_distribution(L, 1.0), 0.5, 0.0)(theta)
        paper.append(-(g[0] @ away).item())
    assert official[0] > official[1] > official[2]
    assert 0 < paper[0] < paper[1] < paper[2]


def test_the_update_of_the_ensemble_is_theirs_and_not_the_paper_s():
    members = torch.randn(3, 4, 5, generator=seeded(0)).double()
    torch.testing.assert_close(correct(members), oracles.official_correction(members))
    update = correct(members) - members[0]
    assert (update.sum(1) > 0).all()  # v * (v Sigma^-1) sums to a square, whatever the sign of v
    paper = oracles.corrected(members, 1.0) - members[0]
    torch.testing.assert_close(paper, members.mean(0) - members[0])
    few = torch.randn(2, 1, 20, generator=seeded(0))  # fewer members than dimensions
    assert torch.isfinite(correct(few)).all()


def test_the_update_of_two_members_by_hand():
    """theta_1 - mu is (0.2, 0) and (0.1, 0.4); Sigma, the sum of both squared, and its inverse:

    ((0.05, 0.04), (0.04, 0.16)) and ((25, -6.25), (-6.25, 7.8125)).
    """
    members = torch.tensor([[[1.0, 0], [0.1, 1]], [[0.6, 0], [-0.1, 0.2]]], dtype=torch.float64)
    update = [[0.2 * 5.0, 0 * -1.25], [0.1 * 0.0, 0.4 * 2.5]]
    expected = members[0] + torch.tensor(update, dtype=torch.float64)
    torch.testing.assert_close(correct(members), expected)
    # the same by numpy, for members that no hand has rounded
    theta = np.random.default_rng(0).normal(size=(4, 9, 3))
    away = theta - theta.mean(0)
    sigma = np.einsum("mki,mkj->ij", away, away) / 4
    expected = theta[0] + away[0] * (away[0] @ np.linalg.inv(sigma))
    np.testing.assert_allclose(correct(torch.tensor(theta)).numpy(), expected)


def test_on_real_embeddings_the_update_is_a_small_part_of_theta():
    """800 of 1,797 digits, as many to a dimension as the released CIFAR scripts have.

    With Sigma divided by the centroids too, it would be 40 times the length of theta.
    """
    e = normalize(torch.from_numpy(load_digits().data).float(), dim=1)
    objective, draw = contrast(e, 0.07), seeded(0)
    starts = [e[start(len(e), 800, generator=draw)] for _ in range(2)]
    members = torch.stack([optimise(theta, objective, iterations=10) for theta in starts])
    theta = correct(members)
    assert 0.03 < (theta - members[0]).norm() / members[0].norm() < 0.08
    assert cosine_similarity(theta, members[0]).mean() > 0.997


@pytest.mark.parametrize(("budget", "members"), [(1, 10), (2, 5), (3, 3), (5, 2), (10, 1), (50, 1)])
def test_members_are_ten_over_the_percentage(monkeypatch, make_pool, budget, members):
    starts, start = [], ods_official.start
    monkeypatch.setattr(ods_official, "start", lambda *a, **k: starts.append(1) or start(*a, **k))
    for options, expected in (({}, members), ({"ensemble": 4}, 4)):
        starts.clear()
        pool = make_pool(n=100)
        ods_official.select(pool, budget, generator=seeded(0), iterations=1, **options)
        assert len(starts) == expected


def test_the_initial_member_is_discarded():
    """After next to no descent, two members give what the second draw of centroids gives."""
    pool, draw = Pool(20, embeddings=torch.eye(20), losses=torch.ones(20)), seeded(0)
    torch.randperm(20, generator=draw)
    second = torch.randperm(20, generator=draw)[:6]
    chosen = ods_official.select(pool, 6, generator=seeded(0), iterations=1, ensemble=2)
    assert torch.equal(chosen, second)


def test_a_uniform_weight_is_activeft(make_pool):
    pool, options = make_pool(), {"iterations": 50, "learning_rate": 1e-2}
    flat = Pool(pool.size, embeddings=pool.embeddings, losses=torch.zeros(pool.size))
    theirs = activeft.select(flat, 6, generator=seeded(1), **options)
    official = ods_official.select(
        flat, 6, generator=seeded(1), weight="exp", ensemble=1, **options
    )
    assert torch.equal(theirs, official)
