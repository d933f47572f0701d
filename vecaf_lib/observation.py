"""What the present model knows of the pool, and what a loop leaves on record."""

from dataclasses import dataclass
from typing import Any

from jaxtyping import Float, Int64
from torch import Tensor, nn, ones
from torch.nn.functional import cross_entropy

from vecaf_lib.datasets.images import ImageSet
from vecaf_lib.evaluation import classify, look
from vecaf_lib.probe import FirstLosses, linear_probe_losses


@dataclass(frozen=True)
class Observation:
    """Embeddings (N x d) and losses (N) under the present weights, as far as they were asked for.

    Attributes:
        losses_from: ``uniform``, ``linear_probe`` or ``classifier``; None without losses.
    """

    embeddings: Float[Tensor, "n d"] | None = None
    losses: Float[Tensor, " n"] | None = None
    losses_from: str | None = None


def observe(
    pvm: nn.Module,
    data: ImageSet,
    needs: frozenset[str],
    *,
    first: FirstLosses | None = None,
    known: Float[Tensor, "n d"] | None = None,
) -> Observation:
    """One pass over the pool in evaluation mode, without augmentation; none if nothing is needed.

    Args:
        pvm: f(.; w).
        data: the pool; its labels are read only if ``needs`` names the losses.
        needs: ``embeddings`` and/or ``losses``.
        first: in the first loop, what stands for the losses of a classifier that is still random:
            ``uniform`` (all equal), ``linear_probe`` (closed form, from the labels) or
            ``classifier`` (the random classifier's own). None in later loops.
        known: embeddings under the present weights, where they were computed before; then there
            is no pass.
    """
    if not needs:
        return Observation()
    if known is None:
        embeddings, scores = look(pvm, data.images)
    else:
        embeddings, scores = known, classify(pvm, known)
    if "losses" not in needs:
        return Observation(embeddings)
    if first == "uniform":
        return Observation(embeddings, ones(len(data)), "uniform")
    if first == "linear_probe":
        losses = linear_probe_losses(embeddings, data.labels, classes=len(data.class_names))
        return Observation(embeddings, losses, "linear_probe")
    losses = cross_entropy(scores, data.labels, reduction="none")
    return Observation(embeddings, losses, "classifier")


def describe(
    loop: int,
    seen: Observation,
    train: ImageSet,
    chosen: Int64[Tensor, " k"],
    record: dict[str, Any],
    cea: Any,
) -> dict[str, Any]:
    """The record of one loop for the run file; JSON-able."""
    losses = None if seen.losses_from == "uniform" else seen.losses
    return {
        "loop": loop + 1,
        "chosen": [train.ids[i] for i in chosen.tolist()],
        "labels_chosen": train.labels[chosen].tolist(),
        "losses_from": seen.losses_from,
        "mean_pool_loss": None if losses is None else float(losses.mean()),
        "mean_chosen_loss": None if losses is None else float(losses[chosen].mean()),
        "selection": record,
        "cea": None if cea is None else cea.told,
    }
