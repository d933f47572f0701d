"""What a selector may know of the pool at the moment it is asked."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from vecaf_lib.errors import BadInput


@dataclass(frozen=True)
class Pool:
    """The labelled pool D as the present model sees it; what a method does not need is absent.

    A method names in ``NEEDS`` what it is to be given.

    Attributes:
        size: N, the number of samples.
        embeddings: image embeddings e, N x d.
        losses: finetuning losses L(f(x_i; w), y_i) >= 0. Knowing them is knowing the labels, so
            only methods whose ``NEEDS`` names them are given them.
        predicted_losses: what the method's loss predictor, trained beside f on the chosen samples,
            says of all; None before the first loop.
        images: the images themselves, N of them.
        labelled: indices of all samples chosen in earlier loops, sorted; empty before the first.
        labels: class indices of ``labelled``, in that order.
        all_labels: class indices of the whole pool; as with the losses, only for methods whose
            ``NEEDS`` names them.
        classifier: copy of the last layer of f(.; w), on the CPU: scores (b x c) of embeddings.
    """

    size: int
    embeddings: Float[Tensor, "n d"] | None = None
    losses: Float[Tensor, " n"] | None = None
    predicted_losses: Float[Tensor, " n"] | None = None
    images: Any = None
    labelled: Int64[Tensor, " k"] | None = None
    labels: Int64[Tensor, " k"] | None = None
    all_labels: Int64[Tensor, " n"] | None = None
    classifier: nn.Linear | None = None

    def __post_init__(self) -> None:
        for name in ("embeddings", "losses", "predicted_losses"):
            values: Tensor | None = getattr(self, name)
            if values is None:
                continue
            if len(values) != self.size:
                raise BadInput(f"{name}: {len(values)} rows for a pool of {self.size} samples.")
            bad = int((~torch.isfinite(values.reshape(self.size, -1)).all(1)).sum())
            if bad:
                raise BadInput(
                    f"{name}: {bad} of {self.size} samples have NaN or infinite values; "
                    "lower training.learning_rate or look at the images."
                )
        if self.losses is not None and bool((self.losses < 0).any()):
            raise BadInput("losses: some are negative; a finetuning loss is 0 or larger.")

    def need(self, name: str) -> Any:
        """Return what ``name`` holds, or say in one sentence that it is missing."""
        values: Any = getattr(self, name)
        if values is None:
            raise BadInput(f"pool.{name} is absent, and this method of selection needs it.")
        return values


def check_budget(pool: Pool, budget: int) -> None:
    """Refuse a budget K outside 1..N."""
    if not 1 <= budget <= pool.size:
        raise BadInput(f"budget: {budget} samples of a pool of {pool.size}; use 1 to {pool.size}.")


def among_unlabelled(pool: Pool, budget: int, *, generator: torch.Generator) -> Int64[Tensor, " m"]:
    """Samples whose labels are unknown, sorted; filled with known ones at random up to K.

    Args:
        pool: with ``labelled``.
        budget: K.
        generator: draws the known ones, if fewer than K are unknown.
    """
    labelled = pool.need("labelled")
    unknown = torch.ones(pool.size, dtype=torch.bool)
    unknown[labelled] = False
    candidates = unknown.nonzero().squeeze(1)
    short = max(0, budget - len(candidates))
    again = labelled[torch.randperm(len(labelled), generator=generator)[:short]]
    return torch.cat([candidates, again]).sort().values


def budget_of(ratio: float, size: int) -> int:
    """K for a selection ratio in percent of a pool of ``size`` samples, rounded to nearest.

    Raises:
        BadInput: the ratio is not in (0, 100] or K would be 0.
    """
    if not 0 < ratio <= 100:
        raise BadInput(
            f"ratio: {ratio:g} % is not a share of the pool; use more than 0, up to 100."
        )
    budget = round(ratio / 100 * size)
    if budget < 1:
        raise BadInput(
            f"ratio: {ratio:g} % of {size} samples is less than one; use at least {100 / size:.3g}."
        )
    return budget
