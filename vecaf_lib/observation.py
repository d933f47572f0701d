"""What the present model knows of the pool, and what a loop leaves on record."""

import math
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

from jaxtyping import Float, Int64
from torch import Tensor, nn, ones

from vecaf_lib.datasets.images import ImageSet
from vecaf_lib.evaluation import classify, look, predicted_losses
from vecaf_lib.probe import FirstLosses, linear_probe_losses
from vecaf_lib.selection._pool import Pool
from vecaf_lib.training import Finetuner


@dataclass(frozen=True)
class Observation:
    """Embeddings (N x d) and losses (N) under the present weights, as far as they were asked for.

    Attributes:
        predicted_losses: a loss predictor's word (N); None while it is untrained.
        losses_from: ``uniform``, ``linear_probe`` or ``classifier``; None without losses.
    """

    embeddings: Float[Tensor, "n d"] | None = None
    losses: Float[Tensor, " n"] | None = None
    losses_from: str | None = None
    predicted_losses: Float[Tensor, " n"] | None = None


def observe(
    model: Finetuner,
    data: ImageSet,
    needs: frozenset[str],
    *,
    first: FirstLosses | None = None,
    known: Float[Tensor, "n d"] | None = None,
) -> Observation:
    """A pass over the pool in evaluation mode, without augmentation; none if nothing is needed.

    Args:
        model: f(.; w) with its objective and, for ``predicted_losses``, its loss predictor.
        data: the pool; its labels are read only if ``needs`` names the losses.
        needs: of ``embeddings``, ``losses`` and ``predicted_losses``; other names need no pass.
        first: in the first loop, what stands for the losses of a classifier that is still random:
            ``uniform`` (all equal), ``linear_probe`` (closed form, from the labels) or
            ``classifier`` (the random classifier's own). None in later loops.
        known: embeddings under the present weights, where they were computed before; then there
            is no pass.
    """
    if "predicted_losses" in needs and model.predictor is not None and first is None:
        told = predicted_losses(model.pvm, model.predictor, data.images)
        seen = observe(model, data, needs - {"predicted_losses"}, known=known)
        return replace(seen, predicted_losses=told)
    if not needs & {"embeddings", "losses"}:
        return Observation()
    if known is None:
        embeddings, scores = look(model.pvm, data.images)
    else:
        embeddings, scores = known, classify(model.pvm, known)
    if "losses" not in needs:
        return Observation(embeddings)
    if first == "uniform":
        return Observation(embeddings, ones(len(data)), "uniform")
    if first == "linear_probe":
        labels, classes = model.objective.classes(data.labels, len(data.class_names))
        losses = linear_probe_losses(embeddings, labels, classes=classes)
        return Observation(embeddings, losses, "linear_probe")
    losses = model.objective.losses(scores, data.labels)
    return Observation(embeddings, losses, "classifier")


def show_pool(
    pvm: nn.Module,
    train: ImageSet,
    needs: frozenset[str],
    seen: Observation,
    visible: Float[Tensor, "n d"] | None,
    labelled: Int64[Tensor, " k"],
) -> Pool:
    """What a method is told of the pool: only what it names in ``needs``.

    Args:
        pvm: f(.; w), whose classifier may be asked for.
        train: the pool.
        needs: the method's ``NEEDS``.
        seen: from ``observe``.
        visible: the embeddings as selection sees them, augmented or not.
        labelled: all samples chosen in earlier loops; of no others are labels told.
    """
    classifier: Any = getattr(pvm, "module", pvm).classifier
    known = {
        "embeddings": visible,
        "losses": seen.losses,
        "predicted_losses": seen.predicted_losses,
        "images": train.images,
        "labelled": labelled,
        "labels": train.labels[labelled],
        "all_labels": train.labels,
        "classifier": deepcopy(classifier).cpu().requires_grad_(False),
    }
    return Pool(len(train), **{name: value for name, value in known.items() if name in needs})


def describe(
    loop: int,
    seen: Observation,
    train: ImageSet,
    chosen: Int64[Tensor, " k"],
    record: dict[str, Any],
    cea: Any,
) -> dict[str, Any]:
    """The record of one loop for the run file; JSON-able.

    None for what is no number, since a network that training has killed, whose embeddings are all
    zero, is a result too; and for the names of all images of the pool.
    """
    whole = len(chosen) == len(train)
    losses = None if seen.losses_from == "uniform" else seen.losses
    told = {
        "loop": loop + 1,
        "chosen": None if whole else [train.ids[i] for i in chosen.tolist()],
        "labels_chosen": None if whole else train.labels[chosen].tolist(),
        "losses_from": seen.losses_from,
        "mean_pool_loss": None if losses is None else float(losses.mean()),
        "mean_chosen_loss": None if losses is None else float(losses[chosen].mean()),
        "selection": record,
        "cea": None if cea is None else cea.told,
    }
    return {name: _finite(value) for name, value in told.items()}


def _finite(value: Any) -> Any:
    """The value, with None for NaN and infinity, in dictionaries too."""
    if isinstance(value, dict):
        return {name: _finite(inner) for name, inner in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
