"""Arithmetic of the models: float32, or bfloat16 where torch's autocast deems it safe."""

from typing import Literal

import torch

Precision = Literal["float32", "bfloat16"]
AnyPrecision = Literal["float32", "bfloat16", "auto"]


def autocast(device: str | torch.device, precision: Precision) -> torch.autocast:
    """The context in which a model computes in ``precision``; its weights stay float32."""
    return torch.autocast(torch.device(device).type, torch.bfloat16, precision == "bfloat16")


def resolve(device: str | torch.device, precision: AnyPrecision) -> Precision:
    """What ``auto`` means on this machine: bfloat16 on a GPU, or on a CPU that computes in it.

    A CPU without such instructions emulates bfloat16, several times slower than float32.
    """
    if precision != "auto":
        return precision
    native = torch.device(device).type == "cuda" or torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return "bfloat16" if native else "float32"
