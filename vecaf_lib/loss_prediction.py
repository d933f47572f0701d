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
            weight: see the class.
            detach_after: theirs is 120 of 200 epochs.
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
        """Predicted losses, on a scale of their own."""
        pooled = [part.float().mean((2, 3)) for part in maps]  # (b, c) each
        hidden = [layer(p).relu() for layer, p in zip(self.reduce, pooled, strict=True)]
        return self.predict(torch.cat(hidden, 1)).squeeze(1)

    def ranking_loss(
        self, predicted: Float[Tensor, " b"], losses: Float[Tensor, " b"]
    ) -> Float[Tensor, ""]:
        """How badly pairs are ranked; of an odd batch the middle image has no partner.

        Margin: max(0, xi - sign(l_i - l_j) (lhat_i - lhat_j)). Logistic: the cross-entropy of
        sigmoid(lhat_i - lhat_j) against "l_i is the larger". Means over pairs.
        """
        half = len(predicted) // 2
        said = predicted[:half] - predicted.flip(0)[:half]
        true = losses[:half] - losses.flip(0)[:half]
        if self.ranking == "logistic":
            return binary_cross_entropy_with_logits(said, (true > 0).to(said))
        return (self.margin - true.sign() * said).clamp_min(0).mean()
