"""The streamed choice has the answer of the full sort, whatever the lists and chunks."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import normalize

from vecaf_lib.large_pool.engine import choose
from vecaf_lib.large_pool.products import Rows, code, cosines, nearest, scores
from vecaf_lib.selection.descent import nearest_unused

PRODUCTS = ["float32", "bfloat16", "int8"]


def unit(n: int, d: int, seed: int) -> Tensor:
    return normalize(torch.randn(n, d, generator=torch.Generator().manual_seed(seed)), dim=1)


@pytest.mark.parametrize("head", [1, 4, 32])
def test_as_the_full_sort(head: int) -> None:
    e, theta = unit(400, 16, 0), unit(40, 16, 1)
    found = choose(Rows(e, 50, threads=2), theta, head)
    assert found.tolist() == nearest_unused(e, theta).tolist()


def test_centroids_that_want_the_same_samples() -> None:
    """All in one place, more of them than a list is long."""
    e = unit(300, 8, 0)
    theta = normalize(unit(1, 8, 1) + 1e-3 * unit(60, 8, 2), dim=1)
    assert choose(Rows(e, 50), theta, head=8).tolist() == nearest_unused(e, theta).tolist()


def test_samples_that_are_all_alike_are_taken_from_the_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """More equal ones than a list holds, in lists that are merged often and cut short."""
    monkeypatch.setattr("vecaf_lib.large_pool.engine.CROWD", 16)
    monkeypatch.setattr("vecaf_lib.large_pool.engine.PENDING", 100)
    monkeypatch.setattr("vecaf_lib.large_pool.engine.ENTRIES", 200)
    e = torch.cat([unit(20, 16, 1), unit(1, 16, 0).expand(500, -1), unit(20, 16, 2)])
    theta = normalize(unit(1, 16, 0) + 1e-2 * unit(90, 16, 3), dim=1)
    assert choose(Rows(e, 50), theta).tolist() == list(range(20, 110))


@given(
    n=st.integers(1, 60), share=st.floats(0.02, 1), chunk=st.integers(1, 70), seed=st.integers(0, 9)
)
@settings(deadline=None, max_examples=40)
def test_any_sizes(n: int, share: float, chunk: int, seed: int) -> None:
    k = max(1, int(share * n))
    e, theta = unit(n, 5, seed), unit(k, 5, seed + 10)
    found = choose(Rows(e, chunk), theta, head=3)
    assert found.tolist() == nearest_unused(e, theta).tolist()


@pytest.mark.parametrize("product", PRODUCTS)
@pytest.mark.parametrize("d", [3, 64, 768])
def test_cosines_are_nearly_those(product: Any, d: int) -> None:
    a, b = unit(200, d, 0), unit(100, d, 1)
    found = cosines(code(a, product), code(b, product, one_scale=True))[:, :100]
    off = float((found - a @ b.T).abs().max())
    assert off < {"float32": 1e-6, "bfloat16": 0.008, "int8": 0.01}[product]


@pytest.mark.parametrize(("m", "k", "d"), [(1, 1, 1), (17, 8, 33), (64, 96, 32)])
def test_int8_products_of_any_size_are_whole_numbers(m: int, k: int, d: int) -> None:
    a, b = (code(unit(rows, d, rows), "int8") for rows in (m, k))
    assert torch.equal(scores(a, b), a.values.int() @ b.values.int().T)


@pytest.mark.parametrize("product", PRODUCTS)
def test_nearest_in_blocks(product: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = unit(300, 64, 0), unit(90, 64, 1)
    coded = code(a, product), code(b, product, one_scale=True)
    whole, top = nearest(*coded), scores(*coded).max(1).values
    monkeypatch.setattr("vecaf_lib.large_pool.products.BLOCK", 32)
    for index in (whole, nearest(*coded)):  # of equal scores in bfloat16, either
        assert torch.equal(scores(*coded).gather(1, index.unsqueeze(1)).squeeze(1), top)
        assert int(index.max()) < 90
    best = (a @ b.T).max(1)
    lost = best.values - (a * b[whole]).sum(1)
    assert float(lost.max()) <= {"float32": 1e-6, "bfloat16": 0.02, "int8": 0.01}[product]
    assert np.mean((best.indices == whole).numpy()) > 0.9
