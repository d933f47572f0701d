"""ODS and ActiveFT by the engine for large pools: the same objective, the same manners."""

from typing import Any

import pytest
import torch
from torch.nn.functional import normalize

from vecaf_lib.errors import BadInput
from vecaf_lib.selection import Pool, activeft, ods, option_schema

FAST: dict[str, Any] = {
    "engine": "fast",
    "iterations": 150,
    "learning_rate": 3e-3,
    "reassign_every": 10,
}


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def clustered(n: int) -> Pool:
    g = seeded(0)
    centres = torch.randn(15, 24, generator=g)
    noise = 0.5 * torch.randn(n, 24, generator=g)
    e = normalize(centres[torch.randint(15, (n,), generator=g)] + noise, dim=1)
    return Pool(n, embeddings=3 * e, losses=torch.rand(n, generator=g))


@pytest.mark.parametrize("method", [ods, activeft])
def test_fast_reaches_the_objective_of_exact(method: Any) -> None:
    pool, told = clustered(1500), []
    alone = {"ensemble": 1} if method is ods else {}
    for options in ({"tolerance": 0.0}, FAST | {"tolerance": 0.0}):
        record: dict[str, Any] = {}
        chosen = method.select(pool, 30, generator=seeded(1), record=record, **alone, **options)
        assert len(set(chosen.tolist())) == 30
        told.append(record)
    exact, fast = told
    assert fast["objective"] < exact["objective"] + 0.005 * abs(exact["objective"])
    assert (exact["iterations"], fast["iterations"]) == (300, 150)


@pytest.mark.parametrize("method", [ods, activeft])
def test_fast_depends_on_its_generator_alone(method: Any) -> None:
    pool = clustered(200)
    one, same, other = (
        method.select(pool, 10, generator=seeded(seed), **FAST).tolist() for seed in (1, 1, 2)
    )
    assert one == same
    assert one != other


def test_fast_follows_the_losses_and_the_options() -> None:
    pool = clustered(300)
    plain = ods.select(pool, 10, generator=seeded(0), **FAST).tolist()
    for option in ({"loss_power": 0.0}, {"tau": 0.3}, {"lambda_": 0.0}, {"ensemble": 1}):
        assert ods.select(pool, 10, generator=seeded(0), **FAST, **option).tolist() != plain


def test_bad_input_is_a_sentence() -> None:
    with pytest.raises(BadInput, match=r"select.tau: 0.01 is wrong: .* 0.02"):
        activeft.select(clustered(50), 5, generator=seeded(0), tau=0.01, **FAST)
    assert option_schema("ods").model_fields["engine"].default == "exact"
