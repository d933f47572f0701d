"""What a model gives in evaluation mode: embeddings, class scores, losses, accuracy."""

import math
from typing import Any, Literal

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize, one_hot

from vecaf_lib.data.images import Images, ImageSet
from vecaf_lib.devices import everyones, own_batches
from vecaf_lib.models.vision import features
from vecaf_lib.objective import MULTI_CLASS, Objective

FirstLosses = Literal["uniform", "linear_probe", "classifier"]
AT_ONCE = 250  # images
RIDGE = 1e-2  # penalty, as a fraction of the mean eigenvalue of the Gram matrix
RIDGES = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)  # that a probe chooses from, as it does
SCALES = torch.logspace(-1, 2, 61, dtype=torch.float64)  # of its scores


@torch.inference_mode()
def embed_pool(pvm: nn.Module, images: Images) -> tuple[Float[Tensor, "n d"], Float[Tensor, "n c"]]:
    """Embeddings and class scores, on the CPU; processes share the pass, each gets the whole."""
    inner: Any = getattr(pvm.eval(), "module", pvm)  # a model wrapped for several processes
    device = inner.classifier.weight.device
    embeddings = [inner.embed(batch.to(device)) for batch in own_batches(images, AT_ONCE)]
    scores = [inner.classifier(e) for e in embeddings]
    return (
        everyones(embeddings, len(images), AT_ONCE, inner.width).clone(),
        everyones(scores, len(images), AT_ONCE, inner.classifier.out_features).clone(),
    )


@torch.inference_mode()
def classify(pvm: nn.Module, e: Float[Tensor, "n d"]) -> Float[Tensor, "n c"]:
    """Class scores of embeddings, on the CPU."""
    classifier: Any = getattr(pvm, "module", pvm).classifier
    return classifier(e.to(classifier.weight.device)).float().cpu().clone()


@torch.inference_mode()
def predicted_losses(
    pvm: nn.Module, loss_predictor: nn.Module, images: Images
) -> Float[Tensor, " n"]:
    """The loss predictor's output for each image, from the feature maps of ``pvm``, on the CPU."""
    inner: Any = getattr(pvm.eval(), "module", pvm)
    depths: Any = getattr(loss_predictor.eval(), "module", loss_predictor).depths
    device = inner.classifier.weight.device
    parts = [
        loss_predictor(features(inner, batch.to(device), depths)[0]).unsqueeze(1)
        for batch in own_batches(images, AT_ONCE)
    ]
    return everyones(parts, len(images), AT_ONCE, 1).squeeze(1).clone()


def measure(pvm: nn.Module, data: ImageSet, objective: Objective = MULTI_CLASS) -> dict[str, float]:
    """Accuracies in percent on plain embeddings, see ``Objective.measure``."""
    _, scores = embed_pool(pvm, data.inputs)
    return objective.measure(scores, data.labels)


def linear_probe_losses(
    embeddings: Float[Tensor, "n d"], labels: Int64[Tensor, " n"], *, classes: int
) -> Float[Tensor, " n"]:
    """Leave-one-out squared errors of ridge regression from directions onto one-hot labels.

    Closed form: r_i / (1 - h_ii), h the diagonal of the hat matrix (Allen's PRESS statistic).
    """
    Y = one_hot(labels, classes).double()
    E = normalize(embeddings.double(), dim=1)
    return _ridge_regression(E - E.mean(0), Y - Y.mean(0), RIDGE)[1].square().sum(1).float()


def ridge_probe(
    embeddings: Float[Tensor, "k d"], labels: Int64[Tensor, " k"], *, classes: int
) -> tuple[Float[Tensor, "c d"], Float[Tensor, " c"]]:
    """Weight and bias of a linear classifier, in closed form: ridge regression onto one-hot labels.

    Its scores are multiplied by a number, since regression onto 0 and 1 gives scores too alike for
    a softmax. That and the penalty, as in ``linear_probe_losses``, are those of the least
    cross-entropy of leave-one-out scores.
    """
    E, Y = embeddings.double(), one_hot(labels, classes).double()
    x, y = E.mean(0), Y.mean(0)
    least, best = math.inf, (E, y)
    for ridge in RIDGES:
        W, residual = _ridge_regression(E - x, Y - y, ridge)  # (d, c), (k, c)
        losses = torch.stack([cross_entropy(s * (Y - residual), labels) for s in SCALES])
        if float(losses.min()) < least:
            least, scale = float(losses.min()), SCALES[losses.argmin()]
            best = scale * W.T, scale * (y - x @ W)
    return best[0].float(), best[1].float()


def _ridge_regression(
    X: Float[Tensor, "n d"], Y: Float[Tensor, "n c"], ridge: float
) -> tuple[Float[Tensor, "d c"], Float[Tensor, "n c"]]:
    """Coefficients of centred ``Y`` on centred ``X``, and leave-one-out residuals."""
    n, d = X.shape
    gram = X @ X.T if n < d else X.T @ X  # the smaller one gives the same
    penalty = ridge * (gram.diagonal().sum() / d).clamp_min(1e-12)
    gram += penalty * torch.eye(len(gram), dtype=gram.dtype)
    solved = torch.linalg.solve(gram, X).T if n < d else torch.linalg.solve(gram, X.T)  # (d, n)
    W = solved @ Y
    leverage = (X * solved.T).sum(1) + 1 / n  # (n,), the centring costs 1/n
    return W, (Y - X @ W) / (1 - leverage).clamp_min(1e-6).unsqueeze(1)
