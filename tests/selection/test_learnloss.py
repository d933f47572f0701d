"""LearnLoss: the largest predicted losses among the samples that have no label yet."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from vecaf_lib.errors import BadInput
from vecaf_lib.loss_prediction import LossPredictor
from vecaf_lib.selection import Pool, learnloss, load, option_schema


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def toy(size: int = 100, labelled: int = 20, seed: int = 0) -> Pool:
    draw = seeded(seed)
    known = torch.randperm(size, generator=draw)[:labelled].sort().values
    return Pool(size, predicted_losses=torch.randn(size, generator=draw), labelled=known)


def choose(pool: Pool, budget: int, seed: int = 0, **options: Any) -> Tensor:
    return learnloss.select(pool, budget, generator=seeded(seed), **options)


@given(
    st.lists(st.sampled_from([-1.0, 0.0, 0.5, 2.0]), min_size=2, max_size=25),
    st.booleans(),
    st.data(),
)
def test_largest_first_ties_in_the_pools_order_and_known_ones_last(
    told: list[float], exclude: bool, data: st.DataObject
) -> None:
    size = len(told)
    budget = data.draw(st.integers(1, size))
    known = data.draw(st.sets(st.integers(0, size - 1), min_size=1))
    pool = Pool(size, predicted_losses=torch.tensor(told), labelled=torch.tensor(sorted(known)))
    expected = sorted(range(size), key=lambda i: (exclude and i in known, -told[i], i))[:budget]
    assert choose(pool, budget, exclude_labelled=exclude).tolist() == expected


def test_labelled_samples_are_repeated_only_where_too_few_others_remain() -> None:
    pool, record = toy(), {}
    assert not torch.isin(choose(pool, 80, record=record), pool.labelled).any()
    assert record == {"candidates": 80, "repeats": 0}
    chosen = choose(pool, 85, record=record)
    assert len(chosen.unique()) == 85
    assert torch.isin(chosen, pool.labelled).sum() == 5
    assert record == {"candidates": 80, "repeats": 5}


def test_a_subset_is_a_share_of_the_pool_and_the_largest_in_it_are_taken() -> None:
    pool, record = toy(), {}
    chosen = choose(pool, 5, subset=0.2, record=record)
    assert record == {"candidates": 20, "repeats": 0}
    assert not torch.isin(chosen, pool.labelled).any()
    told = pool.need("predicted_losses")[chosen]
    assert torch.equal(told, told.sort(descending=True).values)
    assert not torch.equal(chosen, choose(pool, 5))
    assert not torch.equal(chosen, choose(pool, 5, seed=1, subset=0.2))
    assert torch.equal(chosen, choose(pool, 5, subset=0.2))
    # a quarter of what is looked at is taken: far above the mean, and below the best of all
    assert pool.need("predicted_losses").mean() < told.mean()
    assert told.sum() < pool.need("predicted_losses")[choose(pool, 5)].sum()


def test_a_subset_is_never_smaller_than_the_budget_nor_larger_than_the_candidates() -> None:
    record: dict[str, Any] = {}
    assert len(choose(toy(), 30, subset=0.01, record=record).unique()) == 30
    assert record["candidates"] == 30
    choose(toy(), 30, subset=0.9, record=record)
    assert record["candidates"] == 80
    assert torch.equal(choose(toy(), 30, subset=0.9), choose(toy(), 30))


def test_before_the_first_loop_the_set_is_random() -> None:
    cold = Pool(100, labelled=torch.empty(0, dtype=torch.int64))
    assert learnloss.COLD_START
    for seed in range(3):
        expected = load("random").select(cold, 20, generator=seeded(seed))
        assert torch.equal(choose(cold, 20, seed), expected)


def test_a_predictor_that_was_forgotten_is_told_and_no_random_set_is_passed_off() -> None:
    with pytest.raises(BadInput, match=r"^pool\.predicted_losses is absent"):
        choose(replace(toy(), predicted_losses=None), 5)


def test_its_companion_ranks_by_a_margin_and_its_options_are_checked() -> None:
    assert learnloss.COMPANION is LossPredictor
    assert {"predicted_losses", "labelled"} == learnloss.NEEDS
    schema = option_schema("learnloss")
    assert schema().model_dump() == {"subset": 1.0, "exclude_labelled": True}
    for wrong in (0, 1.5, -0.1):
        with pytest.raises(ValueError, match="subset"):
            schema(subset=wrong)
