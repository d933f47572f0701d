"""What the present model says of the pool, what a method is given of it, what a loop records."""

import math
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float, Int64
from torch import Tensor, nn, ones

from vecaf_lib import evaluation
from vecaf_lib.cea import Augmentation
from vecaf_lib.data.images import ImageSet
from vecaf_lib.evaluation import FirstLosses
from vecaf_lib.objective import Objective
from vecaf_lib.selection.pool import Pool
from vecaf_lib.training import Finetuner


@dataclass(frozen=True)
class Observation:
    """The pool's N samples under the present weights; None for what is not needed."""

    embeddings: Float[Tensor, "n d"] | None = None
    losses: Float[Tensor, " n"] | None = None
    losses_from: FirstLosses | None = None
    predicted_losses: Float[Tensor, " n"] | None = None
    probabilities: Float[Tensor, "n c"] | None = None  # None while the classifier is random


def observe(
    finetuner: Finetuner,
    train: ImageSet,
    needs: frozenset[str],
    objective: Objective,
    *,
    first_losses: FirstLosses | None = None,
    embeddings: Float[Tensor, "n d"] | None = None,
) -> Observation:
    """A pass over the pool in evaluation mode, if ``needs`` names what takes one.

    Args:
        first_losses: of a classifier that is still random: all equal, a closed-form probe's, or
            its own. None after the first loop.
        embeddings: under the present weights, where they are at hand; they save the pass.
    """
    pvm, loss_predictor, predicted = finetuner.pvm, finetuner.loss_predictor, None
    if "predicted_losses" in needs and loss_predictor is not None and first_losses is None:
        predicted = evaluation.predicted_losses(pvm, loss_predictor, train.inputs)
    if not needs & {"embeddings", "losses", "probabilities"}:
        return Observation(predicted_losses=predicted)
    if embeddings is None:
        embeddings, scores = evaluation.embed_pool(pvm, train.inputs)
    else:
        scores = evaluation.classify(pvm, embeddings)
    probabilities = scores.softmax(1) if first_losses is None else None
    shown: Any = {"predicted_losses": predicted, "probabilities": probabilities}
    if "losses" not in needs:
        return Observation(embeddings, **shown)
    if first_losses == "uniform":
        losses = ones(len(train))
    elif first_losses == "linear_probe":
        labels, classes = objective.classes(train.labels, len(train.class_names))
        losses = evaluation.linear_probe_losses(embeddings, labels, classes=classes)
    else:
        losses = objective.losses(scores, train.labels)
    return Observation(embeddings, losses, first_losses or "classifier", **shown)


def make_pool(
    pvm: nn.Module,
    train: ImageSet,
    needs: frozenset[str],
    observation: Observation,
    labelled: Int64[Tensor, " k"],
    excluded: Int64[Tensor, " x"] | None = None,
    cea: Augmentation | None = None,
) -> Pool:
    """What a method is given of the pool: ``excluded`` and the fields that ``needs`` names."""
    e = observation.embeddings
    fields: dict[str, Any] = {
        "embeddings": cea.pool(e) if cea and e is not None else e,
        "losses": observation.losses,
        "predicted_losses": observation.predicted_losses,
        "probabilities": observation.probabilities,
        "images": train.images,
        "labelled": labelled,
        "labels": train.labels[labelled],
        "all_labels": train.labels,
        "classifier": deepcopy(getattr(pvm, "module", pvm).classifier).cpu().requires_grad_(False),
    }
    return Pool(len(train), excluded=excluded, **{n: v for n, v in fields.items() if n in needs})


def describe(
    loop: int,
    observation: Observation,
    train: ImageSet,
    fresh: Int64[Tensor, " k"],
    selection: Int64[Tensor, " s"],
    diagnostics: dict[str, Any],
    cea: Augmentation | None,
) -> dict[str, Any]:
    """The record of one loop for the run file: None for NaN, infinity and ids of a whole pool.

    ``fresh`` is the last set that was chosen, ``selection`` what the loop was finetuned on.
    """
    whole = len(selection) == len(train)
    losses = None if observation.losses_from == "uniform" else observation.losses
    record = {
        "loop": loop + 1,
        "chosen": None if whole else [train.ids[i] for i in selection.tolist()],
        "fresh": len(fresh),
        "losses_from": observation.losses_from,
        "mean_pool_loss": None if losses is None else float(losses.mean()),
        "mean_chosen_loss": None if losses is None else float(losses[fresh].mean()),
        "selection": diagnostics,
        "cea": None if cea is None else cea.record,
    }
    return {name: _finite(value) for name, value in record.items()}


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(inner) for name, inner in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
