"""Full batches from shuffled passes; images moved as drawn; lazy images decoded ahead."""

import math
from itertools import islice

import pytest
import torch

from vecaf_lib.batches import batches, draw_moves, jitter, show
from vecaf_lib.datasets.lazy import ResizedImages


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(("size", "batch_size"), [(10, 4), (7, 7), (3, 8), (1, 4), (50, 16)])
def test_every_sample_once_a_pass(size: int, batch_size: int) -> None:
    wanted = math.ceil(3 * size / batch_size)
    drawn = list(islice(batches(size, batch_size, seeded(0)), wanted))
    assert all(len(batch) == batch_size for batch in drawn)
    stream = torch.cat(drawn)
    passes = [stream[start : start + size].tolist() for start in range(0, 3 * size, size)]
    assert [sorted(one) for one in passes] == [list(range(size))] * 3
    if size > 6:
        assert passes[0] != passes[1]  # shuffled anew


def test_the_order_depends_on_the_seed() -> None:
    first, again, other = (next(batches(50, 16, seeded(s))).tolist() for s in (0, 0, 1))
    assert first == again != other


@pytest.mark.parametrize(("shift", "flip"), [(0, False), (2, False), (0, True), (3, True)])
def test_jitter_against_a_loop(shift: int, flip: bool) -> None:
    images = torch.randint(1, 256, (12, 3, 6, 5), generator=seeded(3)).to(torch.uint8)
    by, mirror = draw_moves(12, shift, generator=seeded(7))
    moved = jitter(images, by, mirror, shift=shift, flip=flip)

    offsets = by if shift else None
    mirrored = mirror if flip else torch.zeros(12, dtype=torch.bool)
    expected = torch.zeros_like(images)
    for i in range(12):
        dy, dx = (0, 0) if offsets is None else (int(offsets[i, 0]), int(offsets[i, 1]))
        for row in range(6):
            for column in range(5):
                y, x = row + dy - shift, column + dx - shift
                x_to = 4 - column if mirrored[i] else column
                if 0 <= y < 6 and 0 <= x < 5:
                    expected[i, :, row, x_to] = images[i, :, y, x]
    assert torch.equal(moved, expected)
    assert moved.dtype == torch.uint8
    if flip:
        assert 0 < mirrored.sum() < 12
    if shift:
        assert len({tuple(pair) for pair in offsets.tolist()}) > 5


def test_the_moves_differ_and_stay_in_range() -> None:
    by, mirror = draw_moves(400, 2, generator=seeded(0))
    assert sorted(set(by.flatten().tolist())) == [0, 1, 2, 3, 4]
    assert 150 < int(mirror.sum()) < 250


@pytest.mark.parametrize("lazy", [False, True])
def test_what_is_shown_is_the_batch_as_moved(lazy: bool) -> None:
    images = torch.randint(0, 256, (9, 3, 8, 8), generator=seeded(1)).to(torch.uint8)
    given = ResizedImages(images, 8) if lazy else images
    order = batches(9, 4, seeded(2))
    shown = show(given, order, shift=1, flip=True, generator=seeded(3))
    draw = seeded(3)
    for expected_at, (at, batch) in zip(islice(batches(9, 4, seeded(2)), 5), shown, strict=False):
        assert torch.equal(at, expected_at)
        by, mirror = draw_moves(4, 1, generator=draw)
        assert torch.equal(batch, jitter(images[at], by, mirror, shift=1, flip=True))
