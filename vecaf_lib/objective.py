"""The training objective L: what finetuning minimises, what ODS weighs by, what accuracy counts.

Multi-class cross-entropy, or one class against all others (section 4.2, Table 2). Everything that
speaks of losses or accuracy asks this object, so that a changed objective changes all at once.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn.functional import binary_cross_entropy, cross_entropy

TINY = 1e-6  # keeps log(1 - p) finite; p is a softmax in float32


@dataclass(frozen=True)
class Objective:
    """Cross-entropy over all classes, or -log p_c for class c and -log(1 - p_c) for all others.

    Attributes:
        target: class c of the 1-vs-all objective; None is multi-class. p is the softmax over all
            classes in both cases: the paper keeps the classifier and modifies the loss alone.
    """

    target: int | None = None

    def losses(
        self,
        scores: Float[Tensor, "n c"],
        labels: Int64[Tensor, " n"],
        *,
        label_smoothing: float = 0.0,
    ) -> Float[Tensor, " n"]:
        """Loss of each sample; gradients flow into ``scores``.

        Args:
            scores: of the classifier, before the softmax.
            labels: class indices.
            label_smoothing: mass that is taken from the right answer and spread evenly.
        """
        if self.target is None:
            return cross_entropy(scores, labels, reduction="none", label_smoothing=label_smoothing)
        p = scores.softmax(1)[:, self.target].clamp(TINY, 1 - TINY)
        wanted = (labels == self.target).to(p)
        wanted = wanted * (1 - label_smoothing) + label_smoothing / 2
        return binary_cross_entropy(p, wanted, reduction="none")

    def classes(self, labels: Int64[Tensor, " n"], count: int) -> tuple[Int64[Tensor, " n"], int]:
        """The labels that this objective tells apart, and how many: two in the 1-vs-all form."""
        if self.target is None:
            return labels, count
        return (labels == self.target).long(), 2

    def measure(
        self, scores: Float[Tensor, "n c"], labels: Int64[Tensor, " n"]
    ) -> dict[str, float]:
        """Accuracies in percent; ``accuracy`` is the one that tables show.

        Multi-class: ``accuracy`` is top-1, ``mean_class_accuracy`` the mean over the classes that
        occur. 1-vs-all: a sample counts as c if p_c > 1/2; ``accuracy`` is the mean of ``recall``
        (of c) and ``specificity`` (of the others), because with ten classes the answer "never c"
        already has a ``plain_accuracy`` of 90 %. The paper does not say which it reports.
        """
        if self.target is None:
            right = (scores.argmax(1) == labels).double()
            by_class = [right[labels == label].mean() for label in labels.unique()]
            return {
                "accuracy": 100 * float(right.mean()),
                "mean_class_accuracy": 100 * float(torch.stack(by_class).mean()),
            }
        said = scores.softmax(1)[:, self.target] > 0.5
        is_target = labels == self.target
        recall, specificity = _share(said[is_target]), _share(~said[~is_target])
        return {
            "accuracy": (recall + specificity) / 2,
            "recall": recall,
            "specificity": specificity,
            "plain_accuracy": _share(said == is_target),
        }


MULTI_CLASS = Objective()


def _share(right: Bool[Tensor, " n"]) -> float:
    return 100 * float(right.double().mean()) if len(right) else float("nan")
