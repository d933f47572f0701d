"""A small network beside the PVM that predicts each image's loss (LearnLoss, section 3.2).

Learning Loss for Active Learning (Yoo and Kweon, CVPR 2019): feature maps from four depths are
pooled, each goes through a fully connected layer of 128 and a ReLU, and a last layer maps their
concatenation to one number. Losses shrink as training goes on, so it learns to rank pairs rather
than to hit values: image i of a batch is paired with image b - 1 - i.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from vecaf_lib.encoders.features import feature_widths
from vecaf_lib.encoders.vision import PVM

Ranking = Literal["margin", "logistic"]
HIDDEN = 128


class LossPredictor(nn.Module):
    """Feature maps in, one predicted loss an image out.

    Attributes:
        depths: how many maps it reads.
        ranking: which ranking loss.
        margin: xi of the margin ranking loss.
        weight: of its loss beside the objective's.
        detach_after: share of all steps after which its gradient no longer reaches the PVM.
    """

    def __init__(
        self,
        pvm: PVM,
        generator: torch.Generator,
        *,
        ranking: Ranking = "margin",
        depths: int = 4,
        margin: float = 1.0,
        weight: float = 1.0,
        detach_after: float = 0.6,
    ):
        """Draw the layers as torch does by default, from ``generator``.

        Args:
            pvm: whose maps it will read.
            generator: of its first weights.
            ranking: ``margin`` (LearnLoss) or ``logistic`` (TA-VAAL).
            depths: number of maps.
            margin: xi, by which the larger predicted loss must exceed the smaller.
            weight: see the class; theirs is 1.
            detach_after: theirs is 120 of 200 epochs.

        Raises:
            BadInput: the PVM cannot give so many maps.
        """
        super().__init__()
        self.depths, self.weight, self.detach_after = depths, weight, detach_after
        self.ranking, self.margin = ranking, margin
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(generator.initial_seed())
            self.reduce = nn.ModuleList(
                nn.Linear(width, HIDDEN) for width in feature_widths(pvm, depths)
            )
            self.predict = nn.Linear(depths * HIDDEN, 1)

    def forward(self, maps: Sequence[Float[Tensor, "b _ _ _"]]) -> Float[Tensor, " b"]:
        """Predicted losses, on a scale of their own: only their order is trained.

        Args:
            maps: of ``depths`` depths, each b x channels x height x width, see ``features``.
        """
        pooled = [part.float().mean((2, 3)) for part in maps]  # (b, c) each
        hidden = [layer(p).relu() for layer, p in zip(self.reduce, pooled, strict=True)]
        return self.predict(torch.cat(hidden, 1)).squeeze(1)

    def ranking_loss(
        self, predicted: Float[Tensor, " b"], losses: Float[Tensor, " b"]
    ) -> Float[Tensor, ""]:
        """How badly pairs are ranked, image i against image b - 1 - i; a mean over pairs.

        Margin: max(0, xi - sign(l_i - l_j) (lhat_i - lhat_j)). Logistic: the cross-entropy of
        sigmoid(lhat_i - lhat_j) against "l_i is the larger". Equal losses cannot be ranked: they
        give the margin's term no gradient, and the logistic term the target 1/2. The middle image
        of an odd batch has no partner; a batch of one image gives 0.

        Args:
            predicted: lhat; gradients flow.
            losses: l, in nats; taken as constants.
        """
        half = len(predicted) // 2
        said = predicted[:half] - predicted.flip(0)[:half]
        order = (losses[:half] - losses.flip(0)[:half]).detach().sign()
        if self.ranking == "logistic":
            terms = binary_cross_entropy_with_logits(said, (order + 1) / 2, reduction="none")
        else:
            terms = (self.margin - order * said).clamp_min(0)
        return terms.sum() / max(1, half)
