"""Splits for sources that have none: the same images on every machine, for ever."""

import hashlib
from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from vecaf_lib.errors import BadInput


def held_out(
    ids: Sequence[str], labels: Int64[Tensor, " n"], per_class: int, seed: int
) -> Bool[Tensor, " n"]:
    """Hold out ``per_class`` images of each class: those of smallest SHA-256 of "seed/id".

    The choice depends on nothing but names: not on the order of the files, nor on other classes;
    and an image added to a class puts at most one other back.

    Raises:
        BadInput: ``per_class`` is below 1, or would leave a class without a training image.
    """
    if per_class < 1:
        raise BadInput(
            f"validation_per_class: {per_class} holds out no image, but a validation split needs "
            "at least one of each class."
        )
    sizes = labels.bincount()
    if (small := (sizes > 0) & (sizes <= per_class)).any():
        first = int(small.nonzero()[0])
        raise BadInput(
            f"validation_per_class: {per_class} leaves nothing to train on of the class of "
            f"{ids[int((labels == first).nonzero()[0])]!r}, which has {sizes[first]} images; "
            "choose a smaller number."
        )
    return hash_ranks(ids, labels, seed) < per_class


def deal(
    ids: Sequence[str], labels: Int64[Tensor, " n"], percent: Mapping[str, float], seed: int
) -> dict[str, list[int]]:
    """Deal the images of each class to splits, in the order of SHA-256 of "seed/id".

    Args:
        ids: names of the images.
        labels: their class numbers.
        percent: share of each class by the split's name, rounded, at least one image; the rest is
            ``train``.
        seed: another number deals otherwise.

    Returns:
        Positions of the images of each split, in their order.

    Raises:
        BadInput: a class has nothing left for ``train``.
    """
    sizes = labels.bincount()  # (classes,)
    counts = [(sizes * share / 100).round().long().clamp(min=1) for share in percent.values()]
    limits = torch.stack(counts).cumsum(0)  # (splits, classes)
    if (small := (sizes > 0) & (sizes <= limits[-1])).any():
        first = int(small.nonzero()[0])
        raise BadInput(
            f"The class of {ids[int((labels == first).nonzero()[0])]!r} has {sizes[first]} images, "
            f"too few to hold out {limits[-1][first]} for {' and '.join(percent)}; add images or "
            f"lower {' or '.join(f'{name}_percent' for name in percent)}."
        )
    place = (hash_ranks(ids, labels, seed) >= limits[:, labels]).sum(0)  # (splits, n) to (n,)
    names = (*percent, "train")
    return {name: (place == number).nonzero()[:, 0].tolist() for number, name in enumerate(names)}


def hash_ranks(ids: Sequence[str], labels: Int64[Tensor, " n"], seed: int) -> Int64[Tensor, " n"]:
    """Rank of each image within its class, from 0, in the order of SHA-256 of "seed/id"."""
    digests = [hashlib.sha256(f"{seed}/{name}".encode()).digest() for name in ids]
    numbers = labels.tolist()
    ranks = torch.empty_like(labels)
    seen: dict[int, int] = {}
    for position in sorted(range(len(ids)), key=digests.__getitem__):
        number = numbers[position]
        ranks[position] = seen[number] = seen.get(number, -1) + 1
    return ranks
