"""The training objective L, multi-class or one class against all others (section 4.2, Table 2)."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn.functional import binary_cross_entropy, cross_entropy

TINY = 1e-6  # keeps log(1 - p) finite; p is a softmax in float32


@dataclass(frozen=True)
class Objective:
    """Cross-entropy over all classes, or -log p_c for class c and -log(1 - p_c) for all others.

    p is the softmax over all classes in both: the paper keeps the classifier, modifies the loss.
    """

    target: int | None = None  # class c of the 1-vs-all objective
    recall_of: int | None = None  # class whose recall is the accuracy, where there is no target

    def losses(
        self,
        scores: Float[Tensor, "n c"],
        labels: Int64[Tensor, " n"],
        *,
        label_smoothing: float = 0.0,
    ) -> Float[Tensor, " n"]:
        """Loss of each sample; gradients flow into ``scores``, which are before the softmax."""
        if self.target is None:
            return cross_entropy(scores, labels, reduction="none", label_smoothing=label_smoothing)
        p = scores.softmax(1)[:, self.target].clamp(TINY, 1 - TINY)
        y = (labels == self.target).to(p) * (1 - label_smoothing) + label_smoothing / 2
        return binary_cross_entropy(p, y, reduction="none")

    def classes(self, labels: Int64[Tensor, " n"], count: int) -> tuple[Int64[Tensor, " n"], int]:
        """The labels that this objective tells apart, and how many: two in the 1-vs-all form."""
        return (labels, count) if self.target is None else ((labels == self.target).long(), 2)

    def measure(
        self, scores: Float[Tensor, "n c"], labels: Int64[Tensor, " n"]
    ) -> dict[str, float]:
        """Accuracies in percent; ``accuracy`` is the one that tables show.

        Multi-class: top-1, or the recall of class ``recall_of``. 1-vs-all, c if p_c > 1/2:
        the mean of ``recall`` (of c) and ``specificity`` (of the others), as "never c" has a
        ``plain_accuracy`` of 90 % with ten classes. The paper does not say which it reports.
        """
        if self.target is None:
            right = (scores.argmax(1) == labels).double()
            by_class = [right[labels == label].mean() for label in labels.unique()]
            shown = right if self.recall_of is None else right[labels == self.recall_of]
            return {
                "accuracy": 100 * float(shown.mean()),
                "mean_class_accuracy": 100 * float(torch.stack(by_class).mean()),
            }
        is_predicted = scores.softmax(1)[:, self.target] > 0.5
        is_target = labels == self.target
        recall = _percent(is_predicted[is_target])
        specificity = _percent(~is_predicted[~is_target])
        return {
            "accuracy": (recall + specificity) / 2,
            "recall": recall,
            "specificity": specificity,
            "plain_accuracy": _percent(is_predicted == is_target),
        }


MULTI_CLASS = Objective()


def _percent(right: Bool[Tensor, " n"]) -> float:
    return 100 * float(right.double().mean()) if len(right) else float("nan")


def loss_distribution(losses: Float[Tensor, " n"], power: float) -> Float[Tensor, " n"]:
    """Equation 3: p_i = L_i^gamma / sum_j L_j^gamma, gamma the ``power``; uniform if all are 0."""
    highest = losses.max()
    if power == 0 or not bool(highest > 0):
        return torch.full_like(losses, 1 / len(losses))
    p = torch.where(losses > 0, losses / highest, 0.0)
    p = torch.where(p > 0, p**power, 0.0)  # 0 ** gamma for a tiny gamma is not 0 everywhere
    return p / p.sum()
