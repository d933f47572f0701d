"""The batches that finetuning sees: which images, moved how, and this process's part of them."""

from collections.abc import Iterator

import torch
from jaxtyping import Bool, Int64, UInt8
from torch import Tensor, nn

from vecaf_lib.datasets.lazy import LazyImages, ahead
from vecaf_lib.distribution import share


def show(
    images: UInt8[Tensor, "n 3 h w"] | LazyImages,
    order: Iterator[Int64[Tensor, " b"]],
    *,
    shift: int,
    flip: bool,
    generator: torch.Generator,
) -> Iterator[tuple[Int64[Tensor, " b"], UInt8[Tensor, "b 3 h w"]]]:
    """This process's part of each batch: places in ``images``, and those images, moved.

    Every process draws the moves of the whole batch, so that an image is moved alike whichever
    process sees it. Lazy images are decoded ahead.

    Args:
        images: the selected ones.
        order: of the global batches.
        shift: see ``jitter``.
        flip: see ``jitter``.
        generator: draws the moves.
    """

    def shown() -> Iterator[tuple[Tensor, Tensor]]:
        for batch in order:
            by, mirror = draw_moves(len(batch), shift, generator=generator)
            at = share(batch)
            yield at, jitter(images[at], share(by), share(mirror), shift=shift, flip=flip)

    return ahead(shown()) if isinstance(images, LazyImages) else shown()


def batches(size: int, batch_size: int, draw: torch.Generator) -> Iterator[Int64[Tensor, " b"]]:
    """Endless batches from shuffled passes over ``size`` samples.

    A batch may cross from one pass into the next, so that every batch is full even where the
    selection is smaller than a batch (the paper's 1 % of Caltech-101 against a batch of 256).
    """
    waiting = torch.empty(0, dtype=torch.int64)
    while True:
        while len(waiting) < batch_size:
            waiting = torch.cat([waiting, torch.randperm(size, generator=draw)])
        yield waiting[:batch_size]
        waiting = waiting[batch_size:]


def draw_moves(
    count: int, shift: int, *, generator: torch.Generator
) -> tuple[Int64[Tensor, "b 2"], Bool[Tensor, " b"]]:
    """How far to move each of ``count`` images (0 to 2 shift), and whether to mirror it."""
    by = torch.randint(2 * shift + 1, (count, 2), generator=generator)
    return by, torch.rand(count, generator=generator) < 0.5


def jitter(
    images: UInt8[Tensor, "b 3 h w"],
    by: Int64[Tensor, "b 2"],
    mirror: Bool[Tensor, " b"],
    *,
    shift: int,
    flip: bool,
) -> UInt8[Tensor, "b 3 h w"]:
    """Move images by up to ``shift`` pixels each way (zeros enter) and mirror the marked ones.

    Args:
        images: a batch.
        by: rows and columns, from ``draw_moves``; ``shift`` leaves an image in its place.
        mirror: which to mirror, if ``flip``.
        shift: largest move in pixels; 0 moves nothing.
        flip: whether to mirror at all.
    """
    count, _, height, width = images.shape
    if shift:
        dy, dx = by.T[:, :, None]  # (b, 1) each
        padded = nn.functional.pad(images, [shift] * 4)  # (b, 3, h+2s, w+2s)
        rows = dy + torch.arange(height)  # (b, h)
        columns = dx + torch.arange(width)  # (b, w)
        each = torch.arange(count)[:, None, None]  # (b, 1, 1)
        moved = padded.permute(0, 2, 3, 1)[each, rows[:, :, None], columns[:, None, :]]
        images = moved.permute(0, 3, 1, 2)  # (b, 3, h, w)
    if flip:
        images = torch.where(mirror[:, None, None, None], images.flip(3), images)
    return images
