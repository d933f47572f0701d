"""ODS, mode `paper`: what equation 7's two terms do; its variants; its fast engine."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small import seeded
from torch.nn.functional import normalize

from vecaf_lib.ensemble import combine
from vecaf_lib.errors import BadInput
from vecaf_lib.objective import loss_distribution
from vecaf_lib.selection import Pool, activeft, descent, load, ods
from vecaf_lib.selection.ods import ods_objective
from vecaf_lib.selection.ods_by_class import class_budgets

QUICK = {"ensemble": 1, "learning_rate": 1e-2}


def choose(pool, budget, seed=0, method="ods", **options):
    chosen = load(method).select(pool, budget, generator=seeded(seed), **options)
    assert len(set(chosen.tolist())) == budget
    return chosen


def test_a_higher_loss_pulls_harder():
    """The sign that tells mode `paper` from mode `official` (see test_ods_official.py)."""
    e = normalize(torch.tensor([[1.0, 0.2], [0.1, 1.0]]), dim=1)  # one sample a centroid
    pulls = []
    for loss in (0.5, 1.0, 2.0, 4.0):
        p = loss_distribution(torch.tensor([loss, 1.0]), 1.0)
        pulls.append(ods_objective(e, p, 0.07, 0.0)(torch.eye(2))[1][0].norm().item())
    assert pulls == sorted(pulls)
    assert pulls[-1] > 2 * pulls[0]


def test_power_0_is_blind_to_the_losses(make_pool):
    pool = make_pool()
    other = replace(pool, losses=pool.losses.flip(0) ** 2)
    options = {"iterations": 30, "learning_rate": 1e-2}
    for power, blind in ((0.0, True), (1.0, False)):
        answers = [choose(those, 6, loss_power=power, **options) for those in (pool, other)]
        assert torch.equal(*answers) is blind


def test_members_that_agree_overlap_fully():
    """Every member takes the whole pool, in another order: matched, they are one and the same."""
    pool, record = Pool(6, embeddings=torch.eye(6), losses=torch.ones(6)), {}
    chosen = choose(pool, 6, record=record, iterations=1)
    assert torch.equal(chosen, torch.randperm(6, generator=seeded(0)))
    assert record["members_overlap"] == 1


def test_what_the_members_have_in_common_is_the_mean_over_pairs(make_pool):
    """Three members of which each is, alone, the selection of its own start."""
    options = {"iterations": 20, "learning_rate": 1e-2, "tolerance": 0.0}
    draw, alone, record = seeded(0), [], {}
    for _ in range(3):
        first = torch.randperm(60, generator=draw)[:6]
        e = normalize(make_pool().embeddings, dim=1)
        p = loss_distribution(make_pool().losses, 1.0)
        theta = descent.optimise(e[first], ods_objective(e, p, 0.07, 1.0), **options)
        alone.append(set(descent.nearest_unused(e, theta).tolist()))
    choose(make_pool(), 6, record=record, ensemble=3, **options)
    common = [len(alone[i] & alone[j]) / 6 for i, j in ((0, 1), (0, 2), (1, 2))]
    assert record["members_overlap"] == pytest.approx(sum(common) / 3)
    assert 0 < record["members_overlap"] < 1


def test_a_last_descent_begins_at_the_corrected_mean_and_ends_lower(make_pool):
    pool, steps = make_pool(), {"iterations": 30, "learning_rate": 1e-2, "tolerance": 0.0}
    e, p = normalize(pool.embeddings, dim=1), loss_distribution(pool.losses, 1.0)
    draw, record = seeded(0), {}
    starts = [e[torch.randperm(60, generator=draw)[:6]] for _ in range(3)]
    members = [descent.optimise(first, ods_objective(e, p, 0.07, 1.0), **steps) for first in starts]
    mean = combine(members, 1.0)
    end = descent.optimise(mean, ods_objective(e, p, 0.07, 1.0), **steps)
    chosen = choose(pool, 6, record=record, ensemble=3, last_descent=True, **steps)
    assert torch.equal(chosen, descent.nearest_unused(e, end))
    assert record["objective"] < ods_objective(e, p, 0.07, 1.0)(mean)[0]
    with pytest.raises(BadInput, match=r"last_descent.*engine"):
        choose(pool, 6, last_descent=True, engine="fast")


# class by class


def classes(losses=None):
    """100 samples of four classes with 70, 20, 9 and 1 of them."""
    labels = torch.tensor([0] * 70 + [1] * 20 + [2] * 9 + [3])
    e = torch.randn(100, 8, generator=seeded(0)) + 3 * torch.eye(8)[labels]
    losses = torch.ones(100) if losses is None else losses
    return Pool(100, embeddings=e, losses=losses, all_labels=labels)


def by_class(pool, budget, **options):
    chosen = choose(pool, budget, method="ods_by_class", iterations=10, **options)
    return torch.bincount(pool.all_labels[chosen], minlength=4).tolist()


@given(
    weights=st.lists(st.floats(0, 100), min_size=1, max_size=12),
    sizes=st.lists(st.integers(0, 9), min_size=12, max_size=12),
    share=st.floats(0, 1),
)
def test_class_budgets_are_exact_and_within_what_classes_have(weights, sizes, share):
    sizes = torch.tensor(sizes[: len(weights)])
    budget = int(share * int(sizes.sum()))
    counts = class_budgets(torch.tensor(weights), budget, sizes)
    assert int(counts.sum()) == budget
    assert bool(((counts >= 0) & (counts <= sizes)).all())
    if budget >= int((sizes > 0).sum()):
        assert bool((counts[sizes > 0] > 0).all())


@pytest.mark.parametrize(
    ("weights", "budget", "sizes", "counts"),
    [
        ([6.0, 3.0, 1.0], 10, [50, 50, 50], [6, 3, 1]),
        ([1.0, 0.0, 0.0], 5, [50, 50, 50], [3, 1, 1]),
        ([1.0, 0.0, 0.0], 2, [50, 50, 50], [2, 0, 0]),
        ([1.0, 1.0, 1.0], 6, [1, 9, 9], [1, 3, 2]),
    ],
)
def test_class_budgets_by_hand(weights, budget, sizes, counts):
    assert class_budgets(torch.tensor(weights), budget, torch.tensor(sizes)).tolist() == counts


def test_every_class_gets_a_sample_where_the_budget_reaches():
    assert min(by_class(classes(), 4)) == 1
    assert by_class(classes(), 20, class_power=1.0) == [13, 4, 2, 1]
    assert by_class(classes(), 20, class_power=0.0) == [7, 6, 6, 1]  # the last has no more
    assert [sum(by_class(classes(), budget)) for budget in (1, 3, 100)] == [1, 3, 100]


def test_classes_with_larger_losses_get_more_and_gamma_switches_that_off():
    losses = torch.ones(100)
    losses[70:90] = 9.0
    assert by_class(classes(losses), 20)[1] > by_class(classes(), 20)[1]
    assert by_class(classes(losses), 20, loss_power=0.0) == by_class(classes(), 20)


def test_classes_whose_samples_are_kept_get_no_more_than_they_have_left():
    pool, record = replace(classes(), excluded=torch.arange(65)), {}
    assert by_class(pool, 30, record=record) == [5, 17, 7, 1]
    assert 0 < record["start_kept"] < 1  # of the first class's five start samples few are free


# self-paced


FAST_PACE = {"iterations": 20, "learning_rate": 0.01, "ensemble": 2}


def halves():
    """200 samples in one cloud; the first half is easy, the second hard."""
    losses = torch.cat([torch.full((100,), 0.1), torch.full((100,), 5.0)])
    e = torch.randn(200, 8, generator=seeded(0)) + torch.eye(8)[0]
    return Pool(200, embeddings=e, losses=losses)


def paced(pool, budget=20, seed=0, **options):
    return choose(pool, budget, seed, method="ods_self_paced", **FAST_PACE, **options)


def test_the_faster_the_pace_the_easier_the_samples():
    losses = halves().losses
    mean = {
        pace: sum(losses[paced(halves(), seed=s, pace=pace, lambda_=0.0)].mean() for s in range(5))
        for pace in (0.0, 3.0)
    }
    assert mean[3.0] < mean[0.0] - 1.0
    assert 5 * losses[choose(halves(), 20, lambda_=0.0, **FAST_PACE)].mean() > mean[3.0]


def test_without_a_pace_it_is_ods_without_losses_and_only_differences_of_losses_count():
    plain = choose(halves(), 20, 3, loss_power=0.0, **FAST_PACE)
    assert torch.equal(paced(halves(), seed=3, pace=0.0), plain)
    shifted = replace(halves(), losses=halves().losses + 400)  # e^-400 would be 0 in float32
    assert torch.equal(paced(halves()), paced(shifted))


# the fast engine


FAST = {"engine": "fast", "iterations": 150, "learning_rate": 3e-3}


def clustered(n):
    g = seeded(0)
    centres = torch.randn(15, 24, generator=g)
    noise = 0.5 * torch.randn(n, 24, generator=g)
    e = normalize(centres[torch.randint(15, (n,), generator=g)] + noise, dim=1)
    return Pool(n, embeddings=3 * e, losses=torch.rand(n, generator=g))


@pytest.mark.parametrize("method", ["ods", "activeft"])
def test_fast_reaches_the_objective_of_exact_and_follows_its_generator(method):
    alone = {"tolerance": 0.0} | ({"ensemble": 1} if method == "ods" else {})
    exact, fast = {}, {}
    choose(clustered(1500), 30, 1, method, record=exact, **alone)
    chosen = choose(clustered(1500), 30, 1, method, record=fast, **FAST | alone)
    assert fast["objective"] < exact["objective"] + 0.005 * abs(exact["objective"])
    assert (exact["iterations"], fast["iterations"]) == (300, 150)
    assert torch.equal(choose(clustered(1500), 30, 1, method, **FAST | alone), chosen)
    assert not torch.equal(choose(clustered(1500), 30, 2, method, **FAST | alone), chosen)


def test_fast_follows_the_losses_and_the_options():
    pool = clustered(300)
    plain = choose(pool, 10, **FAST)
    for option in ({"loss_power": 0.0}, {"tau": 0.3}, {"lambda_": 0.0}, {"ensemble": 1}):
        assert not torch.equal(ods.select(pool, 10, generator=seeded(0), **FAST, **option), plain)
    with pytest.raises(BadInput, match=r"tau.*0\.01"):
        activeft.select(clustered(50), 5, generator=seeded(0), tau=0.01, **FAST)
