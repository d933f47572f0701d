"""Arithmetic of the models: float32, or bfloat16 where torch's autocast deems it safe."""

from typing import Literal

import torch

Precision = Literal["float32", "bfloat16"]


def autocast(device: str | torch.device, precision: Precision) -> torch.autocast:
    """The context in which a model computes in ``precision``; its weights stay float32."""
    return torch.autocast(torch.device(device).type, torch.bfloat16, precision == "bfloat16")
