"""Streams that belong to a purpose."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from vecaf_lib.seeding import generator


def draws(*key):
    return tuple(torch.randint(2**31, (4,), generator=generator(*key)).tolist())


def test_the_same_seed_and_purpose_give_the_same_stream_for_ever():
    """Numbers of this package's reports hang on it: the first draws are written down."""
    assert draws(0, "selection", 0) == (377565049, 643442730, 1146038415, 24906520)


def test_streams_differ_by_seed_by_purpose_and_by_loop():
    keys = [(s, p, n) for s in range(10) for p in ("selection", "order") for n in range(3)]
    assert len({draws(*key) for key in keys}) == len(keys)
    assert draws(1) != draws(0)
    assert draws(1, 1) != draws(11)


def test_using_one_stream_more_leaves_the_others_alone():
    before = draws(0, "order")
    torch.rand(1000, generator=generator(0, "selection"))
    assert draws(0, "order") == before


@given(st.integers(0, 2**70), st.text(max_size=10))
def test_any_seed_and_any_purpose(seed, purpose):
    assert 0 <= generator(seed, purpose).initial_seed() < 2**63


def test_two_streams_are_uncorrelated():
    a, b = (torch.randn(20000, generator=generator(0, purpose)) for purpose in ("a", "b"))
    assert abs((a * b).mean().item()) < 4 / 20000**0.5
