"""Language encoders of the transformers library: BERT, the encoder of mT5, GPT-2."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from transformers import AutoConfig, AutoTokenizer, BertModel, GPT2Model, MT5EncoderModel

from vecaf_lib.encoders._quiet import quiet
from vecaf_lib.encoders.text_checkpoint import refuse_unfit
from vecaf_lib.encoders.text_pooling import POOLINGS
from vecaf_lib.encoders.text_registry import TextEncoderKind
from vecaf_lib.errors import BadInput

CLASSES: dict[str, tuple[Any, dict[str, Any]]] = {
    "bert": (BertModel, {"add_pooling_layer": False}),
    "mt5": (MT5EncoderModel, {}),
    "gpt2": (GPT2Model, {}),
}
# Heads, the decoder of mT5, and constants that older checkpoints kept: no part of an encoder.
NOT_NEEDED = re.compile(
    r"(^|\.)pooler\.|^cls\.|^classifier\.|^qa_outputs\.|position_ids$"
    r"|^decoder\.|^lm_head\.|\.attn\.(masked_)?bias$|^score\."
)


class TransformersEncoder:
    """A tokenizer and a model of the transformers library, frozen, in float32."""

    def __init__(self, kind: TextEncoderKind, folder: Path, device: torch.device) -> None:
        with quiet(), torch.random.fork_rng(devices=[]):
            config = _read("configuration", folder, AutoConfig)
            if config.model_type != kind.model_type:
                raise BadInput(
                    f"text.weights: {folder} holds a model of type {config.model_type!r}; "
                    f"right is {kind.model_type!r}."
                )
            self._tokenizer = _read("tokenizer", folder, AutoTokenizer)
            architecture, options = CLASSES[kind.model_type]
            model, keys = _read(
                "model",
                folder,
                architecture,
                dtype=torch.float32,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # so that they are named, below
                weights_only=True,
                **options,
            )
        refuse_unfit(
            folder,
            missing=keys["missing_keys"],
            surplus=(key for key in keys["unexpected_keys"] if not NOT_NEEDED.search(key)),
            unlike=(name for name, *_ in keys["mismatched_keys"]),
        )
        if len(self._tokenizer) > config.vocab_size:
            raise BadInput(
                f"text.weights: the tokenizer of {folder} has {len(self._tokenizer)} tokens, its "
                f"model {config.vocab_size}; they do not belong together."
            )
        self._model = model.eval().requires_grad_(False).to(device)
        self._device = device
        positions = getattr(config, "max_position_embeddings", None)  # mT5's are relative
        self.limit = min(kind.max_tokens, positions or kind.max_tokens)

    def tokenize(self, captions: Sequence[str], limit: int) -> tuple[list[list[int]], list[int]]:
        """Token ids of each caption, at most ``limit``; and the indices of those that were cut."""
        ids = self._tokenizer(list(captions), truncation=False, verbose=False)["input_ids"]
        long = [index for index, row in enumerate(ids) if len(row) > limit]
        if long:
            texts = [captions[index] for index in long]
            short = self._tokenizer(texts, truncation=True, max_length=limit)["input_ids"]
            for index, row in zip(long, short, strict=True):
                ids[index] = row
        return ids, long

    def embed(
        self, tokens: Int64[Tensor, "b t"], real: Bool[Tensor, "b t"], pooling: str
    ) -> Float[Tensor, "b d"]:
        """Embed one batch, padded on the right; ``real`` says which tokens are no padding."""
        tokens, real = tokens.to(self._device), real.to(self._device)
        states = self._model(input_ids=tokens, attention_mask=real.long()).last_hidden_state
        return POOLINGS[pooling](states, real).float().cpu()


def _read(what: str, folder: Path, loader: Any, **options: Any) -> Any:
    """Call the library's ``from_pretrained``; whatever it raises becomes one sentence."""
    try:
        return loader.from_pretrained(folder, local_files_only=True, **options)
    except Exception as error:  # a damaged file raises many kinds
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise BadInput(f"text.weights: {folder} has no readable {what} ({reason}).") from error
