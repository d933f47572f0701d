"""Language encoders: meaning in the packaged one, tiny BERT, mT5 and GPT-2, and the control.

The tiny ones' tokenizers are in the three forms in which the real ones come: a vocabulary, a
SentencePiece model, and byte pairs with their merges.
"""

import json
import os
import shutil
import warnings
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import pytest
import sentencepiece
import torch
from safetensors.torch import load_file, save_file
from sklearn.feature_extraction.text import HashingVectorizer
from tokenizers import ByteLevelBPETokenizer
from torch import Tensor

from vecaf_lib.errors import BadInput
from vecaf_lib.models.text import BUCKETS, commit, encode, locate

from transformers import (  # isort: skip  (after vecaf_lib.models, which makes it importable)
    AutoTokenizer,
    BertConfig,
    BertForPreTraining,
    GPT2Config,
    GPT2LMHeadModel,
    MT5Config,
    MT5ForConditionalGeneration,
)

THIN = "The image shows a mark drawn with very thin strokes."
ALSO_THIN = "A sign written with a fine, narrow pen."
BOLD = "The image shows a mark drawn with very thick strokes."
UNRELATED = "Stock markets fell sharply on Monday."
DOG = "a dog runs on grass"
SENTENCE = "the image shows a dog on green grass and two cats sleep near an old red car by sea"
WORDS = SENTENCE.split()
CAPTIONS = [
    "a dog",
    "the image shows an old red car near the sea and two cats on the grass",
    "two cats sleep",
    "Dog",
    "the sea",
    "a dog",
]
WIDTH = 16


def bert(folder: Path) -> None:
    folder.mkdir()
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    (folder / "vocab.txt").write_text("\n".join(vocabulary))
    (folder / "tokenizer_config.json").write_text('{"do_lower_case": true}')
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=WIDTH,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=32,
    )
    BertForPreTraining(config).save_pretrained(folder)  # as the hub's: with heads


def mt5(folder: Path) -> None:
    folder.mkdir()
    corpus = folder / "corpus.txt"
    corpus.write_text("\n".join(CAPTIONS * 5))
    sentencepiece.SentencePieceTrainer.train(
        input=str(corpus),
        model_prefix=str(folder / "spiece"),
        vocab_size=60,
        hard_vocab_limit=False,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        minloglevel=2,
    )
    config = MT5Config(
        vocab_size=64,
        d_model=WIDTH,
        d_kv=8,
        d_ff=32,
        num_layers=2,
        num_heads=2,
        tokenizer_class="T5Tokenizer",
    )
    MT5ForConditionalGeneration(config).save_pretrained(folder)  # as the hub's: with a decoder
    special = {"eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
    (folder / "special_tokens_map.json").write_text(json.dumps(special))
    (folder / "tokenizer_config.json").write_text(json.dumps({**special, "extra_ids": 0}))


def gpt2(folder: Path) -> None:
    folder.mkdir()
    tokenizer = ByteLevelBPETokenizer()
    tokenizer.train_from_iterator(CAPTIONS, vocab_size=300, special_tokens=["<|endoftext|>"])
    tokenizer.save_model(str(folder))
    config = GPT2Config(
        vocab_size=300,
        n_embd=WIDTH,
        n_layer=2,
        n_head=2,
        n_positions=64,
        bos_token_id=0,
        eos_token_id=0,
    )
    GPT2LMHeadModel(config).save_pretrained(folder)


MAKERS = {"bert_large": bert, "mt5_large": mt5, "gpt2_large": gpt2}


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("encoders")
    for number, (name, make) in enumerate(MAKERS.items()):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(number)
            make(root / name)
    return {name: root / name for name in MAKERS}


@pytest.fixture
def copy(saved: dict[str, Path], tmp_path: Path) -> Callable[[str], Path]:
    """A copy of a saved model that the test may spoil."""
    return lambda name: Path(shutil.copytree(saved[name], tmp_path / name))


@lru_cache
def whole(name: str, folder: Path) -> tuple[Any, Any]:
    """Tokenizer and that part of the model which was saved in which ours must be found again."""
    kind, part = {
        "bert_large": (BertForPreTraining, "bert"),
        "mt5_large": (MT5ForConditionalGeneration, "encoder"),
        "gpt2_large": (GPT2LMHeadModel, "transformer"),
    }[name]
    with torch.random.fork_rng(devices=[]):
        model = kind.from_pretrained(folder).eval()
    return AutoTokenizer.from_pretrained(folder), getattr(model, part)


def states_of(name: str, folder: Path, caption: str) -> Tensor:
    """States of the tokens of one caption alone, by the library's own model."""
    tokenizer, model = whole(name, folder)
    ids = tokenizer(caption)["input_ids"]
    with torch.no_grad():
        return model(input_ids=torch.tensor([ids])).last_hidden_state[0]


def average(states: Tensor) -> Tensor:
    return sum(states, torch.zeros(WIDTH)) / len(states)


@pytest.mark.parametrize(
    ("name", "pooling", "oracle"),
    [
        ("bert_large", None, average),
        ("bert_large", "cls", lambda states: states[0]),
        ("mt5_large", None, average),
        ("gpt2_large", None, lambda states: states[-1]),
        ("gpt2_large", "mean", average),
    ],
    ids=["bert", "bert cls", "mt5", "gpt2", "gpt2 mean"],
)
def test_pooling_is_that_of_each_caption_alone(
    saved: dict[str, Path], name: str, pooling: str | None, oracle: Callable[[Tensor], Tensor]
) -> None:
    t = encode(CAPTIONS, name=name, weights=str(saved[name]), pooling=pooling, batch_size=4)
    assert t.shape == (len(CAPTIONS), WIDTH)
    assert t.dtype == torch.float32
    assert not t.requires_grad
    for caption, found in zip(CAPTIONS, t, strict=True):
        states = states_of(name, saved[name], caption)
        torch.testing.assert_close(found, oracle(states), atol=1e-5, rtol=0)


@pytest.mark.parametrize(("name", "limit"), [("bert_large", 32), ("gpt2_large", 64)])
def test_long_captions_are_cut_counted_and_told_once(
    saved: dict[str, Path], name: str, limit: int
) -> None:
    long = " ".join(["dog"] * 70)
    captions = [long, "a dog", long + " cats", long]
    with pytest.warns(UserWarning, match=f"3 of 4 .* {limit} tokens, the limit of {name}") as told:
        t = encode(captions, name=name, weights=str(saved[name]), batch_size=1)
    assert len(told) == 1
    torch.testing.assert_close(t[0], t[2])  # what differs lies beyond the limit
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        encode(["a dog"], name=name, weights=str(saved[name]))


def test_bin_weights_cannot_run_code(copy: Callable[[str], Path], tmp_path: Path) -> None:
    class Burglar:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(tmp_path / "trace"),)

    folder = copy("bert_large")
    (folder / "model.safetensors").unlink()
    torch.save({"bert.x": Burglar()}, folder / "pytorch_model.bin")
    with pytest.raises(BadInput, match=r"text\.weights: .* is no readable model") as refused:
        encode(["a dog"], name="bert_large", weights=str(folder))
    assert not (tmp_path / "trace").exists()
    assert "weights_only" not in str(refused.value)  # an advice to run it


@pytest.mark.parametrize("kind", ["bert", "of-its-own"])
def test_code_beside_a_model_is_never_run(
    copy: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    folder = copy("bert_large")
    (folder / "own.py").write_text(f"open({str(tmp_path / 'trace')!r}, 'w')\nConfig = Model = dict")
    config = json.loads((folder / "config.json").read_text()) | {"model_type": kind}
    config["auto_map"] = {"AutoConfig": "own.Config", "AutoModel": "own.Model"}
    (folder / "config.json").write_text(json.dumps(config))
    monkeypatch.setattr("builtins.input", lambda *_: "y")  # whoever is asked may say yes
    if kind == "bert":
        assert encode(["a dog"], name="bert_large", weights=str(folder)).shape == (1, WIDTH)
    else:
        with pytest.raises(BadInput, match="never run") as refused:
            encode(["a dog"], name="bert_large", weights=str(folder))
        assert "trust_remote_code" not in str(refused.value)
    assert not (tmp_path / "trace").exists()


def test_a_pooling_that_makes_no_sense() -> None:
    with pytest.raises(BadInput, match=r"text\.pooling: 'gpt2_large' has last, mean"):
        encode(["a dog"], name="gpt2_large", pooling="cls")


def test_nothing_is_printed_and_logging_is_left_as_it_was(
    copy: Callable[[str], Path], capfd: pytest.CaptureFixture[str]
) -> None:
    from transformers.utils import logging

    folder = copy("mt5_large")  # its decoder is surplus, of which the library would report
    before, state = logging.get_verbosity(), torch.get_rng_state()
    encode(["a dog"], name="mt5_large", weights=str(folder))
    assert capfd.readouterr() == ("", "")
    assert torch.equal(torch.get_rng_state(), state)
    assert logging.get_verbosity() == before


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("bert_large", "bert.encoder.layer.1.output.dense.weight"),
        ("mt5_large", "encoder.block.1.layer.0.SelfAttention.q.weight"),
        ("gpt2_large", "transformer.h.1.mlp.c_fc.weight"),
    ],
)
@pytest.mark.parametrize("fault", ["missing", "shape"])
def test_tensors_that_are_not_the_encoders(
    copy: Callable[[str], Path], name: str, key: str, fault: str
) -> None:
    folder = copy(name)
    state = load_file(folder / "model.safetensors")
    del state[key]
    state |= {key: torch.zeros(3, 3)} if fault == "shape" else {}
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    key = key.removeprefix("bert.").removeprefix("transformer.") if fault == "missing" else ""
    with pytest.raises(BadInput, match=rf"text\.weights: .*{name} is no readable model .*{key}"):
        encode(["a dog"], name=name, weights=str(folder))


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda f: (f / "vocab.txt").unlink(), r"vocab\.txt"),
        (lambda f: (f / "vocab.txt").open("a").write("\none\neleven"), "tokens of its"),
        (lambda f: (f / "config.json").write_text("{"), "no readable model"),
        (lambda f: os.truncate(f / "model.safetensors", 5000), "no readable model"),
    ],
    ids=["no tokenizer", "another tokenizer", "configuration", "cut"],
)
def test_a_damaged_folder(
    copy: Callable[[str], Path], spoil: Callable[[Path], Any], says: str
) -> None:
    folder = copy("bert_large")
    spoil(folder)
    with pytest.raises(BadInput, match=rf"text\.weights: .*{says}"):
        encode(["a dog"], name="bert_large", weights=str(folder))


@pytest.mark.parametrize("revision", [None, "v1.0"])
def test_from_the_hubs_cache_without_a_network(
    saved: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, revision: str | None
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("reached for a network"))
    options = {"name": "bert_large", "weights": "hub", "model": "someone/tiny-bert"}
    options |= {"revision": revision} if revision else {}
    with pytest.raises(BadInput, match=r"someone/tiny-bert.* not whole in .*`make fetch"):
        encode(["a dog"], **options)
    place, at = tmp_path / "models--someone--tiny-bert", "0123456789abcdef0123456789abcdef01234567"
    (place / "refs").mkdir(parents=True)
    (place / "refs" / (revision or "main")).write_text(at)
    shutil.copytree(saved["bert_large"], place / "snapshots" / at)
    assert commit(**options) == at
    t = encode(["a dog"], **options)
    expected = encode(["a dog"], name="bert_large", weights=str(saved["bert_large"]))
    torch.testing.assert_close(t, expected)
    (place / "snapshots" / at / "model.safetensors").unlink()
    with pytest.raises(BadInput, match="is not whole in the local cache"):
        locate(**options)


def test_captions_of_like_meaning_are_near() -> None:
    t = encode([THIN, ALSO_THIN, BOLD, UNRELATED], name="minilm")
    assert t.shape == (4, 384)
    cosine = t @ t.T
    torch.testing.assert_close(cosine.diagonal(), torch.ones(4))
    assert cosine[0, 1] > cosine[0, 3] + 0.3
    assert cosine[0, 2] > cosine[0, 3] + 0.3
    assert cosine[0, 2] < 0.99  # thin and thick are told apart


@pytest.mark.parametrize("captions", [[], [THIN, " \n", THIN, ""]], ids=["none", "empty"])
def test_no_captions_and_empty_ones(captions: list[str]) -> None:
    with pytest.raises(BadInput, match=f"captions: {len(captions) // 2} of {len(captions)} are"):
        encode(captions, name="minilm")


def test_the_sum_of_its_words_vectors_each_drawn_by_seed_and_bucket() -> None:
    captions = ["dog dog cat", "cat"]
    hasher = HashingVectorizer(n_features=BUCKETS, alternate_sign=False)
    buckets = [int(hasher.transform([word]).indices[0]) for word in ("dog", "cat")]
    dog, cat = (np.random.default_rng([5, bucket]).standard_normal(32) for bucket in buckets)
    by_hand = [bag / np.sqrt((bag**2).sum()) for bag in (2 * dog + cat, cat)]
    t = encode(captions, name="hashed", width=32, seed=5)
    assert t.dtype == torch.float32
    np.testing.assert_allclose(t.numpy(), by_hand, atol=1e-6)


def test_neither_the_other_captions_nor_their_order_change_an_embedding() -> None:
    others = [f"number {number} of many" for number in range(20)]
    alone = encode([DOG], name="hashed")
    assert torch.equal(encode([*others, DOG], name="hashed")[-1:], alone)
    assert torch.equal(encode([DOG, *others], name="hashed")[:1], alone)
