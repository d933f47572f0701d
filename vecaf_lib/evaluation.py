"""What a model gives in evaluation mode: embeddings, class scores, losses, accuracy."""

from typing import Any, Literal

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor, nn
from torch.nn.functional import normalize, one_hot

from vecaf_lib.data.images import ImageSet, LazyImages
from vecaf_lib.devices import everyones, own_batches
from vecaf_lib.models.vision import features
from vecaf_lib.objective import MULTI_CLASS, Objective

FirstLosses = Literal["uniform", "linear_probe", "classifier"]


@torch.inference_mode()
def embed_pool(
    pvm: nn.Module, images: UInt8[Tensor, "n 3 h w"] | LazyImages, *, batch_size: int = 250
) -> tuple[Float[Tensor, "n d"], Float[Tensor, "n c"]]:
    """Embeddings and class scores, on the CPU; processes share the pass, each gets the whole."""
    inner: Any = getattr(pvm.eval(), "module", pvm)  # a model wrapped for several processes
    device = inner.classifier.weight.device
    embeddings = [inner.embed(batch.to(device)) for batch in own_batches(images, batch_size)]
    scores = [inner.classifier(e) for e in embeddings]
    return (
        everyones(embeddings, len(images), batch_size, inner.width).clone(),
        everyones(scores, len(images), batch_size, inner.classifier.out_features).clone(),
    )


@torch.inference_mode()
def classify(pvm: nn.Module, e: Float[Tensor, "n d"]) -> Float[Tensor, "n c"]:
    """Class scores of embeddings, on the CPU."""
    classifier: Any = getattr(pvm, "module", pvm).classifier
    return classifier(e.to(classifier.weight.device)).float().cpu().clone()


@torch.inference_mode()
def predicted_losses(
    pvm: nn.Module,
    loss_predictor: nn.Module,
    images: UInt8[Tensor, "n 3 h w"] | LazyImages,
    *,
    batch_size: int = 250,
) -> Float[Tensor, " n"]:
    """The loss predictor's output for each image, from the feature maps of ``pvm``, on the CPU."""
    inner: Any = getattr(pvm.eval(), "module", pvm)
    depths: Any = getattr(loss_predictor.eval(), "module", loss_predictor).depths
    device = inner.classifier.weight.device
    parts = [
        loss_predictor(features(inner, batch.to(device), depths)[0]).unsqueeze(1)
        for batch in own_batches(images, batch_size)
    ]
    return everyones(parts, len(images), batch_size, 1).squeeze(1).clone()


def measure(pvm: nn.Module, data: ImageSet, objective: Objective = MULTI_CLASS) -> dict[str, float]:
    """Accuracies in percent on plain embeddings, see ``Objective.measure``."""
    _, scores = embed_pool(pvm, data.images)
    return objective.measure(scores, data.labels)


def linear_probe_losses(
    embeddings: Float[Tensor, "n d"],
    labels: Int64[Tensor, " n"],
    *,
    classes: int,
    ridge: float = 1e-2,
) -> Float[Tensor, " n"]:
    """Leave-one-out squared errors of ridge regression from directions onto one-hot labels.

    Closed form: r_i / (1 - h_ii), h the diagonal of the hat matrix (Allen's PRESS statistic).
    ``ridge`` is the penalty as a fraction of the mean eigenvalue of the Gram matrix.
    """
    E = normalize(embeddings.double(), dim=1)
    X = E - E.mean(0)  # (n, d)
    Y = one_hot(labels, classes).double()
    Y = Y - Y.mean(0)  # (n, c)
    gram = X.T @ X  # (d, d)
    gram += ridge * gram.diagonal().mean().clamp_min(1e-12) * torch.eye(len(gram), dtype=gram.dtype)
    solved = torch.linalg.solve(gram, X.T)  # (d, n)
    leverage = (X * solved.T).sum(1) + 1 / len(X)  # (n,), the centring costs 1/n
    residual = Y - X @ (solved @ Y)  # (n, c)
    return (residual / (1 - leverage).clamp_min(1e-6).unsqueeze(1)).square().sum(1).float()
