r"""Mode ``official``: what the authors' released code (commit 3a60486) does, made runnable.

It departs from the paper; the package keeps both so that a reader can audit the difference. The
descriptions are findings from reading that code, nothing of it is copied.

* ODS is a contrast, $J_i = \log(w_i p_i) - \log(w_i p_i + n)$, with the loss inside w_i:
  the pull on a sample is n / (w p + n), so that a LARGER loss pulls LESS. There is no lambda.
* The loss passes through a sigmoid, log, exp or L2 normalisation before it is w.
* Ensemble members are never matched, and the update adds element by element.
* CEA's softmax runs over a single number, so alpha = 1; eta = 1.2 overshoots the text embedding;
  the result serves selection only, the classifier is finetuned on plain images.
"""

from typing import Any, Literal

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn.functional import normalize, softplus

from vecaf_lib.cea import relative_move
from vecaf_lib.encoders.bridge import Kind, fit_bridge, rescale
from vecaf_lib.errors import BadInput
from vecaf_lib.seeding import generator as stream
from vecaf_lib.selection._centroids import optimise, start
from vecaf_lib.selection._exact import nearest_unused
from vecaf_lib.selection._pool import Pool, check_budget
from vecaf_lib.selection._types import Count, NotNegative, Positive, Record
from vecaf_lib.selection.activeft import contrast

NEEDS = frozenset({"embeddings", "losses"})
Weight = Literal["sigmoid", "log", "exp", "l2"]
ETA = 1.2
NOISE = 0.001


def log_weight(losses: Float[Tensor, " n"], kind: Weight) -> Float[Tensor, " n"]:
    """log w_i for the four flags of the released code.

    Raises:
        BadInput: ``log`` where a loss is 1 or less: w is then not positive and J is NaN, as there.
    """
    if kind == "sigmoid":
        return -softplus(-losses)
    if kind == "exp":
        return losses
    if kind == "l2":
        return (losses / losses.norm().clamp_min(1e-12)).clamp_min(1e-12).log()
    if bool((losses <= 1).any()):
        raise BadInput("weight: 'log' is undefined where a loss is 1 or less; use sigmoid or l2.")
    return losses.log().log()


def correct(members: Float[Tensor, "E k d"]) -> Float[Tensor, "k d"]:
    """theta_1 + (theta_1 - mu) * [(theta_1 - mu) Sigma^-1], element by element, plus sign.

    Sigma (d x d) is the covariance over members and centroids, singular as soon as E K < d; the
    pseudo-inverse makes it runnable. The formula is 0/0 for members that agree: it jumps there.
    """
    mu = members.mean(0)
    difference = members[0] - mu  # (k, d)
    centred = (members - mu).flatten(0, 1)  # (E k, d)
    sigma = centred.T @ centred / max(len(centred) - 1, 1)  # (d, d)
    return members[0] + difference * (difference @ torch.linalg.pinv(sigma, hermitian=True))


def augment(
    image: Float[Tensor, "n d"], text: Float[Tensor, "n d"], *, generator: torch.Generator
) -> Float[Tensor, "n d"]:
    """1.2 t - 0.2 e + 0.001 noise: equation 9 with alpha = 1 and eta = 1.2."""
    noise = torch.randn(image.shape, generator=generator).to(image)
    return image - ETA * (image - text) + NOISE * noise


class OfficialAugmentation:
    """CEA over the loops of one run as released: selection sees it, finetuning does not."""

    def __init__(
        self,
        text: Float[Tensor, "n d_text"],
        *,
        seed: int,
        bridge: Kind = "ridge",
        ridge: float = 0.1,
    ):
        """Take the pool's text embeddings; the bridge stands for their equal widths."""
        self.text, self.kind, self.ridge = text, bridge, ridge
        self.seed = seed
        self.told: dict[str, Any] = {}

    def pool(self, e: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        """All of the pool, augmented."""
        draw = stream(self.seed, "bridge")
        bridge = fit_bridge(self.kind, self.text, e, ridge=self.ridge, generator=draw)
        moved = augment(e, rescale(bridge(self.text), e), generator=draw)
        self.told = {"relative_move": relative_move(e, moved), "form": "official", "eta": ETA}
        return moved

    def fit(self, e: Float[Tensor, "n d"], chosen: Int64[Tensor, " k"]) -> None:
        """Nothing: the classifier is finetuned on plain images."""


def select(
    pool: Pool,
    budget: int,
    *,
    generator: torch.Generator,
    record: Record = None,
    weight: Weight = "sigmoid",
    tau: Positive = 0.07,
    iterations: Count = 100,
    learning_rate: Positive = 1e-3,
    tolerance: NotNegative = 0.0,
    ensemble: Count | None = None,
) -> Tensor:
    """Choose as the released code does.

    Args:
        pool: with ``embeddings`` and ``losses``.
        budget: K.
        generator: draws the first centroids of every member.
        record: receives the diagnostics of the optimisation.
        weight: how a loss becomes a weight.
        tau: temperature; 0.07 there.
        iterations: Adam steps; 100 there.
        learning_rate: Adam's.
        tolerance: see ``optimise``; 0 there.
        ensemble: members; by default int(10 / percent), its formula for CIFAR-10, of which the
            first is discarded. With fewer than two left there is no correction.
    """
    check_budget(pool, budget)
    e = normalize(pool.need("embeddings"), dim=1)
    objective = contrast(e, tau, log_weight(pool.need("losses"), weight))
    size = ensemble or max(1, int(10 * pool.size / (100 * budget)))
    members = [
        optimise(
            start(e, budget, generator=generator),
            objective,
            iterations=iterations,
            learning_rate=learning_rate,
            tolerance=tolerance,
            record=record,
        )
        for _ in range(size)
    ]
    kept = members[1:] or members
    theta = kept[0] if len(kept) == 1 else correct(torch.stack(kept))
    return nearest_unused(e, normalize(theta, dim=1))
