"""Mode `official`: what the released code computes, and where it departs from mode `paper`."""

import math

import oracles
import pytest
import torch
from torch.nn.functional import normalize

from vecaf_lib.cea import Augmentation
from vecaf_lib.errors import BadInput
from vecaf_lib.official import OfficialAugmentation, augment, correct, log_weight
from vecaf_lib.selection import Pool, load
from vecaf_lib.selection.activeft import contrast
from vecaf_lib.selection.ods import loss_distribution, ods_objective

FLAGS = {
    "sigmoid": lambda L: [1 / (1 + math.exp(-x)) for x in L],
    "log": lambda L: [math.log(x) for x in L],
    "exp": lambda L: [math.exp(x) for x in L],
    "l2": lambda L: [x / math.sqrt(sum(y * y for y in L)) for x in L],
}


@pytest.mark.parametrize("flag", FLAGS)
def test_the_four_flags(flag):
    L = [1.2, 2.0, 3.5, 1.01]
    expected = torch.tensor(FLAGS[flag](L)).log()
    torch.testing.assert_close(log_weight(torch.tensor(L), flag), expected)


@pytest.mark.parametrize("low", [1.0, 0.5, 0.0])
def test_flag_log_is_refused_where_the_released_code_gives_nan(low):
    losses = torch.tensor([2.0, low])
    with pytest.raises(BadInput, match="'log' is undefined where a loss is 1 or less"):
        log_weight(losses, "log")
    pool = Pool(2, embeddings=torch.eye(2), losses=losses)
    with pytest.raises(BadInput, match="weight"):
        load("ods_official").select(pool, 1, generator=torch.Generator(), weight="log")


@pytest.mark.parametrize("flag", ["sigmoid", "exp", "l2"])
def test_losses_of_zero_and_hundreds_stay_finite(flag):
    e = torch.eye(3)
    value, gradient = contrast(e, 0.07, log_weight(torch.tensor([0.0, 1.0, 300.0]), flag))(e)
    assert math.isfinite(value)
    assert torch.isfinite(gradient).all()


def pull_on_cosine(w, cos, n, tau=0.07):
    """|dJ/dcos| for J = log(w p) - log(w p + n), p = exp(cos / tau), and its slope in w."""
    w = torch.tensor(w, dtype=torch.float64, requires_grad=True)
    cos = torch.tensor(cos, dtype=torch.float64, requires_grad=True)
    p = torch.exp(cos / tau)
    J = torch.log(w * p) - torch.log(w * p + n)
    (pull,) = torch.autograd.grad(J, cos, create_graph=True)
    (slope,) = torch.autograd.grad(pull.abs(), w)
    return pull.abs().item(), slope.item()


@pytest.mark.parametrize("cos", [-0.3, 0.2, 0.9])
@pytest.mark.parametrize("w", [0.2, 1.0, 5.0])
def test_the_pull_falls_as_the_weight_grows(cos, w):
    e = torch.tensor([[cos, math.sqrt(1 - cos**2)]], dtype=torch.float64)
    theta = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    n = math.exp(1 / 0.07)  # one centroid: itself
    pull, slope = pull_on_cosine(w, cos, n)
    assert slope < 0
    log_w = torch.tensor([w], dtype=torch.float64).log()
    _, gradient = contrast(e, 0.07, log_w)(theta)
    # across theta, only the sample pulls: its share of the gradient is pull * e
    assert gradient[0, 1].abs().item() == pytest.approx(pull * e[0, 1].item())


@pytest.mark.parametrize("flag", FLAGS)
def test_raising_a_loss_pulls_less_in_official_and_harder_in_paper(flag):
    e = normalize(torch.tensor([[1.0, 0.4, 0.0], [0.0, 1.0, 0.3]], dtype=torch.float64), dim=1)
    theta = torch.eye(3, dtype=torch.float64)[:2]  # each sample has a centroid of its own
    official, paper = [], []
    for loss in (1.5, 2.5, 4.0):
        L = torch.tensor([loss, 2.0], dtype=torch.float64)
        away = e[0] - (e[0] @ theta[0]) * theta[0]  # where sample 0 draws centroid 0
        _, g = contrast(e, 0.5, log_weight(L, flag))(theta)
        official.append(-(g[0] @ away).item())
        _, g = ods_objective(e, loss_distribution(L, 1.0), 0.5, 0.0)(theta)
        paper.append(-(g[0] @ away).item())
    assert official[0] > official[1] > official[2]
    assert 0 < paper[0] < paper[1] < paper[2]


def test_the_update_of_the_ensemble():
    members = torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(0)).double()
    torch.testing.assert_close(correct(members), oracles.official_correction(members))


def test_the_update_moves_away_from_the_mean_and_the_paper_s_does_not():
    members = torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(0)).double()
    mu = members.mean(0)
    official = (correct(members) - mu).norm()
    paper = (oracles.corrected(members, 1.0) - mu).norm()
    assert official > (members[0] - mu).norm() > paper


def test_the_update_survives_fewer_members_than_dimensions():
    members = torch.randn(2, 1, 20, generator=torch.Generator().manual_seed(0))
    assert torch.isfinite(correct(members)).all()


def starts(monkeypatch, pool, budget, **options):
    """How many members a selection optimises."""
    from vecaf_lib import official

    count, original = [], official.start
    monkeypatch.setattr(official, "start", lambda *a, **k: count.append(1) or original(*a, **k))
    generator = torch.Generator().manual_seed(0)
    load("ods_official").select(pool, budget, generator=generator, iterations=1, **options)
    return len(count)


@pytest.mark.parametrize(("budget", "members"), [(1, 10), (2, 5), (3, 3), (5, 2), (10, 1), (50, 1)])
def test_members_are_ten_over_the_percentage(monkeypatch, make_pool, budget, members):
    assert starts(monkeypatch, make_pool(n=100), budget) == members
    assert starts(monkeypatch, make_pool(n=100), budget, ensemble=4) == 4


def test_the_first_member_is_discarded():
    """After next to no descent, two members give what the second draw of centroids gives."""
    pool = Pool(20, embeddings=torch.eye(20), losses=torch.ones(20))
    generator = torch.Generator().manual_seed(0)
    torch.randperm(20, generator=generator)
    second = torch.randperm(20, generator=generator)[:6]
    chosen = load("ods_official").select(
        pool, 6, generator=torch.Generator().manual_seed(0), iterations=1, ensemble=2
    )
    assert torch.equal(chosen, second)


def test_a_uniform_weight_is_activeft(make_pool):
    pool = make_pool()
    flat = Pool(pool.size, embeddings=pool.embeddings, losses=torch.zeros(pool.size))
    options = {"iterations": 50, "learning_rate": 1e-2, "tolerance": 0.0}
    seeds = [torch.Generator().manual_seed(1) for _ in range(2)]
    theirs = load("activeft").select(flat, 6, generator=seeds[0], **options)
    ours = load("ods_official").select(
        flat, 6, generator=seeds[1], weight="exp", ensemble=1, **options
    )
    assert torch.equal(theirs, ours)


def test_augmentation_overshoots_the_text():
    draw = torch.Generator().manual_seed(0)
    e, t = torch.randn(400, 6, generator=draw), torch.randn(400, 6, generator=draw)
    noise = augment(e, t, generator=draw) - (1.2 * t - 0.2 * e)
    assert 0.0008 < noise.std().item() < 0.0012
    expected = oracles.equation_9(e, t, [1.0] * 400, 1.2)  # alpha = 1, eta = 1.2
    torch.testing.assert_close(1.2 * t - 0.2 * e, expected)


def test_selection_sees_augmented_embeddings_and_finetuning_plain_ones():
    draw = torch.Generator().manual_seed(0)
    e, t = torch.randn(30, 6, generator=draw), torch.randn(30, 6, generator=draw)
    official = OfficialAugmentation(t, seed=0, bridge="identity")
    seen = official.pool(e)  # in the first loop already, and every sample
    scaled = t * (e.norm(dim=1) / t.norm(dim=1)).unsqueeze(1)
    torch.testing.assert_close(seen, 1.2 * scaled - 0.2 * e, atol=0.01, rtol=0)
    assert official.fit(e, torch.arange(5)) is None
    assert official.told["form"] == "official"
    assert official.told["relative_move"] > 0.5
    paper = Augmentation(t, seed=0, bridge="identity")
    assert torch.equal(paper.pool(e), e)
    assert paper.fit(e, torch.arange(5)) is not None


def test_augmentation_is_seeded():
    draw = torch.Generator().manual_seed(0)
    e, t = torch.randn(30, 6, generator=draw), torch.randn(30, 6, generator=draw)
    one, two, three = (OfficialAugmentation(t, seed=s, bridge="identity") for s in (0, 0, 1))
    assert torch.equal(one.pool(e), two.pool(e))
    assert not torch.equal(one.pool(e), three.pool(e))
