"""Greedy matching of many centroids: a matching, near the best, and the best up to a size."""

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from vecaf_lib.centroids.ensemble import combine, order
from vecaf_lib.selection._ensemble import correct, match


def members(k: int, d: int, noise: float) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(0)
    first = normalize(torch.randn(k, d, generator=g), dim=1)
    moved = normalize(first + noise / d**0.5 * torch.randn(k, d, generator=g), dim=1)
    return first, moved[torch.randperm(k, generator=g)]


@pytest.mark.parametrize("noise", [0.3, 1.0, 10.0])
def test_greedy_loses_little(noise: float) -> None:
    """Summed cosine against the optimum: no loss while members resemble each other, else 3 %."""
    first, other = members(1000, 32, noise)
    best, greedy = order(other, first), order(other, first, optimal=50)
    assert sorted(greedy.tolist()) == list(range(1000))
    reached = {
        name: float((first * other[torch.from_numpy(found)]).sum())
        for name, found in (("best", best), ("greedy", greedy))
    }
    assert reached["greedy"] <= reached["best"] + 1e-3
    assert reached["greedy"] >= {0.3: 0.9999, 1.0: 0.99, 10.0: 0.97}[noise] * reached["best"]


def test_up_to_the_stated_size_it_is_the_best() -> None:
    first, other = members(60, 8, 1.0)
    torch.testing.assert_close(other[torch.from_numpy(order(other, first))], match(other, first))


def test_all_in_one_place_still_ends() -> None:
    same = torch.ones(200, 4) / 2
    assert sorted(order(same, same, optimal=10).tolist()) == list(range(200))


@pytest.mark.parametrize("rho", [1.0, 0.3])
def test_the_correction_is_the_papers(rho: float, monkeypatch: pytest.MonkeyPatch) -> None:
    first, other = members(50, 8, 0.5)
    third = members(50, 8, 0.8)[1]
    expected = correct(torch.stack([first, match(other, first), match(third, first)]), rho)
    monkeypatch.setattr("vecaf_lib.centroids.ensemble.BLOCK", 16)
    found = combine([first, other, third], rho)
    torch.testing.assert_close(found, normalize(expected, dim=1))
    assert combine([first], rho) is first
    assert not np.allclose(found.numpy(), first.numpy())
