"""Self-paced ODS: easy samples first, none twice, and what its pace does."""

import pytest
import torch

from vecaf_lib.selection import Pool
from vecaf_lib.selection.ods import select as ods
from vecaf_lib.selection.ods_self_paced import select

FAST = {"iterations": 20, "learning_rate": 0.01, "ensemble": 2}


def pool(labelled: int = 0) -> Pool:
    """200 samples in one cloud; the first half is easy, the second hard."""
    g = torch.Generator().manual_seed(0)
    losses = torch.cat([torch.full((100,), 0.1), torch.full((100,), 5.0)])
    e = torch.randn(200, 8, generator=g) + torch.eye(8)[0]
    return Pool(200, embeddings=e, losses=losses, labelled=torch.arange(labelled))


def chosen(p: Pool, budget: int = 20, seed: int = 0, **options: float) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    found = select(p, budget, generator=g, **(FAST | options))  # type: ignore[arg-type]
    assert len(found.unique()) == budget
    return found


def losses_of(found: torch.Tensor) -> float:
    return float(pool().need("losses")[found].mean())


def test_the_faster_the_pace_the_easier_the_samples():
    mean = {
        pace: sum(losses_of(chosen(pool(), seed=s, pace=pace, lambda_=0.0)) for s in range(5)) / 5
        for pace in (0.0, 3.0)
    }
    assert mean[3.0] < mean[0.0] - 0.2
    g = torch.Generator().manual_seed(0)
    hard = ods(pool(), 20, generator=g, lambda_=0.0, **FAST)  # type: ignore[arg-type]
    assert losses_of(hard) > mean[3.0]


def test_without_a_pace_it_is_ods_without_losses():
    g = torch.Generator().manual_seed(3)
    plain = ods(pool(), 20, generator=g, loss_power=0.0, **FAST)  # type: ignore[arg-type]
    assert torch.equal(chosen(pool(), seed=3, pace=0.0), plain)


def test_only_differences_of_losses_count():
    p = pool()
    shifted = Pool(200, embeddings=p.embeddings, losses=p.need("losses") + 400, labelled=p.labelled)
    assert torch.equal(chosen(p), chosen(shifted))  # e^-400 alone would be 0 in float32


@pytest.mark.parametrize(("labelled", "budget", "again"), [(60, 20, 0), (190, 20, 10)])
def test_samples_of_earlier_loops_come_again_only_where_too_few_are_left(labelled, budget, again):
    assert int((chosen(pool(labelled), budget) < labelled).sum()) == again
