"""BERT, the encoder of mT5 and GPT-2: tiny ones, saved by the library and loaded by ours.

Their tokenizers are in the three forms in which the real ones come: a vocabulary, a
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
import pytest
import sentencepiece
import torch
from safetensors.torch import load_file, save_file
from tokenizers import ByteLevelBPETokenizer
from torch import Tensor

from vecaf_lib.encoders.text import available, encode, load_text_encoder
from vecaf_lib.errors import BadInput

from transformers import (  # isort: skip  (after vecaf_lib.encoders, which makes it importable)
    AutoTokenizer,
    BertConfig,
    BertForPreTraining,
    GPT2Config,
    GPT2LMHeadModel,
    MT5Config,
    MT5ForConditionalGeneration,
)

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


MAKERS: dict[str, Callable[[Path], None]] = {
    "bert_large": bert,
    "mt5_large": mt5,
    "gpt2_large": gpt2,
}


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


def edit_config(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def edit_weights(folder: Path, edit: Callable[[dict[str, Tensor]], None]) -> None:
    path = folder / "model.safetensors"
    state = load_file(path)
    edit(state)
    save_file(state, path, metadata={"format": "pt"})


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


def states_of(name: str, folder: Path, caption: str) -> tuple[list[str], Tensor]:
    """One caption alone through the library's own model: its tokens and their states."""
    tokenizer, model = whole(name, folder)
    ids = tokenizer(caption)["input_ids"]
    with torch.no_grad():
        states = model(input_ids=torch.tensor([ids])).last_hidden_state[0]
    return tokenizer.convert_ids_to_tokens(ids), states


def average(states: Tensor) -> Tensor:
    total = torch.zeros(WIDTH)
    for state in states:
        total = total + state
    return total / len(states)


@pytest.mark.parametrize(
    ("name", "pooling", "oracle"),
    [
        ("bert_large", None, average),
        ("bert_large", "mean", average),
        ("bert_large", "cls", lambda states: states[0]),
        ("mt5_large", None, average),
        ("gpt2_large", None, lambda states: states[-1]),
        ("gpt2_large", "last", lambda states: states[-1]),
        ("gpt2_large", "mean", average),
    ],
)
def test_pooling_is_that_of_each_caption_alone(
    saved: dict[str, Path], name: str, pooling: str | None, oracle: Callable[[Tensor], Tensor]
) -> None:
    t = encode(CAPTIONS, name=name, weights=str(saved[name]), pooling=pooling, batch_size=4)
    assert t.shape == (len(CAPTIONS), WIDTH)
    assert t.dtype == torch.float32
    assert not t.requires_grad
    for caption, found in zip(CAPTIONS, t, strict=True):
        _, states = states_of(name, saved[name], caption)
        torch.testing.assert_close(found, oracle(states), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("name", "begins", "ends"),
    [("bert_large", "[CLS]", "[SEP]"), ("mt5_large", None, "</s>"), ("gpt2_large", "a", "og")],
)
def test_special_tokens(
    saved: dict[str, Path], name: str, begins: str | None, ends: str | None
) -> None:
    tokens, _ = states_of(name, saved[name], "a dog")
    assert begins is None or tokens[0] == begins
    assert tokens[-1].endswith(ends or "")
    encoder = load_text_encoder(name, weights=str(saved[name]))
    ids, cut = encoder.tokenize(["a dog"], 32)
    assert len(ids[0]) == len(tokens)
    assert cut == []


@pytest.mark.parametrize("name", MAKERS)
def test_neither_padding_nor_order_change_an_embedding(saved: dict[str, Path], name: str) -> None:
    together = encode(CAPTIONS, name=name, weights=str(saved[name]))
    assert not torch.allclose(together[0], together[2], atol=1e-2)
    torch.testing.assert_close(together[0], together[5], atol=0, rtol=0)  # equal captions
    for batch_size in (1, 2):
        parts = encode(CAPTIONS, name=name, weights=str(saved[name]), batch_size=batch_size)
        torch.testing.assert_close(parts, together, atol=1e-5, rtol=0)
    backwards = encode(CAPTIONS[::-1], name=name, weights=str(saved[name])).flip(0)
    torch.testing.assert_close(backwards, together, atol=1e-5, rtol=0)


def test_the_case_of_letters_is_as_the_tokenizer_has_it(saved: dict[str, Path]) -> None:
    t = encode(["dog", "Dog"], name="bert_large", weights=str(saved["bert_large"]))
    torch.testing.assert_close(t[0], t[1])


def test_gpt2_is_causal_and_its_last_token_has_seen_all(saved: dict[str, Path]) -> None:
    captions = ["dog on green grass", "cats on green grass"]
    t = encode(captions, name="gpt2_large", weights=str(saved["gpt2_large"]))
    assert (t[0] - t[1]).abs().max() > 1e-3


@pytest.mark.parametrize(("name", "limit"), [("bert_large", 32), ("gpt2_large", 64)])
def test_long_captions_are_cut_counted_and_told_once(
    saved: dict[str, Path], name: str, limit: int
) -> None:
    long = " ".join(["dog"] * 70)
    captions = [long, "a dog", long + " cats", long]
    with pytest.warns(
        UserWarning,
        match=f"3 of 4 captions are longer than {limit} tokens, the limit of {name}, and were",
    ) as told:
        t = encode(captions, name=name, weights=str(saved[name]), batch_size=1)
    assert len(told) == 1
    torch.testing.assert_close(t[0], t[2])  # what differs lies beyond the limit
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        encode(["a dog"], name=name, weights=str(saved[name]))


def test_a_lower_limit_keeps_the_end_token(saved: dict[str, Path]) -> None:
    encoder = load_text_encoder("bert_large", weights=str(saved["bert_large"]))
    ids, cut = encoder.tokenize(["dog", "two cats sleep near a dog"], 5)
    assert cut == [1]
    assert len(ids[1]) == 5
    assert ids[1][-1] == ids[0][-1]
    with pytest.warns(UserWarning, match="1 of 2 captions are longer than 5 tokens"):
        t = encode(
            ["two cats sleep", "two cats sleep near a dog"],
            name="bert_large",
            weights=str(saved["bert_large"]),
            max_tokens=5,
        )
    torch.testing.assert_close(t[0], t[1])


@pytest.mark.parametrize("limit", [0, 2, 33])
def test_a_limit_beyond_the_models_positions(saved: dict[str, Path], limit: int) -> None:
    with pytest.raises(BadInput, match=rf"text\.max_tokens: {limit} is not from 3 to 32"):
        encode(["dog"], name="bert_large", weights=str(saved["bert_large"]), max_tokens=limit)


def test_mt5_has_relative_positions_and_the_tables_limit(saved: dict[str, Path]) -> None:
    assert load_text_encoder("mt5_large", weights=str(saved["mt5_large"])).limit == 512


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("bert_large", "bert.encoder.layer.1.output.dense.weight"),
        ("mt5_large", "encoder.block.1.layer.0.SelfAttention.q.weight"),
        ("gpt2_large", "transformer.h.1.mlp.c_fc.weight"),
    ],
)
@pytest.mark.parametrize("fault", ["missing", "surplus", "shape"])
def test_a_checkpoint_that_is_not_exactly_the_encoders(
    copy: Callable[[str], Path], name: str, key: str, fault: str
) -> None:
    folder = copy(name)
    beyond = key.replace(".1.", ".7.")

    def spoil(state: dict[str, Tensor]) -> None:
        if fault == "missing":
            del state[key]
        elif fault == "surplus":
            state[beyond] = torch.zeros(2)
        else:
            state[key] = torch.zeros(3, 3)

    edit_weights(folder, spoil)
    short = key.removeprefix("bert.").removeprefix("transformer.")
    says = {
        "missing": f"it lacks {short}",
        "surplus": f"it has besides .*{short.replace('.1.', '.7.')}",
        "shape": f"it has in another shape {short}",
    }[fault]
    with pytest.raises(BadInput, match=rf"text\.weights: .*{name} does not fit .*: {says}\.$"):
        encode(["a dog"], name=name, weights=str(folder))


def test_many_missing_tensors_are_counted(copy: Callable[[str], Path]) -> None:
    folder = copy("bert_large")

    def spoil(state: dict[str, Tensor]) -> None:
        for key in [key for key in state if "layer.0" in key]:
            del state[key]

    edit_weights(folder, spoil)
    with pytest.raises(BadInput, match=r"it lacks (encoder\.layer\.0[^,]*(, )?){3} and 13 more\.$"):
        encode(["a dog"], name="bert_large", weights=str(folder))


def test_names_of_older_checkpoints_are_read(
    saved: dict[str, Path], copy: Callable[[str], Path]
) -> None:
    def age(state: dict[str, Tensor]) -> None:
        for key in list(state):
            for new, old in (("LayerNorm.weight", "gamma"), ("LayerNorm.bias", "beta")):
                if key.endswith(new):
                    state[key.rpartition(".")[0] + f".{old}"] = state.pop(key)
        state["bert.embeddings.position_ids"] = torch.arange(32)

    folder = copy("bert_large")
    edit_weights(folder, age)
    new = encode(CAPTIONS, name="bert_large", weights=str(saved["bert_large"]))
    torch.testing.assert_close(encode(CAPTIONS, name="bert_large", weights=str(folder)), new)


def test_half_precision_and_several_files_are_read(
    saved: dict[str, Path], copy: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = copy("gpt2_large")
    (folder / "model.safetensors").unlink()
    model = GPT2LMHeadModel.from_pretrained(saved["gpt2_large"]).half()
    model.save_pretrained(folder, max_shard_size="20KB")
    parts = sorted(folder.glob("model-*.safetensors"))
    assert len(parts) > 1
    whole = encode(CAPTIONS, name="gpt2_large", weights=str(saved["gpt2_large"]))
    t = encode(CAPTIONS, name="gpt2_large", weights=str(folder))
    assert t.dtype == torch.float32
    torch.testing.assert_close(t, whole, atol=2e-2, rtol=0)
    parts[0].unlink()
    with pytest.raises(BadInput, match=rf"text\.weights: .* lacks {parts[0].name}\."):
        encode(["a dog"], name="gpt2_large", weights=str(folder))


def test_bin_weights_are_read(saved: dict[str, Path], copy: Callable[[str], Path]) -> None:
    folder = copy("mt5_large")
    state = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(state, folder / "pytorch_model.bin")
    t = encode(CAPTIONS, name="mt5_large", weights=str(folder))
    torch.testing.assert_close(
        t, encode(CAPTIONS, name="mt5_large", weights=str(saved["mt5_large"]))
    )


class Burglar:
    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.trace),)


def test_bin_weights_cannot_run_code(copy: Callable[[str], Path], tmp_path: Path) -> None:
    folder = copy("bert_large")
    (folder / "model.safetensors").unlink()
    torch.save({"bert.x": Burglar(tmp_path / "trace")}, folder / "pytorch_model.bin")
    with pytest.raises(BadInput, match=r"text\.weights: .* has no readable model \("):
        encode(["a dog"], name="bert_large", weights=str(folder))
    assert not (tmp_path / "trace").exists()


def test_a_truncated_file(copy: Callable[[str], Path]) -> None:
    folder = copy("gpt2_large")
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(BadInput, match=r"text\.weights: .* has no readable model \(.*\)\.$"):
        encode(["a dog"], name="gpt2_large", weights=str(folder))


def test_a_model_of_another_kind(saved: dict[str, Path]) -> None:
    with pytest.raises(BadInput, match=r"holds a model of type 'gpt2'; right is 'bert'\."):
        encode(["a dog"], name="bert_large", weights=str(saved["gpt2_large"]))


def test_a_damaged_configuration(copy: Callable[[str], Path]) -> None:
    folder = copy("bert_large")
    (folder / "config.json").write_text("{")
    with pytest.raises(BadInput, match=r"text\.weights: .* has no readable configuration \("):
        encode(["a dog"], name="bert_large", weights=str(folder))


def test_no_tokenizer(copy: Callable[[str], Path]) -> None:
    folder = copy("bert_large")
    (folder / "vocab.txt").unlink()
    with pytest.raises(BadInput, match=r"text\.weights: .* has no tokenizer \(tokenizer\.json"):
        encode(["a dog"], name="bert_large", weights=str(folder))


def test_the_tokenizer_of_another_model(copy: Callable[[str], Path]) -> None:
    folder = copy("bert_large")
    with (folder / "vocab.txt").open("a") as file:
        file.write("\none\neleven")
    with pytest.raises(BadInput, match=r"has 26 tokens, its model 24; they do not belong"):
        encode(["a dog"], name="bert_large", weights=str(folder))


@pytest.mark.parametrize(
    ("name", "pooling", "right"),
    [("mt5_large", "cls", "mean"), ("gpt2_large", "cls", "last, mean"), ("minilm", "last", "mean")],
)
def test_a_pooling_that_makes_no_sense(name: str, pooling: str, right: str) -> None:
    with pytest.raises(BadInput, match=rf"text\.pooling: '{name}' has {right}.*, not '{pooling}'"):
        encode(["a dog"], name=name, pooling=pooling)


def test_minilm_from_a_folder_has_unit_length(saved: dict[str, Path]) -> None:
    t = encode(["a dog", "the sea"], name="minilm", weights=str(saved["bert_large"]))
    torch.testing.assert_close(t.norm(dim=1), torch.ones(2))
    u = encode(["a dog", "the sea"], name="bert_large", weights=str(saved["bert_large"]))
    assert (u.norm(dim=1) - 1).abs().max() > 0.1


@pytest.mark.parametrize("revision", [None, "v1.0"])
def test_from_the_hubs_cache_without_a_network(
    saved: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, revision: str | None
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("reached for a network"))
    asked = {
        "name": "bert_large",
        "weights": "hub",
        "model": "someone/tiny-bert",
        "revision": revision,
    }
    at = " at revision v1.0" if revision else ""
    with pytest.raises(BadInput, match=rf"someone/tiny-bert{at} is not in the local cache; `make"):
        encode(["a dog"], **asked)
    place = tmp_path / "models--someone--tiny-bert"
    commit = "0123456789abcdef0123456789abcdef01234567"
    (place / "refs").mkdir(parents=True)
    (place / "refs" / (revision or "main")).write_text(commit)
    shutil.copytree(saved["bert_large"], place / "snapshots" / commit)
    assert available(**asked) is None
    t = encode(["a dog"], **asked)
    torch.testing.assert_close(
        t, encode(["a dog"], name="bert_large", weights=str(saved["bert_large"]))
    )
    (place / "snapshots" / commit / "model.safetensors").unlink()
    missing = available(**asked) or ""
    assert "has no weights (model.safetensors or pytorch_model.bin). `make fetch" in missing


def test_nothing_is_printed_and_logging_is_left_as_it_was(
    copy: Callable[[str], Path], capfd: pytest.CaptureFixture[str]
) -> None:
    from transformers.utils import logging

    folder = copy("mt5_large")  # its decoder is surplus, of which the library would report
    before = logging.is_progress_bar_enabled(), logging.get_verbosity()
    encode(["a dog"], name="mt5_large", weights=str(folder))
    assert capfd.readouterr() == ("", "")
    assert (logging.is_progress_bar_enabled(), logging.get_verbosity()) == before
