"""MaxHerding and its weighted relatives, quotas of classes, ODS by margin and BADGE."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from skactiveml.pool import MaxHerding
from small import seeded
from torch import Tensor
from torch.nn.functional import one_hot

from vecaf_lib.selection import Pool, load, maxherding
from vecaf_lib.selection.uherding import uncertainty


def choose(name: str, pool: Pool, budget: int, seed: int = 0, **options: Any) -> list[int]:
    return load(name).select(pool, budget, generator=seeded(seed), **options).tolist()


def greedy(
    e: Tensor, u: list[float], budget: int, kept: tuple[int, ...] = (), sigma: float = 1.0
) -> list[int]:
    """The printed rule, a pair at a time; of gains that are equal but for rounding the first."""
    x = [row / row.norm() for row in e.double()]
    k = [[math.exp(-float((a - b).square().sum()) / sigma**2) for b in x] for a in x]
    n, chosen = range(len(x)), list[int]()
    for _ in range(budget):
        covered = [max((k[s][j] for s in (*kept, *chosen)), default=0.0) for j in n]
        gain = {
            i: sum(u[j] * max(k[i][j] - covered[j], 0) for j in n)
            for i in n
            if i not in kept and i not in chosen
        }
        best = max(gain.values())
        chosen.append(next(i for i in gain if gain[i] >= best * (1 - 1e-5)))
    return chosen


@pytest.fixture(params=["lists", "catching up", "one after the other"])
def way(request, monkeypatch):
    """Both ways to an exact gain, and from one to the other, in small tiles."""
    monkeypatch.setattr(maxherding, "TILE", 7)
    monkeypatch.setattr(maxherding, "FIRST", 3)
    pairs = {"lists": 10**9, "catching up": 0, "one after the other": 45 * 45 // 4}
    monkeypatch.setattr(maxherding, "PAIRS", pairs[request.param])


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("kept", [(), (3, 8, 44)])
def test_the_lazy_choice_is_that_of_the_naive_loop(way, seed, kept, make_pool):
    pool = make_pool(n=45, seed=seed)
    e, u = pool.embeddings.double(), torch.rand(45, generator=seeded(seed)).double()
    u[seed::3] = 0
    pool = replace(pool, embeddings=e, losses=u, excluded=torch.tensor(kept, dtype=torch.int64))
    assert choose("maxherding", pool, 20) == greedy(e, [1.0] * 45, 20, kept)
    assert choose("loss_herding", pool, 20, sigma=0.7) == greedy(e, u.tolist(), 20, kept, 0.7)
    assert choose("loss_herding", pool, 9, loss_power=0.0) == choose("maxherding", pool, 9)
    margin = uncertainty(pool).double().tolist()
    assert choose("uherding", pool, 20) == greedy(e, margin, 20, kept)


def test_a_row_of_each_kind_comes_before_copies_and_all_are_taken_once(way, make_pool):
    e = make_pool(n=3, groups=3).embeddings.repeat(15, 1)
    chosen = choose("maxherding", Pool(45, embeddings=e), 45)
    assert chosen[:3] == greedy(e, [1.0] * 45, 3)
    assert sorted(chosen[:3]) == [0, 1, 2]
    assert sorted(chosen) == list(range(45))


def test_the_order_is_that_of_scikit_activeml(make_pool):
    """Up to the first exact tie, which they break by a draw."""
    pool = make_pool(n=150, seed=1)
    labels = np.full(150, np.nan)
    other = MaxHerding(metric_dict={"gamma": 1.0}, random_state=0)
    first = other.query(pool.embeddings.numpy(), labels, batch_size=20).tolist()
    assert choose("maxherding", pool, 20) == first
    labels[first] = 0
    second = other.query(pool.embeddings.numpy(), labels, batch_size=8).tolist()
    assert choose("maxherding", replace(pool, excluded=torch.tensor(first)), 8) == second


@pytest.mark.parametrize(
    "name", ["maxherding", "uherding", "loss_herding", "class_herding", "badge"]
)
def test_a_prefix_is_the_choice_of_a_smaller_budget(name, make_pool):
    pool = make_pool()
    whole = choose(name, pool, 60)
    for budget in (3, 10, 41):
        assert choose(name, pool, budget) == whole[:budget]


def test_a_margin_is_one_less_the_lead_of_the_likeliest_class_and_the_first_set_has_none(make_pool):
    p = torch.tensor([[0.5, 0.2, 0.3], [0.0, 1.0, 0.0], [0.4, 0.4, 0.2]])
    assert uncertainty(Pool(3, probabilities=p)).tolist() == pytest.approx([0.8, 0.0, 1.0])
    assert uncertainty(Pool(2, probabilities=torch.ones(2, 1))).tolist() == [1, 1]
    pool = make_pool()
    first = replace(pool, probabilities=None)
    assert choose("uherding", first, 12) == choose("maxherding", pool, 12)
    assert choose("uherding", pool, 12) != choose("maxherding", pool, 12)
    few = {"iterations": 30, "ensemble": 2}
    by_margin = replace(pool, losses=uncertainty(pool))
    assert choose("ods_margin", pool, 9, **few) == choose("ods", by_margin, 9, **few)
    even = replace(pool, losses=torch.ones(60))
    assert choose("ods_margin", first, 9, **few) == choose("ods", even, 9, **few)


@pytest.fixture
def uneven(make_pool) -> Pool:
    """Classes of 36, 16, 4 and 4, in turn."""
    labels = torch.tensor([0] * 36 + [1] * 16 + [2] * 4 + [3] * 4)
    return replace(make_pool(), all_labels=labels[torch.randperm(60, generator=seeded(5))])


def counts(pool: Pool, chosen: list[int]) -> list[int]:
    return torch.bincount(pool.all_labels[chosen], minlength=4).tolist()


def test_quotas_follow_the_size_of_classes_to_a_power_and_what_is_left_of_them(uneven):
    assert counts(uneven, choose("stratified", uneven, 15)) == [9, 4, 1, 1]
    assert counts(uneven, choose("class_herding", uneven, 14)) == [6, 4, 2, 2]
    assert counts(uneven, choose("class_herding", uneven, 15, power=1.0)) == [9, 4, 1, 1]
    assert counts(uneven, choose("class_herding", uneven, 16, power=0.0)) == [4, 4, 4, 4]
    assert counts(uneven, choose("class_herding", uneven, 40, power=0.0)) == [16, 16, 4, 4]
    for budget in range(4, 60):
        chosen = choose("class_herding", uneven, budget)
        assert len(chosen) == len(set(chosen)) == budget
        assert min(counts(uneven, chosen)[:4]) >= 1


def test_each_class_is_herded_alone_and_its_kept_samples_cover(uneven):
    e = uneven.embeddings.double()
    kept = torch.arange(0, 60, 7)
    chosen = choose("class_herding", replace(uneven, embeddings=e, excluded=kept), 20)
    for label, count in enumerate(counts(uneven, chosen)):
        inside = (uneven.all_labels == label).nonzero().squeeze(1).tolist()
        own = tuple(inside.index(i) for i in kept.tolist() if i in inside)
        expected = greedy(e[inside], [1.0] * len(inside), count, own)
        assert [i for i in chosen if i in inside] == [inside[i] for i in expected]


def test_stratified_draws_every_sample_of_a_class_alike(uneven):
    drawn = torch.zeros(60)
    for seed in range(400):
        drawn[choose("stratified", uneven, 30, seed)] += 1
    # each sample: binomial(400, 1/2), deviation 10
    assert (drawn - 200).abs().max() < 4 * 10


@pytest.mark.parametrize("first", ["drawn", "longest"])
@pytest.mark.parametrize("with_classifier", [True, False])
def test_badge_draws_by_the_distances_of_gradients_written_out(first, with_classifier, make_pool):
    pool = replace(make_pool(), excluded=torch.arange(0, 60, 9))
    pool = replace(pool, embeddings=pool.embeddings.double())
    at, draw, g = pool.candidates(), seeded(2), pool.embeddings
    if with_classifier:
        p = pool.probabilities.double()
        gradient = p - one_hot(p.argmax(1), 3)  # of the predicted label's loss, by the scores
        g = torch.stack([torch.outer(a, e).flatten() for a, e in zip(gradient, g, strict=True)])
    else:
        pool = replace(pool, probabilities=None)
    weight, expected = torch.ones(len(at), dtype=torch.float64), []
    for number in range(20):
        s = int(torch.multinomial(weight, 1, generator=draw))
        s = int(g[at].norm(dim=1).argmax()) if number == 0 and first == "longest" else s
        expected.append(int(at[s]))
        weight = torch.stack([(g[i] - g[expected]).square().sum(1).min() for i in at.tolist()])
    assert choose("badge", pool, 20, seed=2, first=first) == expected


def test_badge_fills_up_where_no_distance_is_left():
    chosen = choose("badge", Pool(9, embeddings=torch.ones(9, 4)), 9)
    assert sorted(chosen) == list(range(9))
