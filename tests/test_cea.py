"""Cross-attentive embedding augmentation: equations 8 and 9, and its life over the loops."""

import warnings
from pathlib import Path

import oracles
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small import seeded

from vecaf_lib.captions.attributes import AttributeCaptioner
from vecaf_lib.cea import (
    Augmentation,
    OfficialAugmentation,
    attention,
    augment,
    fit_bridge,
    relative_move,
    rescale,
)
from vecaf_lib.data.load import load
from vecaf_lib.evaluation import embed_pool
from vecaf_lib.models.text import encode
from vecaf_lib.models.vision import PVM, load_backbone

DATA = Path(__file__).parents[1] / "data"


def pair(k=12, d=5, seed=0):
    draw = seeded(seed)
    return torch.randn(k, d, generator=draw), torch.randn(k, d, generator=draw)


pairs = st.builds(pair, st.integers(1, 30), st.integers(1, 6), st.integers(0, 1000))


@given(pairs)
def test_equation_8_against_the_oracle(both):
    e, t = both
    expected = torch.tensor(oracles.equation_8(e, t))
    torch.testing.assert_close(attention(e, t, form="literal"), expected)
    torch.testing.assert_close(attention(e, t, form="scaled"), expected * len(e))


@given(pairs, st.floats(0, 2))
def test_equation_9_against_the_oracle(both, eta):
    e, t = both
    alpha = attention(e, t)
    expected = oracles.equation_9(e, t, alpha.tolist(), eta)
    torch.testing.assert_close(augment(e, t, alpha, eta=eta), expected)


CHOSEN = torch.tensor([7, 0, 19, 3, 11])


def pool(n=40, d=5, d_text=3, seed=0):
    draw = seeded(seed)
    return torch.randn(n, d, generator=draw), torch.randn(n, d_text, generator=draw)


def by_hand(e, text, chosen=CHOSEN, eta=0.2, image=None):
    """e_aug of the chosen samples, with the default ridge bridge and rescaled text."""
    t = rescale(fit_bridge("ridge", text, e, ridge=0.1, generator=seeded(0))(text), e)
    alpha = [a * len(chosen) for a in oracles.equation_8(e[chosen], t[chosen])]
    live = e[chosen] if image is None else image
    return oracles.equation_9(live, t[chosen], alpha, eta)


def test_training_sees_equation_9_of_the_selection_with_alpha_and_t_fixed_and_e_live():
    e, text = pool()
    lift = Augmentation(text, seed=0).fit(e, CHOSEN)
    at = torch.tensor([3, 0, 0])  # positions in the selection, a batch may repeat one
    torch.testing.assert_close(lift(e[CHOSEN][at], at), by_hand(e, text)[at])
    live, _ = pool(seed=5)  # the same images under later weights
    expected = by_hand(e, text, image=live[CHOSEN])
    torch.testing.assert_close(lift(live[CHOSEN], torch.arange(5)), expected)


def test_gradients_flow_into_e_and_through_neither_alpha_nor_t():
    e, text = pool()
    cea = Augmentation(text, seed=0)
    lift = cea.fit(e, CHOSEN)
    live = e[CHOSEN].clone().requires_grad_()
    lift(live, torch.arange(5)).sum().backward()
    t = rescale(fit_bridge("ridge", text, e, generator=seeded(0))(text), e)
    alpha = 5 * torch.tensor(oracles.equation_8(e[CHOSEN], t[CHOSEN]))
    # were alpha or t's norm taken from the live e, their derivatives would be added
    torch.testing.assert_close(live.grad, (1 - 0.2 * alpha).unsqueeze(1).expand(5, 5))
    assert not any(kept.requires_grad for kept in cea.previous)


def test_finetuning_on_plain_embeddings_is_a_switch():
    e, text = pool()
    cea = Augmentation(text, seed=0, finetune_augmented=False)
    assert cea.fit(e, CHOSEN) is None
    assert cea.record["relative_move"] > 0
    assert not torch.equal(cea.pool(e), e)  # the next selection still sees the selected augmented
    never = Augmentation(text, seed=0, pool_scope="none")
    never.fit(e, CHOSEN)
    assert torch.equal(never.pool(e), e)


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
    bridge = fit_bridge("ridge", text, source, ridge=0.1, generator=seeded(0))
    torch.testing.assert_close(cea.previous[1], bridge(text)[CHOSEN])


@pytest.mark.parametrize("wish", [True, False])
def test_text_takes_the_norm_of_its_image_only_if_wished(wish):
    e, text = pool()
    cea = Augmentation(100 * text, seed=0, bridge="random", rescale_text=wish)
    cea.fit(e, CHOSEN)
    assert torch.allclose(cea.previous[1].norm(dim=1), e[CHOSEN].norm(dim=1)) is wish


def test_the_random_bridge_is_the_same_in_every_loop_of_a_seed_and_differs_between_seeds():
    e, text = pool()
    made = []
    for seed in (0, 0, 1):
        cea = Augmentation(text, seed=seed, bridge="random")
        for _ in range(2):
            cea.fit(e, CHOSEN)
            made.append(cea.previous[1])
    assert all(torch.equal(made[0], other) for other in made[1:4])
    assert not torch.equal(made[0], made[4])


def test_the_literal_form_warns_that_it_does_nothing_and_the_scaled_one_does_not():
    e, text = pool(n=400)
    literal = Augmentation(text, seed=0, form="literal", eta=1.0)
    with pytest.warns(UserWarning, match=r"by 0\.\d\d% .*form 'literal'"):
        literal.fit(e, torch.arange(400))
    assert literal.record["relative_move"] < 0.01
    scaled = Augmentation(text, seed=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scaled.fit(e, CHOSEN)
    moved = pytest.approx(relative_move(e[CHOSEN], by_hand(e, text)), rel=1e-5)
    assert scaled.record == {"relative_move": moved, "form": "scaled", "eta": 0.2}


def test_equal_captions_leave_everything_finite():
    """An empty vocabulary, or the target-domain sentence alone: the bridge has nothing to fit."""
    e, _ = pool()
    for kind in ("ridge", "procrustes", "random"):
        cea = Augmentation(torch.ones(40, 3), seed=0, bridge=kind)
        lift = cea.fit(e, CHOSEN)
        assert torch.isfinite(lift(e[CHOSEN], torch.arange(5))).all()


def test_official_overshoots_the_text_for_the_whole_pool_and_trains_on_plain_images():
    e, text = pair(400, 6)
    cea = OfficialAugmentation(text, seed=0, bridge="identity")
    augmented = cea.pool(e)  # in the first loop already, and every sample
    t = rescale(text, e)
    noise = augmented - oracles.equation_9(e, t, [1.0] * 400, 1.2)  # alpha = 1, eta = 1.2
    torch.testing.assert_close(noise, augmented - (1.2 * t - 0.2 * e))
    assert 0.0008 < noise.std().item() < 0.0012
    assert cea.fit(e, torch.arange(5)) is None
    assert (cea.record["form"], cea.record["eta"]) == ("official", 1.2)
    assert cea.record["relative_move"] > 0.5


def test_official_may_begin_in_the_second_loop():
    e, text = pair(40, 6)
    cea = OfficialAugmentation(text, seed=0, bridge="identity", first_loop=False)
    assert torch.equal(cea.pool(e), e)
    assert cea.record["relative_move"] == 0
    cea.fit(e, torch.arange(5))
    at_once = OfficialAugmentation(text, seed=0, bridge="identity").pool(e)
    assert torch.equal(cea.pool(e), at_once)
    assert cea.record["relative_move"] > 0.5


# a prompt that all captions share


@pytest.fixture(scope="module")
def prompted():
    """Embeddings of digits, and of what is said of them, without and with a prompt."""
    images = load("digits", "validation", image_size=32, data=DATA).images
    backbone = load_backbone("tf_efficientnet_lite0", weights="package")
    e, _ = embed_pool(PVM(backbone, 10, generator=seeded(0)), images)
    captions = AttributeCaptioner(pool_images=images)(images[:])
    plain = encode(captions, name="minilm")
    return e, plain, encode([f"{c} It's a snowy day." for c in captions], name="minilm")


@pytest.mark.parametrize("kind", ["ridge", "procrustes"])
def test_a_prompt_moves_what_is_mapped_as_far_as_an_uncentred_bridge_moves_it(prompted, kind):
    e, plain, text = prompted

    def shift(kind, source):
        """How far the prompt moves the mean of the mapped texts, in lengths of an embedding."""
        bridge = fit_bridge(kind, source, e, generator=seeded(0))
        moved = rescale(bridge(text), e).mean(0) - rescale(bridge(plain), e).mean(0)
        return float(moved.norm() / e.norm(dim=1).mean())

    assert shift(kind, plain) > 0.5 * shift("random", plain)
    # what a run sees: fitted on captions that have the prompt, it is lost
    moves = []
    for source in (plain, text):
        cea = Augmentation(text, plain_text=source, seed=0, bridge=kind, pool_scope="all")
        seen = cea.pool(e)
        cea.fit(e, CHOSEN)
        bare = Augmentation(plain, seed=0, bridge=kind, pool_scope="all").pool(e)
        moves.append((relative_move(bare, seen), cea.record["prompt_move"]))
    assert moves[0][0] > 0.05
    assert moves[0][1] > 0.05
    assert moves[1][0] < 0.02
    assert moves[1][1] < 1e-6


def test_the_prompt_s_move_is_between_two_equations_9():
    e, text = pool()
    prompt = text + torch.tensor([3.0, 0, -1])
    cea = Augmentation(prompt, plain_text=text, seed=0)
    cea.fit(e, CHOSEN)
    bridge = fit_bridge("ridge", text, e, ridge=0.1, generator=seeded(0))
    ends = []
    for t in (rescale(bridge(prompt), e)[CHOSEN], rescale(bridge(text), e)[CHOSEN]):
        alpha = [5 * a for a in oracles.equation_8(e[CHOSEN], t)]
        ends.append(oracles.equation_9(e[CHOSEN], t, alpha, 0.2))
    expected = float(((ends[0] - ends[1]).norm(dim=1) / e[CHOSEN].norm(dim=1)).mean())
    assert cea.record["prompt_move"] == pytest.approx(expected, rel=1e-5)
    plain = Augmentation(text, seed=0)
    plain.fit(e, CHOSEN)
    assert "prompt_move" not in plain.record
