"""Random, full, Top-K loss, ActiveFT, LearnLoss, TA-VAAL: their promises beyond the contract."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small import seeded
from torch import Tensor, nn

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


@given(st.lists(st.sampled_from([-1.0, 0.0, 0.5, 2.0]), min_size=2, max_size=25), st.data())
def test_learnloss_takes_the_largest_ties_in_the_pools_order_and_labelled_ones_last(
    predicted: list[float], data: st.DataObject
) -> None:
    size = len(predicted)
    budget = data.draw(st.integers(1, size))
    labelled = data.draw(st.sets(st.integers(0, size - 1), min_size=1))
    pool = Pool(
        size, predicted_losses=torch.tensor(predicted), labelled=torch.tensor(sorted(labelled))
    )
    order = sorted(range(size), key=lambda i: (i in labelled, -predicted[i], i))
    assert choose(pool, budget, subset=1.0).tolist() == order[:budget]


def test_candidates_are_a_random_share_of_the_pool_and_never_fewer_than_the_budget() -> None:
    pool, drawn = toy(), torch.zeros(100)
    for seed in range(400):
        at = learnloss.candidates(pool, 5, 0.2, generator=seeded(seed))
        assert len(at) == 20
        assert torch.equal(at, at.unique())
        drawn[at] += 1
    assert (drawn[pool.labelled] == 0).all()
    # each of the 80 others: binomial(400, 1/4), deviation 8.7
    assert (drawn[pool.unlabelled()] - 100).abs().max() < 4.5 * 8.7
    assert len(learnloss.candidates(pool, 30, 0.01, generator=seeded(0))) == 30
    assert len(learnloss.candidates(pool, 85, 0.9, generator=seeded(0))) == 80  # all there are


def test_learnloss_takes_the_largest_among_its_candidates() -> None:
    pool = toy()
    at = learnloss.candidates(pool, 5, 0.2, generator=seeded(0))
    best = at[pool.predicted_losses[at].argsort(descending=True)]
    assert torch.equal(choose(pool, 5), best[:5])
    assert not torch.equal(choose(pool, 5), choose(pool, 5, seed=1))


def test_a_loss_predictor_that_was_forgotten_is_named_and_no_random_set_passed_off() -> None:
    with pytest.raises(BadInput, match=r"^pool\.predicted_losses "):
        choose(replace(toy(), predicted_losses=None), 5)
    assert learnloss.LOSS_PREDICTOR is LossPredictor
    assert ta_vaal.LOSS_PREDICTOR.keywords == {"ranking": "logistic"}


SMALL = {"steps": 30, "width": 8, "batch_size": 16, "image_size": 16}


def dark_and_bright() -> Pool:
    """Labelled images are dark; half of the others are dark too, half are bright."""
    images = torch.randint(0, 60, (60, 3, 16, 16), generator=seeded(0)).to(torch.uint8)
    images[40:] += 180
    return Pool(60, images=images, labelled=torch.arange(20), predicted_losses=torch.zeros(60))


def test_ta_vaal_chooses_what_looks_unlike_the_labelled() -> None:
    options = SMALL | {"subset": 1.0}
    chosen = ta_vaal.select(dark_and_bright(), 10, generator=seeded(0), **options)
    assert (chosen >= 40).all()


def test_ta_vaal_chooses_among_the_candidates_that_learnloss_would_have() -> None:
    pool = dark_and_bright()
    at = learnloss.candidates(pool, 10, 0.2, generator=seeded(1))
    chosen = ta_vaal.select(pool, 10, generator=seeded(1), **SMALL)
    assert len(at) == 12
    assert torch.isin(chosen, at).all()


def test_the_discriminator_sees_the_predicted_loss_and_the_decoder_its_sigmoid(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    received: dict[int, list[Tensor]] = {1: [], 2: []}  # decoder, discriminator
    make_networks = ta_vaal.make_networks

    def spied(*sizes: int) -> nn.ModuleList:
        networks = make_networks(*sizes)
        for number, ranks in received.items():
            networks[number].register_forward_pre_hook(
                lambda _, inputs, ranks=ranks: ranks.append(inputs[0][:, -1])
            )
        return networks

    monkeypatch.setattr(ta_vaal, "make_networks", spied)
    predicted = torch.linspace(-3, 3, 60)[torch.randperm(60, generator=seeded(2))]
    pool = replace(dark_and_bright(), predicted_losses=predicted)
    ta_vaal.select(pool, 10, generator=seeded(0), **SMALL | {"steps": 2})
    decoder, discriminator = received.values()
    assert len(decoder) == 2  # one a step
    assert len(discriminator) == 5  # two a step, and one when labelled and candidates are scored
    at = learnloss.candidates(pool, 10, 0.2, generator=seeded(0))
    for step, ranks in enumerate(decoder):
        raw, again = discriminator[2 * step : 2 * step + 2]
        assert torch.equal(ranks, raw.sigmoid())
        assert torch.equal(raw, again)
        assert torch.isin(raw[:16], predicted[pool.labelled]).all()
        assert torch.isin(raw[16:], predicted[at]).all()
    assert torch.equal(discriminator[4], predicted[torch.cat([pool.labelled, at])])
