"""The engine at scale against the exact mode, on every side that could differ."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from vecaf_lib.errors import BadInput
from vecaf_lib.large_pool import select
from vecaf_lib.large_pool.descent import Crowding, Member, Plan, reassign
from vecaf_lib.large_pool.products import Rows
from vecaf_lib.objective import loss_distribution
from vecaf_lib.selection import Pool, activeft, ods
from vecaf_lib.selection.descent import nearest_unused, start


def clustered(n: int, d: int = 32, seed: int = 0) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    centres = normalize(torch.randn(20, d, generator=g), dim=1)
    own = torch.randint(20, (n,), generator=g)
    e = normalize(centres[own] + 0.8 / d**0.5 * torch.randn(n, d, generator=g), dim=1)
    return e, torch.rand(n, generator=g)


def reassigned(e: Tensor, p: Tensor, theta: Tensor, plan: Plan, g: torch.Generator) -> Member:
    member = Member(theta.clone(), plan)
    member.crowding = Crowding(member.theta, plan)
    reassign(Rows(e, 64), p, [member], 0, g)
    return member


def gradient(e: Tensor, losses: Tensor, theta: Tensor, plan: Plan) -> tuple[float, Tensor]:
    """Value and tangential gradient as the engine has them right after a reassignment."""
    p = loss_distribution(losses, plan.loss_power)
    member = reassigned(e, p, theta, plan, torch.Generator())
    return member.curve[0], (member.crowding.push(member.mass) - member.pull) / plan.tau


@pytest.mark.parametrize("objective", ["ods", "activeft"])
def test_value_and_gradient_are_those_of_the_exact_mode(objective: str) -> None:
    e, losses = clustered(300)
    theta = e[start(len(e), 20, generator=torch.Generator().manual_seed(1))]
    if objective == "ods":
        oracle = ods.ods_objective(e, loss_distribution(losses, 1.0), 0.07, 1.0)
    else:
        oracle, losses = activeft.contrast(e, 0.07), torch.ones(300)
    value, push = gradient(e, losses, theta, Plan(objective=objective, product="float32"))
    expected, there = oracle(theta)
    assert value == pytest.approx(expected, rel=1e-5)
    torch.testing.assert_close(push, there, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("objective", ["ods", "activeft"])
@pytest.mark.parametrize("product", ["float32", "bfloat16", "int8"])
@pytest.mark.parametrize("kept", [0, 1000])
def test_crowding_in_blocks_is_crowding_whole(
    objective: str, product: Any, kept: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    theta = clustered(150)[0]
    mass = torch.rand(150, generator=torch.Generator().manual_seed(2)) / 150
    whole = Crowding(theta, Plan(objective=objective, product="float32"))
    monkeypatch.setattr("vecaf_lib.large_pool.descent.DENSE", 64)
    monkeypatch.setattr("vecaf_lib.large_pool.descent.BLOCK", 40)
    monkeypatch.setattr("vecaf_lib.large_pool.descent.KEPT", kept)
    parts = Crowding(theta, Plan(objective=objective, product=product))
    assert not parts.dense
    assert bool(parts.kept) == bool(kept)
    near = {"float32": 1e-4, "bfloat16": 0.1, "int8": 0.1}[product]
    torch.testing.assert_close(parts.log_n, whole.log_n, rtol=0, atol=near)
    there, here = whole.push(mass), parts.push(mass)
    assert float((here - there).norm() / there.norm()) < 0.02


@pytest.mark.parametrize("product", ["bfloat16", "int8"])
@pytest.mark.parametrize("objective", ["ods", "activeft"])
def test_the_engine_reaches_the_objective_of_300_exact_steps(objective: Any, product: Any) -> None:
    e, losses = clustered(2000)
    pool = Pool(2000, embeddings=e, losses=losses)
    exact: dict[str, Any] = {}
    g = torch.Generator().manual_seed(3)
    method: Any = {"ods": ods, "activeft": activeft}[objective]
    alone = {"ensemble": 1} if objective == "ods" else {}
    method.select(pool, 40, generator=g, record=exact, iterations=300, tolerance=0.0, **alone)
    record: dict[str, Any] = {}
    g = torch.Generator().manual_seed(3)
    weights = losses if objective == "ods" else None
    options = {"objective": objective, "product": product, "device": "cpu"}
    select(e, 40, weights, generator=g, record=record, **options)
    assert record["objective"] < exact["objective"] + 0.005 * abs(exact["objective"])


def test_draws_estimate_the_pull_without_bias() -> None:
    e, losses = clustered(500)
    theta = e[start(len(e), 10, generator=torch.Generator().manual_seed(1))]
    p = loss_distribution(losses, 1.0)
    plan = Plan(draws=50, product="float32")
    everything = reassigned(e, p, theta, Plan(product="float32"), torch.Generator())
    g = torch.Generator().manual_seed(5)
    members = [reassigned(e, p, theta, plan, g) for _ in range(400)]
    mean = torch.stack([member.pull for member in members]).mean(0)
    spread = float((members[0].pull - everything.pull).norm())
    assert float((mean - everything.pull).norm()) < 4 * spread / 400**0.5
    assert spread > 0


@pytest.mark.parametrize(
    ("chunk", "threads"), [(1, 1), (64, 1), (1024, 4)], ids=["rows", "chunks", "threads"]
)
def test_any_chunk_and_number_of_threads_chooses_the_same(
    chunk: int, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    e, losses = clustered(1000, d=64)
    before = torch.get_num_threads()
    expected = select(e, 30, losses, ensemble=2, iterations=20)
    monkeypatch.setattr("vecaf_lib.large_pool.products.CHUNK", chunk)
    torch.set_num_threads(threads)
    try:
        found = select(e, 30, losses, ensemble=2, iterations=20)
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
    with pytest.raises(BadInput, match="use 1 to 440, the rows that may be chosen"):
        select(e, 441, excluded=first)


def test_it_stops_when_the_objective_does() -> None:
    e, losses = clustered(500)
    record: dict[str, Any] = {}
    select(e, 10, losses, iterations=400, tolerance=0.01, record=record)
    assert len(record["curve"]) < 40
    assert record["curve"][-1] < record["curve"][0]
    assert record["iterations"] == 10 * (len(record["curve"]) - 1)
    select(e, 10, losses, iterations=60, draws=100, tolerance=0.5, record=record)
    assert record["iterations"] == 60  # the noise of draws does not decide


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"embeddings": torch.arange(50)}, "embeddings: must be a numpy or torch matrix"),
        ({"embeddings": torch.eye(50).index_fill(0, torch.tensor(7), torch.nan)}, "row 7 has NaN"),
        ({"budget": 51}, "use 1 to 50"),
        ({"losses": np.ones(49)}, "losses: .* each of 50 rows"),
        ({"losses": np.arange(50) - 1.0}, "losses: .* 0 or larger"),
        ({"ensemble": 0}, "ensemble must be at least 1"),
        ({"tau": 0.001}, r"select.tau is 0.001"),
        ({"device": "cuda"}, "device is 'cuda', but torch sees no GPU"),
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
