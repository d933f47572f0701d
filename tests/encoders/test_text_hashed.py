"""The control encoder: bags of words in a random basis, and the pooling functions by hand."""

import numpy as np
import pytest
import torch
from sklearn.feature_extraction.text import HashingVectorizer

from vecaf_lib.encoders.text import TEXT_ENCODERS, available, encode, load_text_encoder, width_of
from vecaf_lib.encoders.text_hashed import BUCKETS
from vecaf_lib.encoders.text_pooling import batches_by_length, cls, last, mean, padded
from vecaf_lib.errors import BadInput

A = "a dog runs on grass"


def cosine(first: str, second: str, **options: int) -> float:
    t = encode([first, second], name="hashed", **options)
    return float(t[0] @ t[1])


def test_unit_length_float32_of_the_width_asked_for() -> None:
    t = encode([A, "two cats", A], name="hashed", width=96)
    assert t.shape == (3, 96)
    assert t.dtype == torch.float32
    torch.testing.assert_close(t.norm(dim=1), torch.ones(3))
    assert torch.equal(t[0], t[2])
    assert encode([A], name="hashed").shape == (1, 768)


def test_the_sum_of_its_words_vectors_each_drawn_by_seed_and_bucket() -> None:
    captions = ["dog dog cat", "cat"]
    buckets = {
        word: HashingVectorizer(n_features=BUCKETS, alternate_sign=False).transform([word]).indices
        for word in ("dog", "cat")
    }
    dog, cat = (
        np.random.default_rng([5, int(buckets[word][0])]).standard_normal(32)
        for word in ("dog", "cat")
    )
    by_hand = [bag / np.sqrt((bag**2).sum()) for bag in (2 * dog + cat, cat)]
    t = encode(captions, name="hashed", width=32, seed=5)
    np.testing.assert_allclose(t.numpy(), by_hand, atol=1e-6)


def test_order_case_and_punctuation_do_not_matter_but_numbers_of_words_do() -> None:
    assert cosine(A, "Grass: a RUNS dog, on!") == pytest.approx(1, abs=1e-6)
    assert cosine("dog cat", "dog dog dog cat") < 0.97


def test_neither_the_other_captions_nor_their_order_change_an_embedding() -> None:
    others = [f"number {number} of many" for number in range(20)]
    alone = encode([A], name="hashed")
    assert torch.equal(encode([*others, A], name="hashed")[-1:], alone)
    assert torch.equal(encode([A, *others], name="hashed")[:1], alone)


def test_another_seed_is_another_basis_and_the_same_seed_the_same() -> None:
    zero, one = (encode([A], name="hashed", seed=seed) for seed in (0, 1))
    assert abs(float((zero * one).sum())) < 0.2
    assert torch.equal(encode([A], name="hashed", seed=1), one)


def test_it_knows_no_meaning() -> None:
    """Synonyms are as far apart as any words are; one shared word counts as much as another."""
    wide = {"width": 8192}
    assert abs(cosine("car", "automobile", **wide)) < 0.06
    assert abs(cosine("car", "banana", **wide)) < 0.06
    assert cosine("red car", "red automobile", **wide) == pytest.approx(0.5, abs=0.06)
    assert cosine("red car", "red banana", **wide) == pytest.approx(0.5, abs=0.06)
    assert (
        cosine("car", "automobile", **wide)
        < 0.3
        < float(torch.prod(encode(["car", "automobile"], name="minilm"), dim=0).sum())
    )


def test_a_caption_without_a_word() -> None:
    with pytest.raises(BadInput, match=r"captions: 2 have no word, the first at row 1\."):
        encode([A, "?!", "..."], name="hashed")


def test_one_letter_is_a_word() -> None:
    assert cosine("x", "x") == pytest.approx(1, abs=1e-6)


def test_no_width() -> None:
    with pytest.raises(BadInput, match=r"text\.width: 0 is no width; give 1 or more\."):
        encode([A], name="hashed", width=0)


def test_it_needs_nothing_and_loads_nothing() -> None:
    assert available("hashed", "package") is None
    assert available("hashed", "hub") is None
    with pytest.raises(BadInput, match=r"text\.name: 'hashed' has no model that could be loaded"):
        load_text_encoder("hashed")


def test_widths_are_known_without_loading() -> None:
    assert {name: width_of(name, 96) for name in TEXT_ENCODERS} == {
        "minilm": encode([A], name="minilm").shape[1],
        "clip_vit_l": 768,
        "bert_large": 1024,
        "mt5_large": 1024,
        "gpt2_large": 1280,
        "hashed": encode([A], name="hashed", width=96).shape[1],
    }


def test_poolings_by_hand() -> None:
    states = torch.tensor(
        [[[1.0, 2.0], [3.0, 4.0], [9.0, 9.0]], [[5.0, 6.0], [9.0, 9.0], [9.0, 9.0]]]
    )  # (2, 3, 2)
    real = torch.tensor([[True, True, False], [True, False, False]])
    assert mean(states, real).tolist() == [[2, 3], [5, 6]]
    assert cls(states, real).tolist() == [[1, 2], [5, 6]]
    assert last(states, real).tolist() == [[3, 4], [5, 6]]


def test_padding_is_on_the_right() -> None:
    tokens, real = padded([[7, 8], [9], [0, 0, 0]])
    assert tokens.tolist() == [[7, 8, 0], [9, 0, 0], [0, 0, 0]]
    assert real.tolist() == [[True, True, False], [True, False, False], [True, True, True]]


def test_batches_hold_captions_of_like_length_the_longest_first() -> None:
    assert batches_by_length([3, 9, 3, 1, 9], 2) == [[1, 4], [0, 2], [3]]
    assert batches_by_length([1], 64) == [[0]]
