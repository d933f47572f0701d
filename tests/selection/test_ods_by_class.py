"""ODS class by class: how the budget is dealt, and that no class is left out."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vecaf_lib.selection import Pool
from vecaf_lib.selection.ods_by_class import deal, select


def pool(losses: torch.Tensor | None = None, labelled: int = 0) -> Pool:
    """100 samples of four classes with 70, 20, 9 and 1 of them."""
    g = torch.Generator().manual_seed(0)
    labels = torch.tensor([0] * 70 + [1] * 20 + [2] * 9 + [3])
    e = torch.randn(100, 8, generator=g) + 3 * torch.eye(8)[labels]
    L = torch.ones(100) if losses is None else losses
    return Pool(100, embeddings=e, losses=L, all_labels=labels, labelled=torch.arange(labelled))


def by_class(p: Pool, budget: int, seed: int = 0, **options: object) -> list[int]:
    generator = torch.Generator().manual_seed(seed)
    chosen = select(p, budget, generator=generator, iterations=10, **options)  # type: ignore[arg-type]
    assert len(set(chosen.tolist())) == budget
    return torch.bincount(p.all_labels[chosen], minlength=4).tolist()


@given(
    weights=st.lists(st.floats(0, 100), min_size=1, max_size=12),
    sizes=st.lists(st.integers(0, 9), min_size=12, max_size=12),
    share=st.floats(0, 1),
)
@settings(deadline=None)
def test_a_deal_is_exact_and_within_what_classes_have(weights, sizes, share):
    most = torch.tensor(sizes[: len(weights)])
    budget = int(share * int(most.sum()))
    given = deal(torch.tensor(weights), budget, most)
    assert int(given.sum()) == budget
    assert bool(((given >= 0) & (given <= most)).all())
    if budget >= int((most > 0).sum()):
        assert bool((given[most > 0] > 0).all())


def test_a_deal_by_hand():
    most = torch.tensor([50, 50, 50])
    assert deal(torch.tensor([6.0, 3.0, 1.0]), 10, most).tolist() == [6, 3, 1]
    assert deal(torch.tensor([1.0, 0.0, 0.0]), 5, most).tolist() == [3, 1, 1]
    assert deal(torch.tensor([1.0, 0.0, 0.0]), 2, most).tolist() == [2, 0, 0]
    assert deal(torch.tensor([1.0, 1.0, 1.0]), 6, torch.tensor([1, 9, 9])).tolist() == [1, 3, 2]


def test_every_class_gets_a_sample_where_the_budget_reaches():
    assert min(by_class(pool(), 4)) == 1
    assert by_class(pool(), 20, class_power=1.0) == [13, 4, 2, 1]
    assert by_class(pool(), 20, class_power=0.0) == [7, 6, 6, 1]  # the last has no more


def test_classes_with_larger_losses_get_more_and_gamma_switches_that_off():
    losses = torch.ones(100)
    losses[70:90] = 9.0
    assert by_class(pool(losses), 20)[1] > by_class(pool(), 20)[1]
    assert by_class(pool(losses), 20, loss_power=0.0) == by_class(pool(), 20)


def test_samples_of_earlier_loops_are_not_chosen_again_unless_allowed():
    told: dict[str, int] = {}
    g = torch.Generator().manual_seed(0)
    chosen = select(pool(labelled=60), 30, generator=g, iterations=5, record=told)
    assert told == {"classes": 4, "repeated": 0}
    assert int(chosen.min()) >= 60
    g = torch.Generator().manual_seed(0)
    select(pool(labelled=60), 30, generator=g, iterations=5, repeat=True, record=told)
    assert told["repeated"] > 0


@pytest.mark.parametrize("budget", [1, 3, 100])
def test_any_budget(budget):
    assert sum(by_class(pool(), budget)) == budget
