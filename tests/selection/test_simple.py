"""ActiveFT, Top-K loss, random and full: what each promises beyond the common contract."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vecaf_lib.selection import Pool, load


def test_activeft_covers_groups_that_random_misses(make_pool):
    """A match of the pool's distribution: with K = groups, more groups than random picks find."""
    pool = make_pool(n=120, groups=6, spread=0.1)

    def groups_found(name, **options):
        found = 0
        for seed in range(6):
            draw = torch.Generator().manual_seed(seed)
            found += len((load(name).select(pool, 6, generator=draw, **options) % 6).unique())
        return found / 6

    covered = groups_found("activeft", learning_rate=1e-2)
    assert covered > groups_found("random") + 0.5


def test_activeft_is_scale_free(make_pool):
    """Cosines only: the length of an embedding says nothing."""
    pool = make_pool()
    scale = torch.linspace(0.5, 4, pool.size).exp2().unsqueeze(1).round()  # exact in binary
    longer = Pool(pool.size, embeddings=pool.embeddings * scale)
    draws = [torch.Generator().manual_seed(0) for _ in range(2)]
    one = load("activeft").select(pool, 6, generator=draws[0], iterations=30)
    two = load("activeft").select(longer, 6, generator=draws[1], iterations=30)
    assert torch.equal(one, two)


@given(st.lists(st.sampled_from([0.0, 0.5, 1.0, 2.0]), min_size=1, max_size=30), st.data())
def test_topk_takes_the_largest_losses_in_order_and_ties_in_the_order_of_the_pool(L, data):
    budget = data.draw(st.integers(1, len(L)))
    pool = Pool(len(L), losses=torch.tensor(L))
    chosen = load("topk_loss").select(pool, budget, generator=torch.Generator())
    assert chosen.tolist() == sorted(range(len(L)), key=lambda i: (-L[i], i))[:budget]


def test_random_is_uniform_over_the_pool():
    draw = torch.Generator().manual_seed(0)
    counts = torch.zeros(10)
    for _ in range(2000):
        counts[load("random").select(Pool(10), 3, generator=draw)] += 1
    # each sample: binomial(2000, 0.3), deviation 20.5
    assert (counts - 600).abs().max() < 4 * 20.5


@pytest.mark.parametrize("size", [1, 9])
def test_full_is_the_pool_in_order(size):
    chosen = load("full").select(Pool(size), size, generator=torch.Generator())
    assert chosen.tolist() == list(range(size))
