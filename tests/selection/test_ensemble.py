"""Matching and covariance correction of the ensemble (after equation 7)."""

import oracles
import pytest
import torch
from torch.nn.functional import normalize

from vecaf_lib.selection import Pool, load
from vecaf_lib.selection._ensemble import correct, match


def members(E, k, d, seed=0):
    draw = torch.Generator().manual_seed(seed)
    return normalize(torch.randn(E, k, d, generator=draw, dtype=torch.float64), dim=2)


@pytest.mark.parametrize("k", [1, 2, 4, 6])
@pytest.mark.parametrize("seed", range(4))
def test_matching_is_the_best_of_all_orders(k, seed):
    reference, member = members(2, k, 3, seed)
    order = oracles.best_matching(member, reference)
    assert torch.equal(match(member, reference), member[list(order)])


def test_matching_undoes_a_permutation():
    (reference,) = members(1, 9, 5)
    assert torch.equal(match(reference.flip(0), reference), reference)


@pytest.mark.parametrize(("E", "k", "d"), [(2, 3, 4), (5, 3, 12), (5, 1, 3), (8, 2, 5)])
@pytest.mark.parametrize("rho", [0.01, 0.3, 0.9, 1.0])
def test_woodbury_is_the_explicit_inverse(E, k, d, rho):
    stack = members(E, k, d)
    torch.testing.assert_close(correct(stack, rho), oracles.corrected(stack, rho))


def test_shrinkage_1_gives_the_mean():
    stack = members(5, 4, 6)
    torch.testing.assert_close(correct(stack, 1.0), stack.mean(0))


@pytest.mark.parametrize("rho", [0.1, 1.0])
def test_a_single_member_and_equal_members_are_left_alone(rho):
    (one,) = members(1, 4, 6)
    torch.testing.assert_close(correct(one[None], rho), one)
    torch.testing.assert_close(correct(one.expand(3, 4, 6), rho), one)


def test_the_order_in_which_a_member_lists_its_centroids_is_irrelevant():
    stack = members(3, 5, 4)
    shuffled = torch.stack([stack[0], stack[1].flip(0), stack[2].roll(2, 0)])

    def theta(those):
        return correct(torch.stack([match(m, those[0]) for m in those]), 0.5)

    torch.testing.assert_close(theta(shuffled), theta(stack))


@pytest.mark.parametrize("shrinkage", [1e-3, 0.5, 1.0])
def test_selection_works_at_any_shrinkage(shrinkage, make_pool):
    record = {}
    chosen = load("ods").select(
        make_pool(),
        10,
        generator=torch.Generator().manual_seed(0),
        record=record,
        shrinkage=shrinkage,
        iterations=20,
    )
    assert len(set(chosen.tolist())) == 10
    assert 0 <= record["ensemble_overlap"] <= 1


def test_members_that_agree_overlap_fully():
    """Every member takes the whole pool, in another order: matched, they are one and the same."""
    pool = Pool(6, embeddings=torch.eye(6), losses=torch.ones(6))
    record = {}
    generator = torch.Generator().manual_seed(0)
    chosen = load("ods").select(pool, 6, generator=generator, record=record, iterations=1)
    first = torch.randperm(6, generator=torch.Generator().manual_seed(0))
    assert torch.equal(chosen, first)
    assert record["ensemble_overlap"] == 1
