"""Where and in what arithmetic this process computes, and its share of the work.

Of several processes (`accelerate launch`, torchrun) process r of w takes the batches r, r + w, ...
of a pass; these are the same for any number of processes, and their embeddings to the last bit.
"""

import os
from collections.abc import Iterator
from typing import Literal

import torch
from accelerate import PartialState
from accelerate.utils import gather
from jaxtyping import Float, UInt8
from torch import Tensor

from vecaf_lib.data.images import Images, LazyImages, ahead
from vecaf_lib.errors import BadInput

Device = Literal["auto", "cpu", "cuda"]
Precision = Literal["float32", "bfloat16"]
AnyPrecision = Literal["float32", "bfloat16", "auto"]
_ON_CPU = "ACCELERATE_USE_CPU"  # accelerate's own switch


def use_device(device: Device) -> torch.device:
    """Settle where this process computes, before anything else; BadInput for an absent GPU."""
    on_cpu = device == "cpu" or not torch.cuda.is_available()
    if device == "cuda" and on_cpu:
        raise BadInput("compute.device: 'cuda', but torch sees no GPU; use 'auto' or 'cpu'.")
    os.environ[_ON_CPU] = "true" if on_cpu else "false"
    return state().device


def rank_and_size() -> tuple[int, int]:
    """Number of this process, and how many there are: (0, 1) outside a launch."""
    return state().process_index, state().num_processes


def state() -> PartialState:
    """accelerate's view of the processes; never ``PartialState()`` itself, which without a GPU
    takes each process of a launch for the only one."""
    return PartialState(cpu=os.environ.get(_ON_CPU) == "true" or not torch.cuda.is_available())


def own_batches(images: Images, batch_size: int) -> Iterator[UInt8[Tensor, "b 3 h w"]]:
    """The batches of this process, in order; lazy images are decoded ahead."""
    rank, size = rank_and_size()
    starts = range(rank * batch_size, len(images), size * batch_size)
    parts = (images[start : start + batch_size] for start in starts)
    return ahead(parts) if isinstance(images, LazyImages) else parts


def everyones(
    own: list[Float[Tensor, "_ w"]], total: int, batch_size: int, width: int
) -> Float[Tensor, "n w"]:
    """All processes' results of their ``own_batches``, in the order of the ``total`` n images."""
    rounds = [torch.empty(0, width)]
    for number in range(-(-total // (batch_size * rank_and_size()[1]))):
        padded = torch.zeros(batch_size, width, device=state().device)
        if number < len(own):
            padded[: len(own[number])] = own[number]
        rounds.append(gather(padded).cpu())  # (size * b, w)
    return torch.cat(rounds)[:total]


def share(batch: Tensor) -> Tensor:
    """This process's equal part of a global batch; BadInput if there is none."""
    rank, size = rank_and_size()
    if len(batch) % size:
        raise BadInput(
            f"training.batch_size: {len(batch)} images cannot be shared equally by {size} "
            f"processes; use a multiple of {size}."
        )
    return batch.chunk(size)[rank]


def autocast(device: str | torch.device, precision: Precision) -> torch.autocast:
    """The context in which a model computes in ``precision``; its weights stay float32."""
    return torch.autocast(torch.device(device).type, torch.bfloat16, precision == "bfloat16")


def resolve(device: str | torch.device, precision: AnyPrecision) -> Precision:
    """What ``auto`` means here: bfloat16 but on a CPU that only emulates it, which is slow."""
    if precision != "auto":
        return precision
    native = torch.device(device).type == "cuda" or torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return "bfloat16" if native else "float32"
