"""The engine at scale against the exact mode, on every side that could differ."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from vecaf_lib.centroids import CentroidSelector, select
from vecaf_lib.centroids import descent as descent_module
from vecaf_lib.centroids.crowding import Crowding
from vecaf_lib.centroids.descent import Member, descend, renew
from vecaf_lib.centroids.plan import Plan, draws_for
from vecaf_lib.centroids.processes import Alone
from vecaf_lib.centroids.rows import Rows
from vecaf_lib.centroids.target import loss_distribution
from vecaf_lib.errors import BadInput
from vecaf_lib.selection import Pool, activeft, ods
from vecaf_lib.selection._centroids import start

CPU = torch.device("cpu")


def clustered(n: int, d: int = 32, seed: int = 0) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    centres = normalize(torch.randn(20, d, generator=g), dim=1)
    own = torch.randint(20, (n,), generator=g)
    e = normalize(centres[own] + 0.8 / d**0.5 * torch.randn(n, d, generator=g), dim=1)
    return e, torch.rand(n, generator=g)


def rows_of(e: Any, chunk: int = 64) -> Rows:
    return Rows(e, chunk=chunk, device=CPU, processes=Alone())


def gradient(e: Tensor, losses: Tensor, theta: Tensor, plan: Plan) -> tuple[float, Tensor]:
    """Value and tangential gradient as the engine has them right after a renewal."""
    member = Member(theta.clone(), plan)
    p = loss_distribution(losses, plan.loss_power)
    crowding = member.crowding()
    (value,) = renew(rows_of(e), p, [member], [crowding], None, 0, torch.Generator())
    push = crowding.push(member.mass, both=plan.objective == "ods")
    return value, (push - member.pull) / plan.tau


@pytest.mark.parametrize("objective", ["ods", "activeft"])
def test_value_and_gradient_are_those_of_the_exact_mode(objective: str) -> None:
    e, losses = clustered(300)
    theta = start(e, 20, generator=torch.Generator().manual_seed(1))
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
    own, both = objective == "activeft", objective == "ods"
    whole = Crowding(theta, 0.07, own=own, product="float32")
    monkeypatch.setattr("vecaf_lib.centroids.crowding.DENSE", 64)
    monkeypatch.setattr("vecaf_lib.centroids.crowding.BLOCK", 40)
    monkeypatch.setattr("vecaf_lib.centroids.crowding.KEPT", kept)
    parts = Crowding(theta, 0.07, own=own, product=product)
    assert not parts.dense
    assert bool(parts.kept) == bool(kept)
    near = {"float32": 1e-4, "bfloat16": 0.1, "int8": 0.1}[product]
    torch.testing.assert_close(parts.log_n, whole.log_n, rtol=0, atol=near)
    there, here = whole.push(mass, both=both), parts.push(mass, both=both)
    assert float((here - there).norm() / there.norm()) < 0.02


@pytest.mark.parametrize("objective", ["ods", "activeft"])
def test_the_engine_reaches_the_objective_of_300_exact_steps(objective: Any) -> None:
    e, losses = clustered(2000)
    pool = Pool(2000, embeddings=e, losses=losses)
    told: dict[str, Any] = {}
    g = torch.Generator().manual_seed(3)
    method: Any = {"ods": ods, "activeft": activeft}[objective]
    alone = {"ensemble": 1} if objective == "ods" else {}
    method.select(pool, 40, generator=g, record=told, iterations=300, tolerance=0.0, **alone)
    record: dict[str, Any] = {}
    g = torch.Generator().manual_seed(3)
    weights = losses if objective == "ods" else None
    select(e, 40, weights, generator=g, record=record, objective=objective)
    assert record["objective"] < told["objective"] + 0.005 * abs(told["objective"])


def test_draws_estimate_the_pull_without_bias() -> None:
    e, losses = clustered(500)
    theta = start(e, 10, generator=torch.Generator().manual_seed(1))
    p = loss_distribution(losses, 1.0)
    plan = Plan(draws=50, product="float32")
    everything = Member(theta.clone(), plan.model_copy(update={"draws": 0}))
    crowding = everything.crowding()
    renew(rows_of(e), p, [everything], [crowding], None, 0, torch.Generator())
    g = torch.Generator().manual_seed(5)
    draws = descent_module.Draws(p, Alone())
    mean = torch.zeros_like(theta)
    for _ in range(400):
        member = Member(theta.clone(), plan)
        renew(rows_of(e), p, [member], [crowding], draws, 0, g)
        mean += member.pull / 400
    spread = float((member.pull - everything.pull).norm())
    assert float((mean - everything.pull).norm()) < 4 * spread / 400**0.5
    assert spread > 0


def test_few_draws_still_come_near() -> None:
    e, losses = clustered(4000)
    found = {}
    for draws in (0, 640):
        record: dict[str, Any] = {}
        select(e, 40, losses, draws=draws, record=record)
        theta = torch.from_numpy(record["centroids"])
        found[draws] = ods.ods_objective(e, loss_distribution(losses, 1.0), 0.07, 1.0)(theta)[0]
    assert found[640] < found[0] + 0.02 * abs(found[0])
    assert draws_for(50_000, 500) == 0
    assert draws_for(1_281_167, 12_811) == 16 * 12_811


@pytest.mark.parametrize("chunk", [1, 7, 64, 5000])
def test_any_chunk_chooses_the_same(chunk: int) -> None:
    e, losses = clustered(1000)
    expected = select(e, 30, losses, ensemble=2, steps=20)
    found = select(e, 30, losses, ensemble=2, steps=20, chunk=chunk)
    np.testing.assert_array_equal(found, expected)


def test_any_number_of_threads_chooses_the_same() -> None:
    e, losses = clustered(3000, d=64)
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 4):
            torch.set_num_threads(threads)
            found.append(select(e, 50, losses))
    finally:
        torch.set_num_threads(before)
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])


@pytest.mark.parametrize("kind", ["float16", "float64", "memmap", "columns first"])
def test_embeddings_may_lie_anywhere(kind: str, tmp_path: Path) -> None:
    e, losses = clustered(600)
    half = e.half()
    expected = select(half, 20, losses, steps=30)
    pool: Any = half.numpy()
    if kind == "float64":
        pool = half.double().numpy() * 3  # lengths do not matter
    elif kind == "memmap":
        np.save(tmp_path / "e.npy", half.numpy())
        pool = np.load(tmp_path / "e.npy", mmap_mode="r")
    elif kind == "columns first":
        pool = np.asfortranarray(half.numpy())
    found = select(pool, 20, losses.numpy(), steps=30)
    assert len(set(found.tolist()) & set(expected.tolist())) >= 19


def test_a_stopped_descent_goes_on_to_the_same_centroids(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    e, losses = clustered(800)
    whole: dict[str, Any] = {}
    stopped: dict[str, Any] = {}
    options: dict[str, Any] = {"ensemble": 2, "steps": 40, "draws": 200}
    expected = select(e, 20, losses, record=whole, **options)
    kept, calls = descent_module.renew, []

    def dies(*arguments: Any) -> list[float]:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return kept(*arguments)

    monkeypatch.setattr(descent_module, "renew", dies)
    place = tmp_path / "new" / "selection.pt"
    with pytest.raises(KeyboardInterrupt):
        select(e, 20, losses, checkpoint=place, **options)
    assert place.exists()
    with pytest.raises(BadInput, match="belongs to another selection"):
        select(e, 20, losses + 1, checkpoint=place, **options)
    found = select(e, 20, losses, checkpoint=place, record=stopped, **options)
    assert len(calls) == 3 + 2  # two renewals were not made again
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(stopped["centroids"], whole["centroids"])
    assert stopped["curve"] == whole["curve"]
    assert not place.exists()
    place.write_bytes(b"no checkpoint")
    with pytest.raises(BadInput, match="is no checkpoint"):
        select(e, 20, losses, checkpoint=place, **options)


def test_it_stops_when_the_objective_does() -> None:
    e, losses = clustered(500)
    record: dict[str, Any] = {}
    select(e, 10, losses, steps=400, tolerance=0.01, record=record)
    assert len(record["curve"]) < 40
    assert record["curve"][-1] < record["curve"][0]
    assert record["steps"] == 10 * (len(record["curve"]) - 1)
    select(e, 10, losses, steps=60, draws=100, tolerance=0.5, record=record)
    assert record["steps"] == 60  # the noise of draws does not decide


def test_the_estimator() -> None:
    e, losses = clustered(300)
    X = e.numpy()
    fitted = CentroidSelector(12, seed=4).fit(X, losses=losses)
    np.testing.assert_array_equal(fitted.selected_indices_, select(X, 12, losses, seed=4))
    assert fitted.transform(X).shape == (12, 32)
    assert fitted.centroids_.shape == (12, 32)
    assert fitted.set_params(budget=3).fit(X).selected_indices_.shape == (3,)
    assert len(fitted.objective_curve_) == 15


WRONG: list[tuple[Callable[[np.ndarray], dict[str, Any]], str]] = [
    (lambda e: {"embeddings": e[0]}, "embeddings: must be a matrix"),
    (lambda e: {"embeddings": e.astype(int)}, "embeddings: must be a matrix"),
    (lambda e: {"embeddings": None}, "embeddings: must be a matrix"),
    (lambda e: {"embeddings": np.where(np.arange(50) == 7, np.nan, e.T).T}, "row 7 has NaN"),
    (lambda e: {"embeddings": np.where(np.arange(50) == 9, 0, e.T).T}, "row 9 .*all zeros"),
    (lambda e: {"budget": 0}, "budget: 0 samples of a pool of 50"),
    (lambda e: {"budget": 51}, "use 1 to 50"),
    (lambda e: {"losses": np.ones(49)}, "losses: must be one number for each of the 50"),
    (lambda e: {"losses": np.arange(50) - 1.0}, "losses: the loss of row 0 is -1"),
    (lambda e: {"losses": np.where(np.arange(50) == 3, np.inf, 1.0)}, "the loss of row 3"),
    (lambda e: {"ensemble": 0}, "ensemble must be at least 1"),
    (lambda e: {"shrinkage": 0.0}, "shrinkage in"),
    (lambda e: {"tau": 0.001}, r"select.tau: 0.001 is wrong: .* greater than or equal to 0.02"),
    (lambda e: {"stepz": 3}, "select.stepz is no option; known are: .*steps"),
    (lambda e: {"product": "int4"}, "product"),
    (lambda e: {"sharded": True}, "torch.distributed is not initialised"),
    (lambda e: {"device": "cuda"}, "torch sees no GPU"),
]


@pytest.mark.parametrize(("change", "says"), WRONG)
def test_bad_input_is_one_sentence(
    change: Callable[[np.ndarray], dict[str, Any]], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    good = clustered(50)[0].numpy()
    arguments: dict[str, Any] = {"embeddings": good, "budget": 5} | change(good)
    with pytest.raises(BadInput, match=says):
        select(arguments.pop("embeddings"), arguments.pop("budget"), **arguments)


@pytest.mark.parametrize("budget", [1, 2, 50])
def test_smallest_and_largest_budgets(budget: int) -> None:
    e, losses = clustered(50)
    for objective in ("ods", "activeft"):
        chosen = select(e, budget, losses, objective=objective, steps=12)
        assert len(set(chosen.tolist())) == budget


def test_descend_leaves_the_global_random_state_alone() -> None:
    e, losses = clustered(100)
    state = torch.random.get_rng_state()
    theta = rows_of(e).start(5, torch.Generator().manual_seed(0))
    p = loss_distribution(losses, 1.0)
    descend(rows_of(e), p, [theta], Plan(steps=3, draws=20), generator=torch.Generator())
    assert torch.equal(torch.random.get_rng_state(), state)
