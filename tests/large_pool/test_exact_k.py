"""The streamed choice has the answer of the full sort, whatever the product and the lists."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import normalize

from vecaf_lib.large_pool.engine import choose
from vecaf_lib.large_pool.products import Rows, code, cosines, error, nearest, scores
from vecaf_lib.selection.descent import nearest_unused

PRODUCTS = ["float32", "bfloat16", "int8"]


def unit(n: int, d: int, seed: int) -> Tensor:
    return normalize(torch.randn(n, d, generator=torch.Generator().manual_seed(seed)), dim=1)


@pytest.mark.parametrize("product", PRODUCTS)
@pytest.mark.parametrize("head", [1, 4, 32])
def test_as_the_full_sort(product: Any, head: int) -> None:
    e, theta = unit(400, 16, 0), unit(40, 16, 1)
    found = choose(Rows(e, 50), theta, product, head)
    assert found.tolist() == nearest_unused(e, theta).tolist()


@pytest.mark.parametrize("product", PRODUCTS)
def test_centroids_that_want_the_same_samples(product: Any) -> None:
    """All in one place, more of them than a list is long."""
    e = unit(300, 8, 0)
    theta = normalize(unit(1, 8, 1) + 1e-3 * unit(60, 8, 2), dim=1)
    found = choose(Rows(e, 50), theta, product, head=8)
    assert found.tolist() == nearest_unused(e, theta).tolist()


def test_what_int8_cannot_tell_apart_is_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Samples nearer to each other than a step of int8: every list is looked up in float32."""
    monkeypatch.setattr("vecaf_lib.large_pool.engine.CROWD", 64)
    monkeypatch.setattr("vecaf_lib.large_pool.engine.PENDING", 100)
    e = normalize(unit(1, 16, 0) + 3e-3 * unit(500, 16, 1), dim=1)
    theta = normalize(unit(1, 16, 0) + 1e-2 * unit(5, 16, 2), dim=1)
    assert choose(Rows(e, 50), theta, "int8").tolist() == nearest_unused(e, theta).tolist()


@given(
    n=st.integers(1, 60), share=st.floats(0.02, 1), chunk=st.integers(1, 70), seed=st.integers(0, 9)
)
@settings(deadline=None, max_examples=40)
def test_any_sizes(n: int, share: float, chunk: int, seed: int) -> None:
    k = max(1, int(share * n))
    e, theta = unit(n, 5, seed), unit(k, 5, seed + 10)
    found = choose(Rows(e, chunk), theta, "int8", head=3)
    assert found.tolist() == nearest_unused(e, theta).tolist()


@pytest.mark.parametrize("product", PRODUCTS)
@pytest.mark.parametrize("d", [3, 64, 768])
def test_the_bound_holds(product: Any, d: int) -> None:
    a, b = unit(200, d, 0), unit(100, d, 1)
    coded = code(a, product, bounded=True), code(b, product, one_scale=True, bounded=True)
    off = float((cosines(*coded)[:, :100] - a @ b.T).abs().max())
    assert off <= error(*coded) + 1e-6
    assert error(*coded) < {"float32": 1e-9, "bfloat16": 0.02, "int8": 0.05}[product]


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
