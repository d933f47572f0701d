r"""What the centroids are drawn to: the pool under the objective-aware distribution p_L."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from vecaf_lib.centroids.processes import Alone


def loss_distribution(
    losses: Float[Tensor, " n"], gamma: float, processes: Alone | None = None
) -> Float[Tensor, " n"]:
    r"""Equation 3: p_L over the pool, of which the processes hold a part each.

    $p_i = L_i^\gamma / \sum_j L_j^\gamma$; uniform when gamma is 0 or when all losses are 0.
    """
    everyone = processes or Alone()
    highest = everyone.largest(losses.max())
    if gamma == 0 or not bool(highest > 0):
        return torch.full_like(losses, 1 / int(everyone.sum(torch.tensor(len(losses)))))
    p = torch.where(losses > 0, losses / highest, 0.0)
    # 0 ** gamma for a tiny gamma is 0 or 1, as the processor has it
    p = torch.where(p > 0, p**gamma, 0.0)
    return p / everyone.sum(p.sum())


class Draws:
    """Samples of p by systematic resampling: S equally spaced points of its distribution function.

    The mean over the draws estimates the expectation under p without bias, with less variance than
    independent draws, in the order of the pool, and the same for any number of processes.
    """

    def __init__(self, p: Float[Tensor, " n"], processes: Alone) -> None:
        """Add up p.

        Args:
            p: of the own rows; over all processes it sums to one.
            processes: who has the others.
        """
        running = p.double().cumsum(0)
        ends = torch.stack(processes.lists(running[-1])).cumsum(0)
        before = ends[processes.rank - 1] if processes.rank else torch.zeros(()).double()
        self.low, self.high, self.all = before, ends[processes.rank], ends[-1]
        self.running = running + before

    def draw(self, count: int, generator: torch.Generator) -> Int64[Tensor, " m"]:
        """Own rows among ``count`` draws from the whole pool, sorted, repeats included."""
        shift = torch.rand((), generator=generator, dtype=torch.float64)
        points = (torch.arange(count, dtype=torch.float64) + shift) / count * self.all
        own = points[(points >= self.low) & (points < self.high)]
        found = torch.searchsorted(self.running, own, right=True)
        return found.clamp_max(len(self.running) - 1)
