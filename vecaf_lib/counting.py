"""Floating-point operations and seconds of a piece of work.

Operations are those that ``torch.utils.flop_counter.FlopCounterMode`` counts: matrix products,
convolutions and attention, a multiplication with its addition as 2. Element-wise work, sorting,
linear solvers and whatever is not torch are not counted, but they take their part of the seconds.
"""

import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

REPEATS, ENOUGH = 3, 5.0  # timed calls; seconds after which there is no further one


@dataclass(frozen=True)
class Measured:
    """Cost of one call: 10^9 counted operations, and seconds; None where there is none."""

    gflops: float | None
    seconds: float | None

    def each(self, pieces: int) -> "Measured":
        """Cost of one of ``pieces`` equal pieces."""
        return Measured(*(None if x is None else x / pieces for x in (self.gflops, self.seconds)))


def count(part: Callable[[], Any]) -> Measured:
    """Call once with the operations counted, then up to three times with the clock on.

    Attention is counted in its plain form and without the fused layers of inference, whose
    operations the counter does not see; the clock runs on the code as it is. The time is the
    median; after five seconds of timed calls there is no further one.

    Args:
        part: the work; each call must do the same.
    """
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with _counter() as counter, sdpa_kernel(SDPBackend.MATH):
            part()
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
    took: list[float] = []
    while len(took) < REPEATS and sum(took) < ENOUGH:
        _wait()
        began = time.perf_counter()
        part()
        _wait()
        took.append(time.perf_counter() - began)
    return Measured(counter.get_total_flops() / 1e9, statistics.median(took))


def _counter() -> FlopCounterMode:
    """torch's counter, with a formula for the backward pass of convolutions that knows groups.

    torch's own counts the gradient of the weights as if each group saw all channels: for the
    depthwise convolutions of an EfficientNet some hundred times too many.
    """

    def backward(
        gradient: Any, x: Any, weight: Any, *others: Any, out_shape: Any = None, **_: Any
    ) -> int:
        transposed, wanted = others[4], others[-1]
        places = (x if transposed else gradient)[2:]
        forward = 2 * gradient[0] * math.prod(places) * math.prod(weight)
        return forward * sum(wanted[:2])  # for the input and for the weights, as many each

    own = {torch.ops.aten.convolution_backward: backward}
    return FlopCounterMode(display=False, custom_mapping=own)


def _wait() -> None:
    """Until the device has done what it was given."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
