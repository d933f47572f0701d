"""Matching and covariance correction of the ensemble (after equation 7), both at any scale."""

import numpy as np
import oracles
import pytest
import torch
from small import seeded
from torch import Tensor
from torch.nn.functional import normalize

from vecaf_lib.ensemble import combine, correct, match


def members(E, k, d, seed=0):
    draw = seeded(seed)
    return normalize(torch.randn(E, k, d, generator=draw, dtype=torch.float64), dim=2)


@pytest.mark.parametrize("k", [1, 2, 4, 6])
@pytest.mark.parametrize("seed", range(4))
def test_matching_is_the_best_of_all_orders(k, seed):
    reference, member = members(2, k, 3, seed)
    order = oracles.best_matching(member, reference)
    assert torch.equal(match(member, reference), member[list(order)])


@pytest.mark.parametrize(("E", "k", "d"), [(2, 3, 4), (5, 3, 12), (5, 1, 3), (8, 2, 5)])
@pytest.mark.parametrize("rho", [0.01, 0.3, 0.9, 1.0])
def test_woodbury_is_the_explicit_inverse(E, k, d, rho):
    stack = members(E, k, d)
    torch.testing.assert_close(correct(stack, rho), oracles.corrected(stack, rho))


@pytest.mark.parametrize("rho", [0.1, 1.0])
def test_a_single_member_and_equal_members_are_left_alone(rho):
    (one,) = members(1, 4, 6)
    torch.testing.assert_close(correct(one[None], rho), one)
    torch.testing.assert_close(correct(one.expand(3, 4, 6), rho), one)


def pair(k: int, d: int, noise: float) -> tuple[Tensor, Tensor]:
    g = seeded(0)
    first = normalize(torch.randn(k, d, generator=g), dim=1)
    moved = normalize(first + noise / d**0.5 * torch.randn(k, d, generator=g), dim=1)
    return first, moved[torch.randperm(k, generator=g)]


@pytest.mark.parametrize("noise", [0.3, 1.0, 10.0])
def test_greedy_loses_little(noise: float) -> None:
    """Summed cosine against the optimum: no loss while members resemble each other, else 3 %."""
    first, other = pair(1000, 32, noise)
    greedy = match(other, first, optimal=50)
    assert len(torch.unique(greedy, dim=0)) == 1000
    best, reached = (float((first * m).sum()) for m in (match(other, first), greedy))
    assert reached <= best + 1e-3
    assert reached >= {0.3: 0.9999, 1.0: 0.99, 10.0: 0.97}[noise] * best


@pytest.mark.parametrize("rho", [1.0, 0.3])
def test_the_correction_is_the_papers(rho: float, monkeypatch: pytest.MonkeyPatch) -> None:
    first, other = pair(50, 8, 0.5)
    third = pair(50, 8, 0.8)[1]
    expected = correct(torch.stack([first, match(other, first), match(third, first)]), rho)
    monkeypatch.setattr("vecaf_lib.ensemble.BLOCK", 16)
    found = combine([first, other, third], rho)
    torch.testing.assert_close(found, normalize(expected, dim=1))
    assert combine([first], rho) is first
    assert not np.allclose(found.numpy(), first.numpy())
