"""A loss predictor that is finetuned beside the PVM: LearnLoss, and TA-VAAL's ranker."""

from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from vecaf_lib.models.vision import PVM, feature_widths
from vecaf_lib.options import Count, NotNegative

Ranking = Literal["margin", "logistic"]  # LearnLoss's, and TA-VAAL's
HIDDEN = 128


class LossPredictor(nn.Module):
    """Feature maps of ``depths`` depths to one predicted loss an image (LearnLoss, section 3.2).

    Yoo and Kweon, CVPR 2019: maps are pooled, each goes through a fully connected layer of 128 and
    a ReLU, a last layer maps their concatenation to one number. As losses shrink in training, it
    learns to rank pairs.
    """

    def __init__(
        self,
        pvm: PVM,
        generator: torch.Generator,
        *,
        ranking: Ranking = "margin",
        depths: Count = 4,
        margin: NotNegative = 1.0,
        weight: NotNegative = 1.0,
        detach_after: Annotated[float, Field(ge=0, le=1)] = 0.0,
    ):
        """Draw the layers as torch does by default, from ``generator``.

        All defaults but that of ``detach_after`` are theirs.

        Args:
            margin: xi, by which the larger predicted loss must exceed the smaller.
            weight: of its loss beside the objective's.
            detach_after: share of all steps after which its gradient no longer reaches the PVM.
                Theirs is 0.6, of 200 epochs that train a network from scratch. In few steps from
                pretrained weights the ranking's gradient outweighs the objective's, and the PVM
                falls to one class. With 0 it is trained as without a loss predictor.
        """
        super().__init__()
        self.weight, self.detach_after = weight, detach_after
        self.ranking, self.margin = ranking, margin
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(generator.initial_seed())
            widths = feature_widths(pvm, depths)
            self.depths = len(widths)  # fewer where there are fewer, as behind a frozen trunk
            self.reduce = nn.ModuleList(nn.Linear(width, HIDDEN) for width in widths)
            self.predict = nn.Linear(self.depths * HIDDEN, 1)

    def forward(self, maps: Sequence[Float[Tensor, "b _ _ _"]]) -> Float[Tensor, " b"]:
        """Predicted losses; only their order is trained."""
        pooled = [part.float().mean((2, 3)) for part in maps]  # (b, c) each
        hidden = [layer(p).relu() for layer, p in zip(self.reduce, pooled, strict=True)]
        return self.predict(torch.cat(hidden, 1)).squeeze(1)

    def ranking_loss(
        self, predicted: Float[Tensor, " b"], losses: Float[Tensor, " b"]
    ) -> Float[Tensor, ""]:
        """How badly pairs are ranked, image i against image b - 1 - i; a mean over pairs.

        Margin: max(0, xi - sign(l_i - l_j) (lhat_i - lhat_j)), l the losses, lhat the predicted.
        Logistic: the cross-entropy of sigmoid(lhat_i - lhat_j) against "l_i is the larger".
        """
        half = len(predicted) // 2
        difference = predicted[:half] - predicted.flip(0)[:half]
        order = (losses[:half] - losses.flip(0)[:half]).detach().sign()
        if self.ranking == "logistic":
            terms = binary_cross_entropy_with_logits(difference, (order + 1) / 2, reduction="none")
        else:
            terms = (self.margin - order * difference).clamp_min(0)
        return terms.sum() / max(1, half)
