"""k-means centres, CoreSet, TypiClust, ProbCover, BiLAF beside naive loops and scikit-activeml."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from skactiveml.pool import CoreSet, ProbCover, TypiClust
from small import seeded
from torch.nn.functional import normalize

from vecaf_lib.selection import Pool, bilaf, descent, kmeans, load, typiclust

KEPT = [2, 11, 40]
BOTH = pytest.mark.parametrize("kept", [[], KEPT])


def uneven(kept=(), sizes=(45, 60, 52, 70, 48), spread=0.25) -> Pool:
    """Bunches of unequal size in float64, so that no sum's order decides."""
    draw, n = seeded(0), sum(sizes)
    own = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    own = own[torch.randperm(n, generator=draw)]
    centres = torch.randn(len(sizes), 6, generator=draw, dtype=torch.float64)
    e = centres[own] + spread * torch.randn(n, 6, generator=draw, dtype=torch.float64)
    return Pool(n, embeddings=e, excluded=torch.tensor(kept, dtype=torch.int64))


def choose(name, pool, budget, seed=0, **options):
    return load(name).select(pool, budget, generator=seeded(seed), **options)


def unit(pool):
    return normalize(pool.embeddings, dim=1)


def distances(pool):
    x = unit(pool).double().numpy()
    return [np.sqrt(((x - row) ** 2).sum(1)).tolist() for row in x]


def as_queried(pool, taken):
    """What scikit-activeml asks for: unit rows, and labels of those that are ``taken``."""
    y = np.full(pool.size, np.nan)
    y[taken] = 0
    return unit(pool).numpy(), y


@BOTH
def test_a_prefix_of_a_greedy_choice_is_that_of_a_smaller_budget(kept):
    for name in ("coreset", "probcover"):
        chosen = choose(name, uneven(kept), 25)
        assert torch.equal(choose(name, uneven(kept), 9), chosen[:9])


def test_blocks_of_rows_change_nothing(monkeypatch):
    names = ("typiclust", "probcover", "bilaf")
    whole = [choose(name, uneven(KEPT), 12).tolist() for name in names]
    monkeypatch.setattr(descent, "CHUNK", 16)
    assert [choose(name, uneven(KEPT), 12).tolist() for name in names] == whole


def naive_kmeans(e, k, fixed, first, iterations):
    """Lloyd's algorithm on the sphere, centre by centre, beside some that stay."""
    theta = e[first]
    for _ in range(iterations):
        c = (e @ torch.cat([theta, fixed]).T).argmax(1)
        groups = [e[c == j] for j in range(k)]
        theta = [rows.sum(0) if len(rows) else theta[j] for j, rows in enumerate(groups)]
        theta = normalize(torch.stack(theta), dim=1)
    return theta


@BOTH
def test_kmeans_is_the_naive_algorithm_and_beside_kept_samples_as_good(kept):
    """Beside kept samples centres do not start where these are: another start, not a worse one."""
    pool, found, naive = uneven(kept, (9,) * 30), [], []  # more bunches than centres
    e, fixed, options = unit(pool), unit(pool)[kept], {"iterations": 30, "tolerance": 0.0}
    for seed in range(8):
        first, record = descent.start(pool.size, 12, generator=seeded(seed)), {}
        chosen = choose("kmeans", pool, 12, seed, record=record, **options)
        theta = naive_kmeans(e, 12, fixed, first, 30)
        if not kept:
            assert torch.equal(chosen, descent.nearest_unused(e, theta))
        assert not torch.isin(chosen, torch.tensor(kept)).any()
        found.append(record["objective"])
        naive.append(1 - float((e @ torch.cat([theta, fixed]).T).amax(1).mean()))
    assert np.mean(found) < 1.01 * np.mean(naive)
    choose("kmeans", pool, 12, record=record)
    assert record["iterations"] < 100  # it stops by itself


@BOTH
def test_coreset_takes_the_farthest_as_naive_loops_and_scikit_activeml_do(kept):
    """Their rule is the same; ties, of which there are none here, are drawn at random there."""
    pool = uneven(kept)
    chosen, between = choose("coreset", pool, 12).tolist(), distances(pool)
    known = kept or chosen[:1]
    ours = chosen if kept else chosen[1:]
    for t in range(len(ours)):
        gaps = [min(row[s] for s in known + ours[:t]) for row in between]
        assert ours[t] == max(range(pool.size), key=lambda i: gaps[i])
    theirs = CoreSet(random_state=0).query(*as_queried(pool, known), batch_size=len(ours))
    assert theirs.tolist() == ours


def naive_typiclust(between, c, kept, budget):
    """Round robin as published, cluster by cluster."""
    members = {k: [i for i in range(len(between)) if c[i] == k] for k in set(c)}
    for inside in members.values():
        near = min(20, len(inside) // 2)
        closest = {i: sorted(between[i][j] for j in inside if j != i)[:near] for i in inside}
        inside.sort(key=lambda i: sum(closest[i]) / max(1, near))
    queue = sorted(members, key=lambda k: (sum(i in kept for i in members[k]), -len(members[k]), k))
    order = []
    for small in (False, True):
        groups = [members[k] for k in queue if (len(members[k]) <= 5) == small]
        turns = itertools.zip_longest(*([i for i in rows if i not in kept] for rows in groups))
        order += [i for turn in turns for i in turn if i is not None]
    return order[:budget]


@BOTH
@pytest.mark.parametrize("budget", [4, 20, 57])
def test_typiclust_is_the_naive_round_robin(kept, budget, make_pool):
    """With a budget of 57 there are clusters of one sample, and minibatches."""
    pool = replace(make_pool(), excluded=torch.tensor(kept, dtype=torch.int64))
    c = typiclust.cluster(unit(pool), budget + len(kept), generator=seeded(0)).tolist()
    expected = naive_typiclust(distances(pool), c, kept, budget)
    assert choose("typiclust", pool, budget).tolist() == expected


def test_typiclust_chooses_as_scikit_activeml_where_its_rules_are_the_same():
    """One sample of each uncovered cluster of 40 samples or more, that is by 20 neighbours.

    Theirs has 20 in smaller clusters, too, any number of clusters, and asks small ones in turn.
    """
    sizes = (90, 120, 104, 140, 96)
    c = typiclust.cluster(unit(uneven(sizes=sizes)), 5, generator=seeded(0))
    assert c.bincount().min() >= 40
    kept = [int((c == k).nonzero()[0]) for k in (1, 3)]

    class Given:
        def __init__(self, n_clusters):
            self.n_clusters = n_clusters

        def fit_predict(self, X):
            return c.numpy()

    theirs = TypiClust(cluster_algo=Given, k=20, random_state=0)
    queried = theirs.query(*as_queried(uneven(sizes=sizes), kept), batch_size=3)
    assert queried.tolist() == choose("typiclust", uneven(kept, sizes), 3).tolist()


@BOTH
@pytest.mark.parametrize("delta", [0.3, 0.8])
@pytest.mark.filterwarnings("ignore:The maximum purity")
def test_probcover_takes_the_largest_degree_as_naive_loops_and_scikit_activeml_do(kept, delta):
    """Step by step, since ties are drawn at random: whatever is chosen must be among the best.

    Theirs counts samples at exactly delta, too, and tries ten radii where ours takes the largest.
    """
    pool, record = uneven(kept), {}
    chosen = choose("probcover", pool, 12, delta=delta, record=record).tolist()
    between = distances(pool)
    for t in range(12):
        before = kept + chosen[:t]
        left = [j for j in range(pool.size) if all(between[s][j] >= delta for s in before)]
        free = [i for i in range(pool.size) if i not in before]
        degree = {i: sum(between[i][j] < delta for j in left) for i in free}
        assert degree[chosen[t]] == max(degree.values())
        if before:
            query = ProbCover(deltas=[delta], random_state=0).query
            _, theirs = query(*as_queried(pool, before), return_utilities=True)
            assert theirs[0][free].tolist() == [*degree.values()]
    covered = np.mean([any(row[s] < delta for s in kept + chosen) for row in between])
    assert record["covered"] == pytest.approx(covered)


@pytest.mark.parametrize("classes", [2, 5, None])
def test_the_radius_of_probcover_is_the_largest_of_which_95_percent_of_the_balls_are_pure(classes):
    pool, record = uneven(spread=0.5), {}
    choose("probcover", pool, 3, classes=classes, record=record)
    k = classes or round(math.sqrt(pool.size / 2))
    c = kmeans.clusters(unit(pool), k, generator=seeded(0)).tolist()
    between, n = distances(pool), pool.size

    def purity(delta):
        pure = [all(c[j] == c[i] for j in range(n) if between[i][j] < delta) for i in range(n)]
        return sum(pure) / n

    assert purity(record["delta"] - 1e-9) >= 0.95 > purity(record["delta"] + 1e-9)


def test_probcover_draws_at_random_once_everything_is_covered():
    chosen = [choose("probcover", uneven(), 20, seed=s, delta=2.1)[1:].tolist() for s in range(40)]
    assert len({i for some in chosen for i in some}) > 250  # of 275; in order it would be 20


def naive_dense_part(between, core, as_released):
    """Grow from the core by a tenth of the cluster at a time, without the outermost tenth."""
    m = len(between)
    step, size = max(1, int(0.1 * m)), m - int(0.1 * m)
    part = sorted(range(m), key=lambda i: (i != core, between[core][i]))[:step]
    while len(part) < size:
        mean = {}
        for i in (i for i in range(m) if i not in part):
            places = sorted(range(len(part)), key=lambda p: between[i][part[p]])[:10]
            mean[i] = np.mean([between[i][p if as_released else part[p]] for p in places])
        part += sorted(mean, key=lambda i: mean[i])[:step]
    return part[:size]


def naive_bilaf(between, cores, kept, counts, as_released):
    """``counts`` of each cluster, core included; the cores first."""
    chosen, own = list(cores), [min(cores, key=lambda k: row[k]) for row in between]
    for core, count in zip(cores, counts, strict=True):
        rows = [i for i in range(len(between)) if own[i] == core]
        inside = [[between[i][j] for j in rows] for i in rows]
        part = [rows[p] for p in naive_dense_part(inside, rows.index(core), as_released)]
        taken, near = [core] + [i for i in rows if i in kept], set(part)
        aside, score = len(part) // (len(taken) + count - 1), {}
        for t in range(len(taken) + count - 1):
            if t == len(taken):
                taken.append(min(sorted(near - set(taken)), key=lambda i: score[i]))
                chosen.append(taken[t])
            near -= set(sorted(near, key=lambda j: between[taken[t]][j])[:aside])
            for i in rows:
                others = [k for k in cores if k != core]
                faces = min(others, key=lambda k: between[i][k])
                met = sum(min(others, key=lambda k: between[j][k]) == faces for j in taken[1:])
                d_in, d_out = np.mean([between[i][j] for j in part]), between[i][faces]
                score[i] = (d_out * 1.1**met - d_in) / max(d_out, d_in)
    return chosen


@BOTH
@pytest.mark.parametrize("as_released", [False, True])
def test_bilaf_is_the_naive_algorithm(kept, as_released):
    pool, descends = uneven(kept, spread=0.6), {"iterations": 20, "learning_rate": 0.01}
    chosen = choose("bilaf", pool, 20, as_released=as_released, **descends).tolist()
    cores = choose("activeft", pool, 5, **descends).tolist()
    between = distances(pool)
    own = [min(cores, key=lambda k: between[i][k]) for i in chosen]
    counts = [own.count(core) for core in cores]
    assert min(counts) >= 1
    assert chosen == naive_bilaf(between, cores, kept, counts, as_released)
    x = unit(uneven(sizes=(80,), spread=1.0))
    parts = [set(bilaf.dense_part(x, 3, way).tolist()) for way in (False, True)]
    assert parts[0] != parts[1]  # the wrong index drops other samples
