"""The frozen language encoder LM(.): captions in, text embeddings t out (Algorithm 1, line 5)."""

import warnings
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from vecaf_lib.encoders.text_download import download
from vecaf_lib.encoders.text_files import available, commit, locate
from vecaf_lib.encoders.text_pooling import batches_by_length, padded
from vecaf_lib.encoders.text_registry import TEXT_ENCODERS, text_encoder_kind
from vecaf_lib.errors import BadInput
from vecaf_lib.precision import AnyPrecision, autocast, resolve

__all__ = [
    "TEXT_ENCODERS",
    "available",
    "commit",
    "download",
    "encode",
    "load_text_encoder",
    "width_of",
]

LEAST_TOKENS = 3  # a beginning, an end, and one between


@runtime_checkable
class TextEncoder(Protocol):
    """A frozen language encoder with its tokenizer."""

    limit: int  # tokens, special ones included

    def tokenize(self, captions: Sequence[str], limit: int) -> tuple[list[list[int]], list[int]]:
        """Token ids of each caption, at most ``limit``; and the indices of those that were cut."""

    def embed(
        self, tokens: Int64[Tensor, "b t"], real: Bool[Tensor, "b t"], pooling: str
    ) -> Float[Tensor, "b d"]:
        """Embed one batch, padded on the right; ``real`` says which tokens are no padding."""


def load_text_encoder(
    name: str,
    *,
    weights: str = "package",
    model: str | None = None,
    revision: str | None = None,
    device: str | torch.device = "cpu",
) -> TextEncoder:
    """Load the language encoder ``name``; the last one loaded is kept. No network is used.

    Args:
        name: see ``TEXT_ENCODERS``.
        weights: ``package``; ``hub``, the local cache of the Hugging Face hub; or a path: the
            folder of a saved model, for CLIP a file of weights as well.
        model: another model of the same kind: its id on the hub, for CLIP open_clip's
            ``architecture:tag``.
        revision: branch, tag or commit on the hub.
        device: where it computes.

    Raises:
        BadInput: unknown name; files that are missing, damaged or of another model.
    """
    kind = text_encoder_kind(name)
    if kind.source == "hashing":
        raise BadInput(f"text.name: {name!r} has no model that could be loaded.")
    place = locate(name, weights, model, revision)
    return _load(name, place, model or kind.model, torch.device(device))


def width_of(name: str, width: int = 768) -> int:
    """Width of the embeddings of ``name``, without loading it; ``width`` is that of ``hashed``."""
    return text_encoder_kind(name).width or width


@lru_cache(maxsize=1)
def _load(name: str, place: Path, model: str, device: torch.device) -> TextEncoder:
    # Each of the two libraries takes seconds to import, and only one of them is needed.
    kind = text_encoder_kind(name)
    if kind.source == "open_clip":
        from vecaf_lib.encoders.text_clip import ClipTextEncoder

        return ClipTextEncoder(model, place, device)
    from vecaf_lib.encoders.text_transformers import TransformersEncoder

    return TransformersEncoder(kind, place, device)


@torch.inference_mode()
def encode(
    captions: Sequence[str],
    *,
    name: str = "minilm",
    weights: str = "package",
    model: str | None = None,
    revision: str | None = None,
    pooling: str | None = None,
    max_tokens: int | None = None,
    batch_size: int = 64,
    width: int = 768,
    seed: int = 0,
    precision: AnyPrecision = "float32",
    device: str | torch.device = "cpu",
    bar: Callable[[list[Any]], Iterable[Any]] | None = None,
) -> Float[Tensor, "n d_text"]:
    """Encode captions with a frozen language encoder, in float32 on the CPU.

    Equal captions are computed once, and captions of like length together; neither changes the
    embeddings beyond rounding (1e-5). Captions longer than the limit are cut, with one warning.

    Args:
        captions: one an image.
        name: see ``TEXT_ENCODERS``, as are the defaults of ``pooling`` and ``max_tokens``.
        weights: see ``load_text_encoder``, also for ``model``, ``revision`` and ``device``.
        model: see there.
        revision: see there.
        pooling: how the states of a caption's tokens become one vector.
        max_tokens: where captions are cut, special tokens included.
        batch_size: captions that are computed together.
        width: of the embeddings of ``hashed``; no other encoder looks at it.
        seed: of the words' vectors of ``hashed``.
        precision: of the encoder's arithmetic; ``auto``: see ``vecaf_lib.precision``.
        device: see there.
        bar: wraps the list of batches, to show progress.

    Raises:
        BadInput: no caption or an empty one, a pooling or limit that the encoder does not have,
            or an encoder that cannot be loaded.
    """
    if not captions:
        raise BadInput("captions: there are none to encode.")
    empty = [index for index, caption in enumerate(captions) if not caption.strip()]
    if empty:
        raise BadInput(f"captions: {len(empty)} are empty, the first at row {empty[0]}.")
    kind = text_encoder_kind(name)
    if kind.source == "hashing":
        from vecaf_lib.encoders.text_hashed import hashed

        return hashed(captions, width=width, seed=seed)
    pooling = pooling or kind.poolings[0]
    if pooling not in kind.poolings:
        raise BadInput(f"text.pooling: {name!r} has {', '.join(kind.poolings)}, not {pooling!r}.")
    encoder = load_text_encoder(
        name, weights=weights, model=model, revision=revision, device=device
    )
    limit = encoder.limit if max_tokens is None else max_tokens
    if not LEAST_TOKENS <= limit <= encoder.limit:
        raise BadInput(f"text.max_tokens: {limit} is not from {LEAST_TOKENS} to {encoder.limit}.")

    row_of = {caption: row for row, caption in enumerate(dict.fromkeys(captions))}
    rows = torch.tensor([row_of[caption] for caption in captions])
    ids, cut = encoder.tokenize(list(row_of), limit)
    if cut:
        number = int(torch.isin(rows, torch.tensor(cut)).sum())
        warnings.warn(
            f"{number} of {len(captions)} captions are longer than {limit} tokens, the limit of "
            f"{name}, and were cut.",
            stacklevel=2,
        )
    batches = batches_by_length([len(row) for row in ids], batch_size)
    parts = []
    for batch in bar(batches) if bar else batches:
        tokens, real = padded([ids[index] for index in batch])  # (b, t), (b, t)
        with autocast(device, resolve(device, precision)):
            parts.append(encoder.embed(tokens, real, pooling).float())  # (b, d_text)
    computed = torch.cat(parts)
    distinct = torch.empty_like(computed)
    distinct[torch.tensor([index for batch in batches for index in batch])] = computed
    t = distinct[rows]  # (n, d_text)
    return torch.nn.functional.normalize(t, dim=1) if kind.unit_length else t
