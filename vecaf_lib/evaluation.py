"""What a model sees and says in evaluation mode: embeddings, class scores, accuracy."""

from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from vecaf_lib.datasets.images import ImageSet
from vecaf_lib.datasets.lazy import LazyImages
from vecaf_lib.distribution import everyones, own_batches
from vecaf_lib.encoders.features import features
from vecaf_lib.objective import MULTI_CLASS, Objective


@torch.inference_mode()
def look(
    pvm: nn.Module, images: UInt8[Tensor, "n 3 h w"] | LazyImages, *, batch_size: int = 250
) -> tuple[Float[Tensor, "n d"], Float[Tensor, "n c"]]:
    """Embeddings and class scores in evaluation mode, without any augmentation, on the CPU.

    Several processes share the pass; each receives the whole.
    """
    pvm.eval()
    inner: Any = getattr(pvm, "module", pvm)  # a model wrapped for several processes
    device = next(inner.parameters()).device
    embeddings, scores = [], []
    for batch in own_batches(images, batch_size):
        e = inner.embed(batch.to(device))
        embeddings.append(e)
        scores.append(inner.classifier(e))
    total, classes = len(images), inner.classifier.out_features
    return (
        everyones(embeddings, total, batch_size, inner.width).clone(),
        everyones(scores, total, batch_size, classes).clone(),
    )


@torch.inference_mode()
def classify(pvm: nn.Module, e: Float[Tensor, "n d"]) -> Float[Tensor, "n c"]:
    """Class scores of embeddings, on the CPU."""
    classifier: Any = getattr(pvm, "module", pvm).classifier
    return classifier(e.to(classifier.weight.device)).float().cpu().clone()


@torch.inference_mode()
def predicted_losses(
    pvm: nn.Module,
    predictor: nn.Module,
    images: UInt8[Tensor, "n 3 h w"] | LazyImages,
    *,
    batch_size: int = 250,
) -> Float[Tensor, " n"]:
    """What a loss predictor says of each image, from the feature maps of ``pvm``, on the CPU."""
    pvm.eval()
    predictor.eval()
    inner: Any = getattr(pvm, "module", pvm)
    depths: int = getattr(predictor, "module", predictor).depths  # type: ignore[assignment]
    device = next(inner.parameters()).device
    told = []
    for batch in own_batches(images, batch_size):
        maps, _ = features(inner, batch.to(device), depths)
        told.append(predictor(maps).unsqueeze(1))
    return everyones(told, len(images), batch_size, 1).squeeze(1).clone()


def measure(pvm: nn.Module, data: ImageSet, objective: Objective = MULTI_CLASS) -> dict[str, float]:
    """Accuracies in percent on plain embeddings, see ``Objective.measure``."""
    _, scores = look(pvm, data.images)
    return objective.measure(scores, data.labels)
