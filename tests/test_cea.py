"""Cross-attentive embedding augmentation: equations 8 and 9, and its life over the loops."""

import math
import warnings

import oracles
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vecaf_lib.cea import Augmentation, attention, augment, relative_move
from vecaf_lib.encoders.bridge import fit_bridge, rescale


def pair(k=12, d=5, seed=0):
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(k, d, generator=draw), torch.randn(k, d, generator=draw)


pairs = st.builds(pair, st.integers(1, 30), st.integers(1, 6), st.integers(0, 1000))


@given(pairs)
def test_equation_8_against_the_oracle(both):
    e, t = both
    expected = torch.tensor(oracles.equation_8(e, t))
    torch.testing.assert_close(attention(e, t, form="literal"), expected)
    torch.testing.assert_close(attention(e, t, form="scaled"), expected * len(e))


@given(pairs)
def test_alpha_sums_to_1_or_has_mean_1_and_is_bounded(both):
    literal, scaled = (attention(*both, form=form) for form in ("literal", "scaled"))
    assert literal.sum().item() == pytest.approx(1, abs=1e-5)
    assert scaled.mean().item() == pytest.approx(1, abs=1e-5)
    assert (literal > 0).all()
    assert (literal <= math.e**2 / len(literal) * (1 + 1e-5)).all()


def test_a_caption_that_agrees_better_moves_its_sample_more():
    e = torch.eye(2)[[0, 0, 0]]
    t = torch.tensor([[-1.0, 0], [1, 1], [2, 0]])
    alpha = attention(e, t, form="literal")
    assert (alpha.diff() > 0).all()
    torch.testing.assert_close(attention(e, 7 * t, form="literal"), alpha)  # a cosine


@given(pairs, st.floats(0, 2))
def test_equation_9_against_the_oracle(both, eta):
    e, t = both
    alpha = attention(e, t)
    expected = oracles.equation_9(e, t, alpha.tolist(), eta)
    torch.testing.assert_close(augment(e, t, alpha, eta=eta), expected)


@given(pairs)
def test_eta_0_changes_nothing(both):
    e, t = both
    assert torch.equal(augment(e, t, attention(e, t), eta=0.0), e)


@given(pairs)
def test_alpha_eta_1_is_the_text(both):
    e, t = both
    torch.testing.assert_close(augment(e, t, torch.ones(len(e)), eta=1.0), t)


def test_eta_is_the_mean_fraction_moved_in_the_scaled_form():
    e, t = pair(200)
    moved = augment(e, t, attention(e, t), eta=0.2)
    fractions = (moved - e).norm(dim=1) / (t - e).norm(dim=1)
    assert fractions.mean().item() == pytest.approx(0.2, abs=1e-5)


def test_relative_move():
    e = torch.tensor([[3.0, 4.0], [0.0, 2.0]])
    assert relative_move(e, e + torch.tensor([[0.0, 1.0], [1.0, 0.0]])) == pytest.approx(0.35)


CHOSEN = torch.tensor([7, 0, 19, 3, 11])


def pool(n=40, d=5, d_text=3, seed=0):
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(n, d, generator=draw), torch.randn(n, d_text, generator=draw)


def by_hand(e, text, chosen=CHOSEN, eta=0.2, image=None):
    """e_aug of the chosen samples, with the default ridge bridge and rescaled text."""
    t = rescale(fit_bridge("ridge", text, e, ridge=0.1, generator=torch.Generator())(text), e)
    alpha = [a * len(chosen) for a in oracles.equation_8(e[chosen], t[chosen])]
    live = e[chosen] if image is None else image
    return oracles.equation_9(live, t[chosen], alpha, eta)


def test_training_sees_equation_9_of_the_selection():
    e, text = pool()
    lift = Augmentation(text, seed=0).fit(e, CHOSEN)
    at = torch.tensor([3, 0, 0])  # positions in the selection, a batch may repeat one
    torch.testing.assert_close(lift(e[CHOSEN][at], at), by_hand(e, text)[at])


def test_alpha_and_t_stay_fixed_while_e_is_live():
    e, text = pool()
    lift = Augmentation(text, seed=0).fit(e, CHOSEN)
    live, _ = pool(seed=5)  # the same images under later weights
    expected = by_hand(e, text, image=live[CHOSEN])
    torch.testing.assert_close(lift(live[CHOSEN], torch.arange(5)), expected)


def test_gradients_flow_into_e_and_through_neither_alpha_nor_t():
    e, text = pool()
    cea = Augmentation(text, seed=0)
    lift = cea.fit(e, CHOSEN)
    live = e[CHOSEN].clone().requires_grad_()
    lift(live, torch.arange(5)).sum().backward()
    t = rescale(fit_bridge("ridge", text, e, generator=torch.Generator())(text), e)
    alpha = 5 * torch.tensor(oracles.equation_8(e[CHOSEN], t[CHOSEN]))
    # were alpha or t's norm taken from the live e, their derivatives would be added
    torch.testing.assert_close(live.grad, (1 - 0.2 * alpha).unsqueeze(1).expand(5, 5))
    assert not any(kept.requires_grad for kept in cea.last)


def test_pool_measured_in_inference_mode_still_trains():
    with torch.inference_mode():
        e, text = pool()
    lift = Augmentation(text, seed=0).fit(e, CHOSEN)
    live = torch.randn(5, 5, generator=torch.Generator().manual_seed(1), requires_grad=True)
    lift(live, torch.arange(5)).square().sum().backward()
    assert torch.isfinite(live.grad).all()


def test_finetuning_on_plain_embeddings_is_a_switch():
    e, text = pool()
    cea = Augmentation(text, seed=0, finetune_augmented=False)
    assert cea.fit(e, CHOSEN) is None
    assert cea.told["relative_move"] > 0
    assert not torch.equal(cea.pool(e), e)  # the next selection still sees the selected augmented


def test_scope_none_never_shows_augmented_embeddings():
    e, text = pool()
    cea = Augmentation(text, seed=0, pool_scope="none")
    assert torch.equal(cea.pool(e), e)
    cea.fit(e, CHOSEN)
    assert torch.equal(cea.pool(e), e)


def test_scope_selected_shows_them_for_what_was_selected_from_the_second_loop_on():
    e, text = pool()
    cea = Augmentation(text, seed=0)
    assert torch.equal(cea.pool(e), e)
    cea.fit(e, CHOSEN)
    later, _ = pool(seed=5)  # the second loop's weights
    untouched = later.clone()
    seen = cea.pool(later)
    assert torch.equal(later, untouched)
    torch.testing.assert_close(seen[CHOSEN], by_hand(e, text, image=later[CHOSEN]))
    rest = [i for i in range(40) if i not in CHOSEN.tolist()]
    assert torch.equal(seen[rest], later[rest])


def test_scope_all_shows_the_whole_pool_augmented_in_every_loop():
    e, text = pool()
    cea = Augmentation(text, seed=0, pool_scope="all")
    everyone = torch.arange(40)
    torch.testing.assert_close(cea.pool(e), by_hand(e, text, chosen=everyone))
    lift = cea.fit(e, CHOSEN)  # and alpha of the selection runs over the selection
    torch.testing.assert_close(lift(e[CHOSEN], torch.arange(5)), by_hand(e, text))


@pytest.mark.parametrize("refit", [True, False])
def test_the_bridge_is_fitted_anew_in_each_loop_or_once(refit):
    e, text = pool()
    later, _ = pool(seed=5)
    cea = Augmentation(text, seed=0, refit_bridge=refit, rescale_text=False, eta=1.0)
    cea.fit(e, CHOSEN)
    cea.fit(later, CHOSEN)
    source = later if refit else e
    bridge = fit_bridge("ridge", text, source, ridge=0.1, generator=torch.Generator())
    torch.testing.assert_close(cea.last[1], bridge(text)[CHOSEN])


@pytest.mark.parametrize("wish", [True, False])
def test_text_takes_the_norm_of_its_image_only_if_wished(wish):
    e, text = pool()
    cea = Augmentation(100 * text, seed=0, bridge="random", rescale_text=wish)
    cea.fit(e, CHOSEN)
    assert torch.allclose(cea.last[1].norm(dim=1), e[CHOSEN].norm(dim=1)) is wish


def test_the_random_bridge_is_the_same_in_every_loop_of_a_seed_and_differs_between_seeds():
    e, text = pool()
    made = []
    for seed in (0, 0, 1):
        cea = Augmentation(text, seed=seed, bridge="random")
        for _ in range(2):
            cea.fit(e, CHOSEN)
            made.append(cea.last[1])
    assert all(torch.equal(made[0], other) for other in made[1:4])
    assert not torch.equal(made[0], made[4])


def test_the_literal_form_warns_that_it_does_nothing():
    e, text = pool(n=400)
    cea = Augmentation(text, seed=0, form="literal", eta=1.0)
    with pytest.warns(UserWarning, match=r"CEA moves embeddings by 0\.\d\d%.*form 'literal'"):
        cea.fit(e, torch.arange(400))
    assert cea.told["relative_move"] < 0.01


def test_the_scaled_form_does_not_warn_and_tells_how_far_it_moved():
    e, text = pool()
    cea = Augmentation(text, seed=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cea.fit(e, CHOSEN)
    expected = relative_move(e[CHOSEN], by_hand(e, text))
    assert cea.told == {
        "relative_move": pytest.approx(expected, rel=1e-5),
        "form": "scaled",
        "eta": 0.2,
    }


def test_equal_captions_leave_everything_finite():
    """An empty vocabulary, or the target-domain sentence alone: the bridge has nothing to fit."""
    e, _ = pool()
    for kind in ("ridge", "procrustes", "random"):
        cea = Augmentation(torch.ones(40, 3), seed=0, bridge=kind)
        lift = cea.fit(e, CHOSEN)
        assert torch.isfinite(lift(e[CHOSEN], torch.arange(5))).all()
