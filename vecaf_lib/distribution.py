"""This process among those that `accelerate launch` or torchrun started, and its share of the work.

A pass over images is dealt out batch by batch: process r of w takes the batches r, r + w, ... The
batches are the same for any number of processes, and so, to the last bit, are their embeddings.
Started plainly, a process is the only one, and all of this costs nothing.
"""

import os
from collections.abc import Iterator
from typing import Literal

import torch
from accelerate import PartialState
from accelerate.utils import gather
from jaxtyping import Float, UInt8
from torch import Tensor

from vecaf_lib.datasets.lazy import LazyImages, ahead
from vecaf_lib.errors import BadInput

Device = Literal["auto", "cpu", "cuda"]
_ON_CPU = "ACCELERATE_USE_CPU"  # accelerate's own switch


def use_device(device: Device) -> torch.device:
    """Settle where this process computes; called once, before anything else of this module.

    Raises:
        BadInput: ``cuda`` is asked for and there is none.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise BadInput(
            "compute.device: 'cuda' is asked for, but torch sees no GPU here; use 'auto' or 'cpu', "
            "or install the CUDA build of torch."
        )
    on_cpu = device == "cpu" or not torch.cuda.is_available()
    os.environ[_ON_CPU] = "true" if on_cpu else "false"
    return state().device


def rank_and_size() -> tuple[int, int]:
    """Number of this process, and how many there are: (0, 1) outside a launch."""
    now = state()
    return now.process_index, now.num_processes


def state() -> PartialState:
    """accelerate's view of the processes; never ``PartialState()`` itself, which without a GPU
    takes each process of a launch for the only one."""
    return PartialState(cpu=os.environ.get(_ON_CPU) == "true" or not torch.cuda.is_available())


def own_batches(
    images: UInt8[Tensor, "n 3 h w"] | LazyImages, batch_size: int
) -> Iterator[UInt8[Tensor, "b 3 h w"]]:
    """The batches of this process, in order; lazy images are decoded ahead."""
    rank, size = rank_and_size()
    starts = range(rank * batch_size, len(images), size * batch_size)
    parts = (images[start : start + batch_size] for start in starts)
    return ahead(parts) if isinstance(images, LazyImages) else parts


def everyones(
    own: list[Float[Tensor, "_ w"]], total: int, batch_size: int, width: int
) -> Float[Tensor, "n w"]:
    """Put the results of all processes' batches in the order of the images, on the CPU.

    Args:
        own: one result for each batch of ``own_batches``.
        total: number of images, n.
        batch_size: of every batch but the last.
        width: w.

    Returns:
        The same in each process.
    """
    _, size = rank_and_size()
    if size == 1:
        return torch.cat([torch.empty(0, width), *(part.float().cpu() for part in own)])
    device, rounds = state().device, []
    for number in range(-(-total // (batch_size * size))):
        padded = torch.zeros(batch_size, width, device=device)
        if number < len(own):
            padded[: len(own[number])] = own[number]
        rounds.append(gather(padded).cpu())  # (size * b, w)
    return torch.cat([torch.empty(0, width), *rounds])[:total]


def share(batch: Tensor) -> Tensor:
    """This process's equal part of a global batch.

    Raises:
        BadInput: the batch cannot be shared equally.
    """
    rank, size = rank_and_size()
    if len(batch) % size:
        raise BadInput(
            f"training.batch_size: {len(batch)} images cannot be shared equally by {size} "
            f"processes; use a multiple of {size}."
        )
    return batch[rank * (len(batch) // size) : (rank + 1) * (len(batch) // size)]
