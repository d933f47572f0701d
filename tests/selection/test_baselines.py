"""Random, full, Top-K loss, ActiveFT, LearnLoss, TA-VAAL: their promises beyond the contract."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small import seeded
from torch import Tensor

from vecaf_lib.errors import BadInput
from vecaf_lib.selection import Pool, learnloss, load, ta_vaal
from vecaf_lib.training import LossPredictor


def test_random_is_uniform_over_the_pool():
    draw, counts = seeded(0), torch.zeros(10)
    for _ in range(2000):
        counts[load("random").select(Pool(10), 3, generator=draw)] += 1
    # each sample: binomial(2000, 0.3), deviation 20.5
    assert (counts - 600).abs().max() < 4 * 20.5


@given(st.lists(st.sampled_from([0.0, 0.5, 1.0, 2.0]), min_size=1, max_size=30), st.data())
def test_topk_takes_the_largest_losses_in_order_and_ties_in_the_order_of_the_pool(L, data):
    budget = data.draw(st.integers(1, len(L)))
    chosen = load("topk_loss").select(
        Pool(len(L), losses=torch.tensor(L)), budget, generator=seeded(0)
    )
    assert chosen.tolist() == sorted(range(len(L)), key=lambda i: (-L[i], i))[:budget]


def test_activeft_covers_groups_that_random_misses(make_pool):
    """A match of the pool's distribution: with K = groups, more groups than random picks find."""
    pool = make_pool(n=120, groups=6, spread=0.1)

    def covered(name, **options):
        picks = [load(name).select(pool, 6, generator=seeded(s), **options) for s in range(6)]
        return sum(len((chosen % 6).unique()) for chosen in picks) / 6

    assert covered("activeft", learning_rate=1e-2) > covered("random") + 0.5


def toy(size: int = 100, labelled: int = 20, seed: int = 0) -> Pool:
    draw = seeded(seed)
    labelled_samples = torch.randperm(size, generator=draw)[:labelled].sort().values
    predicted = torch.randn(size, generator=draw)
    return Pool(size, predicted_losses=predicted, labelled=labelled_samples)


def choose(pool: Pool, budget: int, seed: int = 0, **options: Any) -> Tensor:
    return learnloss.select(pool, budget, generator=seeded(seed), **options)


@given(
    st.lists(st.sampled_from([-1.0, 0.0, 0.5, 2.0]), min_size=2, max_size=25),
    st.booleans(),
    st.data(),
)
def test_learnloss_takes_the_largest_ties_in_the_pools_order_and_labelled_ones_last(
    predicted: list[float], exclude: bool, data: st.DataObject
) -> None:
    size = len(predicted)
    budget = data.draw(st.integers(1, size))
    labelled = data.draw(st.sets(st.integers(0, size - 1), min_size=1))
    pool = Pool(
        size, predicted_losses=torch.tensor(predicted), labelled=torch.tensor(sorted(labelled))
    )
    order = sorted(range(size), key=lambda i: (exclude and i in labelled, -predicted[i], i))
    assert choose(pool, budget, exclude_labelled=exclude).tolist() == order[:budget]


def test_a_subset_is_a_share_of_the_pool_and_the_largest_in_it_are_taken() -> None:
    pool, record = toy(), {}
    chosen = choose(pool, 5, subset=0.2, record=record)
    assert record == {"candidates": 20, "repeats": 0}
    assert not torch.isin(chosen, pool.labelled).any()
    predicted = pool.predicted_losses
    assert torch.equal(predicted[chosen], predicted[chosen].sort(descending=True).values)
    assert not torch.equal(chosen, choose(pool, 5, seed=1, subset=0.2))
    assert torch.equal(chosen, choose(pool, 5, subset=0.2))
    # a quarter of the candidates are taken: far above the mean, and below the best of all
    assert predicted.mean() < predicted[chosen].mean() < predicted[choose(pool, 5)].mean()
    choose(pool, 30, subset=0.01, record=record)  # never smaller than the budget
    assert record["candidates"] == 30
    choose(pool, 85, subset=0.9, record=record)  # more than there are without a label
    assert record == {"candidates": 80, "repeats": 5}


def test_a_loss_predictor_that_was_forgotten_is_named_and_no_random_set_passed_off() -> None:
    with pytest.raises(BadInput, match=r"^pool\.predicted_losses "):
        choose(replace(toy(), predicted_losses=None), 5)
    assert learnloss.LOSS_PREDICTOR is LossPredictor
    assert ta_vaal.LOSS_PREDICTOR.keywords == {"ranking": "logistic"}


def test_ta_vaal_chooses_what_looks_unlike_the_labelled() -> None:
    """Labelled images are dark; half of the others are dark too, half are bright."""
    images = torch.randint(0, 60, (60, 3, 16, 16), generator=seeded(0)).to(torch.uint8)
    images[40:] += 180
    pool = Pool(60, images=images, labelled=torch.arange(20), predicted_losses=torch.zeros(60))
    options = {"steps": 30, "width": 8, "batch_size": 16, "image_size": 16}
    record: dict[str, Any] = {}
    chosen = ta_vaal.select(pool, 10, generator=seeded(0), record=record, **options)
    assert (chosen >= 40).all()
    assert 0.6 < record["separation"] <= 1
    assert record["repeats"] == 0
