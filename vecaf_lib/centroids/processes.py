"""Several processes, each with its own rows of the pool: sums and lists over all of them.

A plain process, or one whose torch.distributed is not initialised, is alone, and all of this costs
nothing. Every process must make the same calls in the same order.
"""

import torch
import torch.distributed as dist
from torch import Tensor


class Alone:
    """One process that has the whole pool."""

    rank, size = 0, 1

    def sum(self, values: Tensor) -> Tensor:
        """Sum over the processes, element by element; the same in each of them."""
        return values

    def largest(self, values: Tensor) -> Tensor:
        """Maximum over the processes, element by element."""
        return values

    def lists(self, values: Tensor) -> list[Tensor]:
        """The tensors of all processes, of one shape, by rank."""
        return [values]


class Together(Alone):
    """The processes of the initialised torch.distributed group."""

    def __init__(self) -> None:
        self.rank, self.size = dist.get_rank(), dist.get_world_size()

    def sum(self, values: Tensor) -> Tensor:
        """See ``Alone``."""
        dist.all_reduce(values)
        return values

    def largest(self, values: Tensor) -> Tensor:
        """See ``Alone``."""
        dist.all_reduce(values, op=dist.ReduceOp.MAX)
        return values

    def lists(self, values: Tensor) -> list[Tensor]:
        """See ``Alone``."""
        found = [torch.empty_like(values) for _ in range(self.size)]
        dist.all_gather(found, values.contiguous())
        return found
