"""One set of centroids on its way down, and its step of Adam."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from vecaf_lib.centroids.crowding import Crowding
from vecaf_lib.centroids.plan import Plan

BETAS = (0.9, 0.99)  # second moments forget in 100 steps, for there are few


class Member:
    """One set of centroids on its way down."""

    def __init__(self, theta: Float[Tensor, "k d"], plan: Plan) -> None:
        """Begin at ``theta``, unit rows, which are changed."""
        self.theta, self.plan = theta, plan
        self.adam = torch.optim.Adam([theta], lr=plan.learning_rate, betas=BETAS)
        self.pull = torch.zeros_like(theta)
        self.mass = theta.new_full((len(theta),), plan.lambda_ / len(theta))

    def crowding(self) -> Crowding:
        """The push's value at the present centroids."""
        contrast = self.plan.objective == "activeft"
        return Crowding(self.theta, self.plan.tau, own=contrast, product=self.plan.product)

    def step(self, crowding: Crowding, rate: float) -> None:
        """One step of Adam along the sphere."""
        push = crowding.push(self.mass, both=self.plan.objective == "ods")
        gradient = (push - self.pull) / self.plan.tau
        radial = (gradient * self.theta).sum(1, keepdim=True)
        self.theta.grad = gradient - radial * self.theta  # what a unit vector can follow
        self.adam.param_groups[0]["lr"] = rate
        self.adam.step()
        self.theta.copy_(normalize(self.theta, dim=1))
