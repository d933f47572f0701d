"""The engine at scale against the exact mode, on every side that could differ."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor
from torch.nn.functional import normalize

from vecaf_lib.errors import BadInput
from vecaf_lib.evaluation import linear_probe_losses
from vecaf_lib.large_pool import select
from vecaf_lib.large_pool.descent import Centroids, Crowding, Plan
from vecaf_lib.large_pool.engine import represent
from vecaf_lib.large_pool.products import Rows
from vecaf_lib.objective import loss_distribution
from vecaf_lib.seeding import generator
from vecaf_lib.selection import activeft, ods
from vecaf_lib.selection.descent import empty, nearest_unused, optimise, start


def clustered(n: int, d: int = 32, seed: int = 0) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    centres = normalize(torch.randn(20, d, generator=g), dim=1)
    own = torch.randint(20, (n,), generator=g)
    e = normalize(centres[own] + 0.8 / d**0.5 * torch.randn(n, d, generator=g), dim=1)
    return e, torch.rand(n, generator=g)


def assigned(e: Tensor, p: Tensor, theta: Tensor, plan: Plan, index: Any = None) -> Centroids:
    centroids = Centroids(Rows(e, 64), p, theta.clone(), len(theta), plan, "float32")
    centroids.assign(index)
    return centroids


@pytest.mark.parametrize("objective", ["kmeans", "ods", "activeft"])
def test_value_and_gradient_are_those_of_the_exact_mode(objective: Any) -> None:
    e, losses = clustered(300)
    theta = e[start(len(e), 20, generator=torch.Generator().manual_seed(1))]
    p = loss_distribution(losses, 1.0)
    oracle = ods.ods_objective(e, p, 0.07, float(objective == "ods"))
    if objective == "activeft":
        oracle, p = activeft.contrast(e, 0.07), torch.full((300,), 1 / 300)
    found = assigned(e, p, theta, Plan(objective=objective))
    push = found.crowding.push(found.mass, 20) if found.crowding else 0.0
    expected, there = oracle(theta)
    expected = 1 + 0.07 * expected if objective == "kmeans" else expected
    assert found.curve == [pytest.approx(expected, rel=1e-5)]
    torch.testing.assert_close((push - found.pull) / 0.07, there, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("objective", ["ods", "activeft"])
@pytest.mark.parametrize("product", ["float32", "bfloat16", "int8"])
def test_crowding_in_blocks_is_crowding_whole(
    objective: str, product: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    theta = clustered(150)[0]
    mass = torch.rand(150, generator=torch.Generator().manual_seed(2)) / 150
    whole = Crowding(theta, Plan(objective=objective), product)  # few: in float32
    monkeypatch.setattr("vecaf_lib.large_pool.descent.DENSE", 64)
    monkeypatch.setattr("vecaf_lib.large_pool.descent.BLOCK", 40)
    parts = Crowding(theta, Plan(objective=objective), product, threads=2)
    near = {"float32": 1e-4, "bfloat16": 0.1, "int8": 0.1}[product]
    torch.testing.assert_close(parts.log_n, whole.log_n, rtol=0, atol=near)
    there, here = whole.push(mass, 100), parts.push(mass, 100)
    assert float((here - there).norm() / there.norm()) < 0.02


def test_kmeans_steps_are_those_of_a_double_loop() -> None:
    """Weighted spherical k-means, sample by sample; a centroid that attracts nobody stays."""
    e, losses = clustered(150)
    theta = e[torch.randperm(150, generator=torch.Generator().manual_seed(0))[:20]].clone()
    for _ in range(4):
        sums = torch.zeros_like(theta)
        for row, weight in zip(e, losses, strict=True):
            sums[max(range(20), key=lambda k: float(row @ theta[k]))] += weight * row
        for k, total in enumerate(sums):
            theta[k] = total / total.norm() if total.norm() else theta[k]
    record: dict[str, Any] = {}
    options = {"objective": "kmeans", "iterations": 4, "product": "float32", "tolerance": 0.0}
    chosen = select(e, 20, losses, record=record, **options)
    np.testing.assert_allclose(record["centroids"], theta, atol=1e-5)
    np.testing.assert_array_equal(chosen, nearest_unused(e, theta))


def test_kmeans_in_few_directions_and_growing_batches_ends_as_high_as_in_all() -> None:
    e, _ = clustered(4000, d=64)
    reached = {}
    for dimensions, iterations in ((16, 3), (64, 25)):
        record: dict[str, Any] = {}
        options = {"objective": "kmeans", "dimensions": dimensions, "iterations": iterations}
        chosen = select(e, 64, record=record, **options)
        reached[dimensions] = float((e @ e[torch.from_numpy(chosen)].T).max(1).values.mean())
        assert record["curve"][-1] < record["curve"][0]
    assert reached[16] > reached[64] - 0.005


STARTS = 4
LIMITS = [("ods", 0.02), ("ods", 0.1), ("ods", 1.0), ("activeft", 1.0)]


@pytest.mark.parametrize(("objective", "lambda_"), LIMITS)
def test_digits_are_chosen_as_by_the_exact_descent(objective: Any, lambda_: float) -> None:
    """Objective within 1 %, losses of the chosen 3 %, empty centroids 1 point; means of starts."""
    images, labels = load_digits(return_X_y=True)
    e = normalize(torch.from_numpy(images).float(), dim=1)
    losses = linear_probe_losses(e, torch.from_numpy(labels), classes=10)
    p, found = loss_distribution(losses, 1.0), []
    for seed in range(STARTS):
        oracle = ods.ods_objective(e, p, 0.07, lambda_)
        oracle = activeft.contrast(e, 0.07) if objective == "activeft" else oracle
        first = start(len(e), 90, generator=generator(seed))
        exact = optimise(e[first], oracle, iterations=300)
        record: dict[str, Any] = {}
        options = {"objective": objective, "lambda_": lambda_, "record": record}
        weights = losses if objective == "ods" else None
        select(e, 90, weights, generator=generator(seed), **options)
        for theta in (exact, torch.from_numpy(record["centroids"])):
            ratio = losses[nearest_unused(e, theta)].mean() / losses.mean()
            found.append([oracle(theta)[0], float(ratio), empty(e, theta)])
    exact, fast = np.array(found).reshape(STARTS, 2, 3).mean(0)
    assert fast[0] < exact[0] + 0.01 * abs(exact[0])
    assert fast[1] == pytest.approx(exact[1], rel=0.03)
    assert fast[2] == pytest.approx(exact[2], abs=0.01)


@pytest.mark.parametrize("objective", ["ods", "activeft"])
def test_300_steps_are_those_of_the_exact_descent(objective: Any) -> None:
    e, losses = clustered(200)
    first = start(200, 12, generator=torch.Generator().manual_seed(0))
    oracle = ods.ods_objective(e, loss_distribution(losses, 1.0), 0.07, 0.1)
    oracle = activeft.contrast(e, 0.07) if objective == "activeft" else oracle
    expected = optimise(e[first], oracle, iterations=300, learning_rate=1e-3)
    record: dict[str, Any] = {}
    options = {"objective": objective, "lambda_": 0.1, "iterations": 300, "product": "float32"}
    select(e, 12, losses if objective == "ods" else None, record=record, **options)
    np.testing.assert_allclose(record["centroids"], expected, atol=2e-3)


def test_batches_are_parts_of_the_pull() -> None:
    e, losses = clustered(500)
    p, theta = loss_distribution(losses, 1.0), e[::50]
    whole, parts = assigned(e, p, theta, Plan()).pull, torch.zeros(10, 32)
    for index in torch.randperm(500, generator=torch.Generator().manual_seed(0)).split(90):
        parts += p[index].sum() * assigned(e, p, theta, Plan(), index).pull
    torch.testing.assert_close(parts, whole)


@pytest.mark.parametrize("objective", ["kmeans", "ods", "activeft"])
def test_labelled_rows_are_centroids_that_stay(objective: Any) -> None:
    """Of three groups one is labelled: all that are chosen come from the others."""
    g = torch.Generator().manual_seed(0)
    e = torch.eye(3, 16).repeat_interleave(40, 0) + 0.05 * torch.randn(120, 16, generator=g)
    options = {"objective": objective, "lambda_": 0.1, "labelled": [3, 5]}
    for seed in range(3):
        chosen = select(e, 2, generator=generator(seed), **options)
        assert 0 not in chosen // 40
        assert objective != "kmeans" or sorted(chosen // 40) == [1, 2]
    free = select(e, 100, excluded=np.arange(10, 20), iterations=5, **options)
    assert not {3, 5, *range(10, 20)} & set(free.tolist())
    with pytest.raises(BadInput, match=r"budget is 119; .* of the 118 rows that may be chosen"):
        select(e, 119, **options)


def test_representatives_are_the_nearest_of_the_chosen() -> None:
    e, _ = clustered(300)
    chosen = torch.arange(0, 300, 25)
    for row, who, cosine in zip(e, *represent(Rows(e, 64), chosen, "float32"), strict=True):
        best = max(chosen, key=lambda number: float(row @ e[number]))
        assert who == best
        assert cosine == pytest.approx(float(row @ e[best]), abs=1e-6)


def test_the_product_is_measured_and_told() -> None:
    e, losses = clustered(600, d=64)
    record: dict[str, Any] = {}
    chosen = select(e, 20, losses, objective="kmeans", record=record)
    assert record["threads"] == torch.get_num_threads()
    named = select(e, 20, losses, objective="kmeans", product=record["product"])
    np.testing.assert_array_equal(named, chosen)
    select(e, 20, losses, record=record)
    assert record["product"] == "float32"


@pytest.mark.parametrize("objective", ["kmeans", "ods"])
@pytest.mark.parametrize(
    ("chunk", "threads"), [(7, 1), (64, 1), (1024, 4)], ids=["rows", "chunks", "threads"]
)
def test_any_chunk_and_number_of_threads_chooses_the_same(
    chunk: int, threads: int, objective: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    e, losses = clustered(1000, d=64)
    before = torch.get_num_threads()
    options = {"ensemble": 2, "iterations": 5, "objective": objective, "dimensions": 15}
    options |= {"product": "int8", "lambda_": 0.1}
    expected = select(e, 30, losses, **options)
    monkeypatch.setattr("vecaf_lib.large_pool.products.CHUNK", chunk)
    torch.set_num_threads(threads)
    try:
        found = select(e, 30, losses, **options)
    finally:
        torch.set_num_threads(before)
    np.testing.assert_array_equal(found, expected)


def test_embeddings_may_lie_anywhere(tmp_path: Path) -> None:
    e, losses = clustered(600)
    expected = select(e.half(), 20, losses, iterations=30)
    np.save(tmp_path / "e.npy", e.half().numpy())
    file = np.load(tmp_path / "e.npy", mmap_mode="r")
    for pool in (file, e.half().double().numpy() * 3):  # lengths do not matter
        found = select(pool, 20, losses.numpy(), iterations=30)
        assert len(set(found.tolist()) & set(expected.tolist())) >= 19


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("product", ["float32", "bfloat16", "int8"])
def test_a_gpu_chooses_as_the_cpu_does(product: str) -> None:
    e, losses = clustered(3000, d=50)
    found = {}
    for device in ("cpu", "cuda"):
        options = {"product": product, "device": device, "iterations": 20, "ensemble": 2}
        found[device] = {*select(e, 45, losses, **options).tolist()}
    assert len(found["cuda"]) == 45
    assert len(found["cpu"] & found["cuda"]) >= 40  # sums have another order there


@pytest.mark.parametrize("product", ["float32", "int8"])
def test_excluded_rows_pull_but_are_not_chosen(product: str) -> None:
    e, losses = clustered(500)
    free, options = dict[str, Any](), {"product": product, "iterations": 20}
    first = select(e, 60, losses, record=free, **options)
    record: dict[str, Any] = {}
    second = select(e, 60, losses, excluded=torch.from_numpy(first), record=record, **options)
    np.testing.assert_array_equal(record["centroids"], free["centroids"])
    assert not set(first.tolist()) & set(second.tolist())
    rest = np.setdiff1d(np.arange(500), first)
    theta = torch.from_numpy(free["centroids"])
    np.testing.assert_array_equal(second, rest[nearest_unused(e[rest], theta)])
    with pytest.raises(BadInput, match=r"budget is 441; .* of the 440 rows that may be chosen"):
        select(e, 441, excluded=first)


def test_it_stops_when_the_objective_does() -> None:
    e, losses = clustered(500)
    record: dict[str, Any] = {}
    select(e, 10, losses, tolerance=0.05, record=record)
    assert len(record["curve"]) == record["iterations"] < 75
    select(e, 10, losses, tolerance=0.0, lambda_=1.0, iterations=200, record=record)
    assert record["iterations"] == 200  # not where the objective rises for a step either
    assert record["curve"][-1] < record["curve"][0]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"embeddings": torch.arange(50)}, "embeddings: must be a numpy or torch matrix"),
        ({"embeddings": torch.eye(50).index_fill(0, torch.tensor(7), torch.nan)}, "row 7 has NaN"),
        ({"budget": 51}, "budget is 51; need a whole number"),
        ({"losses": np.ones(49)}, "losses: .* each of 50 rows"),
        ({"losses": np.arange(50) - 1.0}, "losses: .* 0 or larger"),
        ({"ensemble": 0}, r"select.ensemble is 0"),
        ({"tau": 0.001}, r"select.tau is 0.001"),
        ({"device": "cuda"}, "device is 'cuda', but torch sees no GPU"),
        ({"labelled": [3, 50]}, "labelled: need numbers of rows, 0 to 49, each once"),
        ({"excluded": [-1]}, "excluded: need numbers of rows"),
        ({"product": "int4"}, "select.product is 'int4'"),
        ({"iteration": 3}, "did you mean 'iterations'"),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(value),
)
def test_bad_input_names_the_argument(
    change: dict[str, Any], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    arguments: dict[str, Any] = {"embeddings": clustered(50)[0], "budget": 5} | change
    with pytest.raises(BadInput, match=says):
        select(**arguments)
