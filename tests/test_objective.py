"""The objective: known losses, both forms, what accuracy counts."""

import math

import pytest
import torch
from torch.nn.functional import cross_entropy

from vecaf_lib.objective import Objective

SCORES = torch.tensor([[2.0, 0.0, 1.0], [0.0, 3.0, 0.0], [1.0, 1.0, 1.0], [0.0, 0.0, 4.0]])
LABELS = torch.tensor([0, 0, 1, 2])


def test_multi_class_is_cross_entropy() -> None:
    losses = Objective().losses(SCORES, LABELS, label_smoothing=0.1)
    expected = cross_entropy(SCORES, LABELS, reduction="none", label_smoothing=0.1)
    assert torch.equal(losses, expected)


def test_one_class_against_all_others_by_hand() -> None:
    losses = Objective(target=0).losses(SCORES, LABELS)
    p = SCORES.softmax(1)[:, 0]
    expected = [-math.log(p[0]), -math.log(p[1]), -math.log(1 - p[2]), -math.log(1 - p[3])]
    assert losses.tolist() == pytest.approx(expected, rel=1e-5)


def test_confusing_two_other_classes_costs_nothing() -> None:
    """The objective is finegrained: only the target class matters."""
    scores = torch.tensor([[0.0, 9.0, -9.0]])
    wrong, right = torch.tensor([2]), torch.tensor([1])
    objective = Objective(target=0)
    assert torch.equal(objective.losses(scores, wrong), objective.losses(scores, right))
    assert Objective().losses(scores, wrong) > 10 * Objective().losses(scores, right)


def test_a_certain_and_wrong_answer_is_finite_and_has_a_gradient() -> None:
    scores = torch.tensor([[90.0, 0.0], [-4.0, 0.0]], requires_grad=True)
    losses = Objective(target=0).losses(scores, torch.tensor([1, 0]), label_smoothing=0.1)
    assert torch.isfinite(losses).all()
    losses.sum().backward()
    assert scores.grad is not None
    assert scores.grad[1].abs().sum() > 0.5


def test_classes_that_it_tells_apart() -> None:
    assert Objective().classes(LABELS, 3) == (LABELS, 3)
    labels, count = Objective(target=0).classes(LABELS, 3)
    assert (labels.tolist(), count) == ([1, 1, 0, 0], 2)


def test_top_1_and_mean_class_accuracy() -> None:
    told = Objective().measure(SCORES, torch.tensor([0, 0, 0, 2]))  # the third is a tie: class 0
    assert told["accuracy"] == 75
    assert told["mean_class_accuracy"] == pytest.approx(100 * (2 / 3 + 1) / 2)


def test_saying_never_is_no_better_than_half() -> None:
    never = torch.zeros(10, 2)
    never[:, 1] = 5
    labels = torch.tensor([0] + [1] * 9)
    told = Objective(target=0).measure(never, labels)
    assert told == {"accuracy": 50, "recall": 0, "specificity": 100, "plain_accuracy": 90}
