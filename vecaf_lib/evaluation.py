"""What a model sees and says in evaluation mode: embeddings, class scores, accuracy."""

from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from vecaf_lib.datasets.images import ImageSet
from vecaf_lib.datasets.lazy import LazyImages
from vecaf_lib.distribution import everyones, own_batches


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


def accuracy(pvm: nn.Module, data: ImageSet) -> float:
    """Top-1 accuracy in percent on plain embeddings."""
    _, scores = look(pvm, data.images)
    return 100 * float((scores.argmax(1) == data.labels).double().mean())
