"""The objective: losses by hand, both forms, what accuracy counts, equation 3."""

import math

import oracles
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vecaf_lib.objective import Objective, loss_distribution

SCORES = torch.tensor([[2.0, 0.0, 1.0], [0.0, 3.0, 0.0], [1.0, 1.0, 1.0], [0.0, 0.0, 4.0]])
LABELS = torch.tensor([0, 0, 1, 2])


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


def test_top_1_and_mean_class_accuracy() -> None:
    accuracies = Objective().measure(
        SCORES, torch.tensor([0, 0, 0, 2])
    )  # the third is a tie: class 0
    assert accuracies["accuracy"] == 75
    assert accuracies["mean_class_accuracy"] == pytest.approx(100 * (2 / 3 + 1) / 2)


def test_saying_never_is_no_better_than_half() -> None:
    never = torch.zeros(10, 2)
    never[:, 1] = 5
    labels = torch.tensor([0] + [1] * 9)
    accuracies = Objective(target=0).measure(never, labels)
    assert accuracies == {"accuracy": 50, "recall": 0, "specificity": 100, "plain_accuracy": 90}


losses = st.lists(st.floats(0, 1000, width=32), min_size=1, max_size=40).map(torch.tensor)


@given(losses, st.floats(0, 4))
def test_equation_3_is_a_distribution_that_keeps_the_order_of_the_losses(L, gamma):
    p = loss_distribution(L, gamma)
    assert (p >= 0).all()
    assert p.sum().item() == pytest.approx(1, abs=1e-5)
    assert (p[L.argsort()].diff() >= 0).all()


@given(losses, st.floats(0, 4))
def test_equation_3_is_uniform_at_power_0_and_for_losses_that_are_equal_or_zero(L, gamma):
    uniform = torch.full((len(L),), 1 / len(L))
    torch.testing.assert_close(loss_distribution(L, 0.0), uniform)
    torch.testing.assert_close(loss_distribution(0 * L, gamma), uniform)
    torch.testing.assert_close(loss_distribution(0 * L + 0.3, gamma), uniform)


@given(st.lists(st.floats(0.015625, 100, width=32), min_size=1, max_size=20), st.floats(0, 3))
def test_equation_3_against_the_oracle(L, gamma):
    expected = torch.tensor(oracles.equation_3(L, gamma))
    torch.testing.assert_close(loss_distribution(torch.tensor(L), gamma), expected)


def test_the_recall_of_one_class_among_all_may_be_the_accuracy() -> None:
    scores = torch.eye(3)[torch.tensor([0, 1, 1, 2])]
    labels = torch.tensor([0, 0, 1, 2])
    assert Objective(recall_of=0).measure(scores, labels)["accuracy"] == 50.0
    assert Objective().measure(scores, labels)["accuracy"] == 75.0
