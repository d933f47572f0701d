"""Exactly K distinct samples from K centroids, and K from a ratio."""

import oracles
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import normalize

from vecaf_lib.errors import BadInput
from vecaf_lib.selection._exact import nearest_unused
from vecaf_lib.selection._pool import budget_of


@given(st.integers(1, 14), st.data())
def test_against_the_oracle(n, data):
    k = data.draw(st.integers(1, n))
    draw = torch.Generator().manual_seed(data.draw(st.integers(0, 1000)))
    e = normalize(torch.randn(n, 3, generator=draw, dtype=torch.float64), dim=1)
    theta = normalize(torch.randn(k, 3, generator=draw, dtype=torch.float64), dim=1)
    assert nearest_unused(e, theta).tolist() == oracles.exact_k(e, theta)


def test_centroids_take_turns_and_ties_go_to_the_lower_index():
    e = normalize(torch.tensor([[1.0, 0], [1, 0.1], [1, 0], [0, 1]]), dim=1)
    theta = torch.tensor([[1.0, 0], [1, 0], [1, 0], [1, 0]])
    assert nearest_unused(e, theta).tolist() == [0, 2, 1, 3]


def test_permuting_the_pool_permutes_the_answer():
    draw = torch.Generator().manual_seed(0)
    e = normalize(torch.randn(50, 6, generator=draw), dim=1)
    theta = normalize(torch.randn(20, 6, generator=draw), dim=1)
    order = torch.randperm(50, generator=draw)
    assert torch.equal(order[nearest_unused(e[order], theta)], nearest_unused(e, theta))


def test_more_centroids_than_a_block_holds():
    draw = torch.Generator().manual_seed(0)
    e = normalize(torch.randn(600, 6, generator=draw), dim=1)
    order = torch.randperm(600, generator=draw)
    assert torch.equal(nearest_unused(e, e[order]), order)


@pytest.mark.parametrize(
    ("ratio", "size", "budget"),
    [(5, 1000, 50), (2.0, 1000, 20), (100, 7, 7), (0.1, 1000, 1), (33.4, 10, 3), (6, 10, 1)],
)
def test_budget_of_a_ratio(ratio, size, budget):
    assert budget_of(float(ratio), size) == budget


@pytest.mark.parametrize("ratio", [0.0, -5.0, 100.1, float("nan"), float("inf")])
def test_a_ratio_that_is_no_share_is_refused(ratio):
    with pytest.raises(BadInput, match="more than 0, up to 100"):
        budget_of(ratio, 1000)


def test_a_ratio_of_less_than_one_sample_is_refused():
    with pytest.raises(BadInput, match=r"1 % of 40 samples is less than one; use at least 2\.5"):
        budget_of(1.0, 40)


@given(st.floats(0, 100, exclude_min=True), st.integers(1, 10**6))
def test_a_budget_is_always_in_the_pool(ratio, size):
    try:
        assert 1 <= budget_of(ratio, size) <= size
    except BadInput:
        assert ratio / 100 * size <= 0.5
