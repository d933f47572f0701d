"""The frozen language encoder LM(.): captions in, text embeddings t out (Algorithm 1, line 5).

The paper's main encoder is CLIP; BERT, mT5 and GPT-2 are compared. Pooling is our decision: BERT
is better by its mean than by [CLS] (Reimers and Gurevych, 2019), mT5 has no token that stands for
the sentence, and only the last of GPT-2 has read it all. ``hashed`` is a control without meaning.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from vecaf_lib.devices import AnyPrecision, autocast, resolve
from vecaf_lib.errors import BadInput
from vecaf_lib.models import clip
from vecaf_lib.models import weights as files
from vecaf_lib.options import Count, Whole

TOKENIZERS = ("tokenizer.json", "vocab.txt", "spiece.model", "vocab.json")
EXTRAS = ("merges.txt", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
BUCKETS = 2**20  # of 10,000 words, 48 pairs are expected to share a bucket


@dataclass(frozen=True)
class Kind:
    """A language encoder before it is loaded."""

    source: Literal["transformers", "open_clip", "hashing"]  # what builds it
    model: str = ""  # id on the Hugging Face hub, or ``architecture:tag`` of open_clip
    poolings: tuple[str, ...] = ()  # those that make sense for it, the default first
    width: int = 0  # of its embeddings; 0 where the caller chooses it
    max_tokens: int = 0  # special ones included; longer captions are cut
    unit_length: bool = False  # whether its embeddings are divided by their length


TEXT_ENCODERS = {
    "minilm": Kind(
        "transformers", "sentence-transformers/all-MiniLM-L6-v2", ("mean", "cls"), 384, 256, True
    ),
    "clip_vit_l": Kind("open_clip", "ViT-L-14:openai", ("end_of_text",), 768, 77),
    "bert_large": Kind(
        "transformers", "google-bert/bert-large-uncased", ("mean", "cls"), 1024, 512
    ),
    "mt5_large": Kind("transformers", "google/mt5-large", ("mean",), 1024, 512),
    "gpt2_large": Kind("transformers", "openai-community/gpt2-large", ("last", "mean"), 1280, 1024),
    "hashed": Kind("hashing"),
}


def locate(
    name: str,
    weights: str,
    model: str | None = None,
    revision: str | None = None,
    online: bool = False,
) -> Any:
    """Path of the encoder's files, see ``weights.locate``; None for ``hashed``, which has none."""
    kind = TEXT_ENCODERS[name]
    if kind.source == "hashing":
        return None
    if kind.source == "open_clip":
        checkpoint = clip.checkpoint(model or kind.model, weights, revision)
    else:  # without a tokenizer's file no word is known
        own, needs = model or kind.model, (("config.json",), TOKENIZERS)
        checkpoint = files.Checkpoint("text", own, revision, needs=needs, extras=EXTRAS)
    return files.locate(checkpoint, weights, online)


def commit(
    name: str, weights: str, model: str | None = None, revision: str | None = None, **_: Any
) -> str | None:
    """Commit of the hub's files of the encoder ``name`` in the local cache, None for others."""
    place = locate(name, weights, model, revision) if weights == "hub" else None
    # .../snapshots/<commit>[/<file>]
    return place.parts[place.parts.index("snapshots") + 1] if place else None


@lru_cache(maxsize=1)
def load_text_encoder(
    name: str, weights: str, model: str | None, revision: str | None, device: str | torch.device
) -> Any:
    """The encoder ``name``, a ``SentenceEncoder`` or a ``Clip``; the last one loaded is kept."""
    kind, place = TEXT_ENCODERS[name], locate(name, weights, model, revision)
    if kind.source == "open_clip":
        return clip.Clip(model or kind.model, place, device)
    return SentenceEncoder(kind, place, device)


@torch.inference_mode()
def encode(
    captions: Sequence[str],
    *,
    name: str = "minilm",
    weights: str = "package",
    model: str | None = None,
    revision: str | None = None,
    pooling: str | None = None,
    max_tokens: Count | None = None,
    batch_size: Count = 64,
    width: Count = 768,
    seed: Whole = 0,
    precision: AnyPrecision = "float32",
    device: str | torch.device = "cpu",
) -> Float[Tensor, "n d_text"]:
    """Encode captions with a frozen language encoder, in float32 on the CPU.

    Equal captions are computed once, and captions of like length together; neither changes the
    embeddings beyond rounding (1e-5). Captions longer than the limit are cut, with one warning.
    BadInput: an empty caption; a pooling, limit or files that the encoder does not have.

    Args:
        name: see ``TEXT_ENCODERS``, as for the defaults of ``pooling`` and ``max_tokens``.
        weights: ``package``; ``hub``, the local cache of the Hugging Face hub; or a path: the
            folder of a saved model, for CLIP a file of weights as well.
        model, revision: another id on the hub (for CLIP ``architecture:tag``); branch or commit.
        max_tokens: where captions are cut, special tokens included.
        width, seed: of ``hashed``: d_text, and which vectors its words have.
    """
    empty = [index for index, caption in enumerate(captions) if not caption.strip()]
    if empty or not captions:
        raise BadInput(f"captions: {len(empty)} of {len(captions)} are empty, rows {empty[:3]}.")
    kind = TEXT_ENCODERS[name]
    if kind.source == "hashing":
        return hashed(captions, width=width, seed=seed)
    pooling = pooling or kind.poolings[0]
    if pooling not in kind.poolings:
        raise BadInput(f"text.pooling: {name!r} has {', '.join(kind.poolings)}, not {pooling!r}.")
    encoder = load_text_encoder(name, weights, model, revision, device)
    limit = encoder.limit if max_tokens is None else max_tokens
    if not 3 <= limit <= encoder.limit:  # a beginning, an end, and one between
        raise BadInput(f"text.max_tokens: {limit} is not from 3 to {encoder.limit}.")
    distinct = list(dict.fromkeys(captions))
    lengths = dict(zip(distinct, encoder.lengths(distinct, limit), strict=True))
    if cut := sum(lengths[caption] > limit for caption in captions):
        told = f"{cut} of {len(captions)} captions are longer than {limit} tokens"
        warnings.warn(f"{told}, the limit of {name}, and were cut.", stacklevel=2)
    # the longest first: memory that does not suffice shows in the first batch
    distinct.sort(key=lambda caption: -min(lengths[caption], limit))
    with autocast(device, resolve(device, precision)):
        parts = [
            encoder.embed(distinct[at : at + batch_size], limit, pooling).float().cpu()
            for at in range(0, len(distinct), batch_size)
        ]  # (b, d_text) each
    row_of = {caption: row for row, caption in enumerate(distinct)}
    t = torch.cat(parts)[[row_of[caption] for caption in captions]]  # (n, d_text)
    return normalize(t, dim=1) if kind.unit_length else t


class SentenceEncoder:
    """An encoder of transformers and its tokenizer, frozen; ``limit``: of its input, in tokens."""

    def __init__(self, kind: Kind, folder: Path, device: str | torch.device) -> None:
        # here, as it takes seconds and few need it
        from sentence_transformers.sentence_transformer.modules import Transformer

        local = {"local_files_only": True, "trust_remote_code": False}
        options = local | {"dtype": torch.float32, "weights_only": True}
        wrong = f"text.weights: {folder} is no readable model"
        with files.explained(wrong), files.quiet(), torch.random.fork_rng([]):
            module = Transformer(
                str(folder), model_kwargs=options, processor_kwargs=local, config_kwargs=local
            )
            # sentence-transformers draws missing tensors at random and says nothing
            _, report = type(module.model).from_pretrained(
                folder, device_map="meta", output_loading_info=True, **options
            )
            missing = sorted(key for key in report["missing_keys"] if "pooler" not in key)
            if missing or len(module.tokenizer) > module.config.vocab_size:
                raise ValueError(f"it lacks {', '.join(missing) or 'tokens of its tokenizer'}")
        if module.tokenizer.pad_token is None:  # GPT-2's
            module.tokenizer.pad_token = module.tokenizer.eos_token
        self._module, self._device = module.eval().requires_grad_(False).to(device), device
        # mT5's positions are relative
        positions = getattr(module.config, "max_position_embeddings", kind.max_tokens)
        self.limit = min(kind.max_tokens, positions)

    def lengths(self, captions: list[str], limit: int) -> list[int]:
        """Number of tokens of each caption, before it is cut."""
        ids = self._module.tokenizer(captions, truncation=False, verbose=False)["input_ids"]
        return [len(row) for row in ids]

    def embed(self, captions: list[str], limit: int, pooling: str) -> Float[Tensor, "b d"]:
        """Embed one batch of captions, each cut to ``limit`` tokens."""
        from sentence_transformers.sentence_transformer.modules import Pooling

        batch = self._module.preprocess(captions, max_length=limit)
        moved = {k: v.to(self._device) for k, v in batch.items() if torch.is_tensor(v)}
        states = self._module(batch | moved)
        mode = "lasttoken" if pooling == "last" else pooling
        return Pooling(states["token_embeddings"].shape[-1], mode)(states)["sentence_embedding"]


def hashed(captions: Sequence[str], *, width: int, seed: int) -> Float[Tensor, "n d_text"]:
    """The control encoder: bags of words, each with a Gaussian vector of its own; unit length.

    A vector depends on ``seed`` and the word's hash alone; a caption without a word becomes NaN.
    """
    from sklearn.feature_extraction.text import HashingVectorizer

    counts = HashingVectorizer(
        n_features=BUCKETS, token_pattern=r"(?u)\b\w+\b", norm=None, alternate_sign=False
    ).transform(captions)  # (n, buckets), sparse
    used, columns = np.unique(counts.indices, return_inverse=True)
    streams = (np.random.default_rng([seed, int(bucket)]) for bucket in used)
    vectors = np.stack([stream.standard_normal(width) for stream in streams])  # (words, width)
    # a sum a caption, over its words in the order of their buckets, whatever the other captions
    t = torch.empty(len(captions), width)
    for row, (start, stop) in enumerate(pairwise(counts.indptr)):
        bag = counts.data[start:stop] @ vectors[columns[start:stop]]  # (width,)
        t[row] = torch.from_numpy(bag / np.linalg.norm(bag))
    return t
