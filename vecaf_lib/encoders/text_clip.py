"""The text tower of a CLIP model (Radford et al., ICML 2021), by open_clip.

Its embedding is the state of the end-of-text token after the last layer norm, through CLIP's text
projection: what ``encode_text`` returns. It is not brought to unit length, which is part of CLIP's
loss and not of the tower; equation 9 rescales it anyway, and a linear bridge may use the length.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from open_clip.factory import load_state_dict
from open_clip.model import _build_text_tower  # alone: the image tower is three times its size
from open_clip.tokenizer import SimpleTokenizer
from torch import Tensor, nn
from torch.nn.functional import pad

from vecaf_lib.encoders.text_checkpoint import refuse_unfit
from vecaf_lib.encoders.text_clip_tags import clip_config
from vecaf_lib.encoders.text_files import CLIP_CONFIG, clip_weights
from vecaf_lib.errors import BadInput

BESIDE_THE_TEXT_TOWER = ("visual.", "logit_scale", "logit_bias")


class ClipTextEncoder:
    """CLIP's byte-pair tokenizer and a text tower, frozen, in float32."""

    def __init__(self, model: str, place: Path, device: torch.device) -> None:
        """Load from a folder with ``open_clip_config.json``, or a file of the model ``model``."""
        config = _folder_config(place) if place.is_dir() else clip_config(model)
        file = clip_weights(place) if place.is_dir() else place
        tower = _text_tower(config, place)
        state = _text_state(file)
        own = tower.state_dict()
        refuse_unfit(
            file,
            missing=own.keys() - state.keys(),
            surplus=state.keys() - own.keys(),
            unlike=(key for key in own.keys() & state.keys() if own[key].shape != state[key].shape),
        )
        tower.load_state_dict(state)
        self._tower = tower.eval().requires_grad_(False).to(device)
        self._mask: Any = self._tower.attn_mask  # causal, of the full length; None: it sees padding
        self._device = device
        self._tokenizer = SimpleTokenizer(context_length=tower.context_length)
        self.limit: int = self._tokenizer.context_length

    def tokenize(self, captions: Sequence[str], limit: int) -> tuple[list[list[int]], list[int]]:
        """Token ids of each caption, at most ``limit``; and the indices of those that were cut."""
        start, end = self._tokenizer.sot_token_id, self._tokenizer.eot_token_id
        texts = [self._tokenizer.encode(caption) for caption in captions]
        long = [index for index, ids in enumerate(texts) if len(ids) + 2 > limit]
        return [[start, *ids[: limit - 2], end] for ids in texts], long

    def embed(
        self, tokens: Int64[Tensor, "b t"], real: Bool[Tensor, "b t"], pooling: str
    ) -> Float[Tensor, "b d"]:
        """Embed one batch, padded on the right; the tower finds the end-of-text token itself."""
        tokens = tokens.to(self._device)
        if self._mask is None:
            tokens = pad(tokens, (0, self.limit - tokens.shape[1]))  # (b, limit)
        else:  # nothing sees what comes after it, so that padding need not be computed
            self._tower.attn_mask = self._mask[: tokens.shape[1], : tokens.shape[1]]
        return self._tower(tokens).float().cpu()


def _folder_config(folder: Path) -> dict[str, Any]:
    path = folder / CLIP_CONFIG
    try:
        config = json.loads(path.read_text(encoding="utf-8"))["model_cfg"]
        return {**config, "text_cfg": dict(config["text_cfg"])}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInput(f"text.weights: {path} is no configuration of open_clip.") from error


def _text_tower(config: dict[str, Any], place: Path) -> nn.Module:
    text = config["text_cfg"]
    foreign = text.get("hf_model_name") or text.get("hf_tokenizer_name")
    if foreign:
        raise BadInput(
            f"text.model: the text tower of {place} is made of {foreign!r}; only CLIP's own "
            "architecture and tokenizer can be loaded."
        )
    try:
        with torch.random.fork_rng(devices=[]):
            return _build_text_tower(config["embed_dim"], text, config.get("quick_gelu", False))
    except (AssertionError, KeyError, TypeError, ValueError) as error:
        raise BadInput(f"text.weights: {place} has no valid configuration ({error}).") from error


def _text_state(file: Path) -> dict[str, Tensor]:
    """Tensors of the text tower in ``file``, by the tower's names."""
    try:
        state = load_state_dict(str(file), weights_only=True)
        if not all(isinstance(tensor, Tensor) for tensor in state.values()):
            raise TypeError("it holds other things than tensors")
    except Exception as error:  # a damaged file raises many kinds; OpenAI's own is TorchScript
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise BadInput(f"text.weights: {file} is no readable state_dict ({reason}).") from error
    text = {k: t for k, t in state.items() if not k.startswith(BESIDE_THE_TEXT_TOWER)}
    if any(key.startswith("text.") for key in text):  # the layout of `custom_text`
        return {key.removeprefix("text."): tensor for key, tensor in text.items()}
    return text
