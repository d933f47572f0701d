"""Both towers of a CLIP model (Radford et al., ICML 2021): the judge of a style, frozen.

The text tower, and where files are looked for, are those of ``vecaf_lib.encoders``.
"""

import json
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import interpolate, normalize

from vecaf_lib.encoders.text_checkpoint import refuse_unfit
from vecaf_lib.encoders.text_clip_tags import DEFAULT_TAG, clip_config
from vecaf_lib.encoders.text_files import CLIP_CONFIG, clip_weights, locate
from vecaf_lib.encoders.text_files import available as text_available
from vecaf_lib.encoders.text_pooling import padded

CLIP = "clip_vit_l"  # any encoder of open_clip's; the model is named beside it
MODEL = "ViT-B-32:openai"  # theirs


class ClipTowers:
    """CLIP's embeddings of images and texts, unit length; gradients flow to images only.

    Attributes:
        size: height and width in pixels that the image tower takes.
        device: where it computes.
    """

    def __init__(self, model: str, place: Path, device: torch.device) -> None:
        """Load from a folder with ``open_clip_config.json``, or a file of the model ``model``."""
        from open_clip.factory import load_state_dict  # here: it takes seconds
        from open_clip.model import _build_vision_tower

        from vecaf_lib.encoders.text_clip import ClipTextEncoder, _folder_config

        self._text = ClipTextEncoder(model, place, device)
        config = _folder_config(place) if place.is_dir() else clip_config(model)
        vision = {**config["vision_cfg"], "timm_model_pretrained": False}
        with torch.random.fork_rng(devices=[]):
            tower: nn.Module = _build_vision_tower(
                config["embed_dim"], vision, config.get("quick_gelu", False)
            )
        file = clip_weights(place) if place.is_dir() else place
        state = {
            name.removeprefix("visual."): tensor
            for name, tensor in load_state_dict(str(file), weights_only=True).items()
            if name.startswith("visual.")
        }
        own = tower.state_dict()
        refuse_unfit(
            file,
            missing=own.keys() - state.keys(),
            surplus=state.keys() - own.keys(),
            unlike=(key for key in own.keys() & state.keys() if own[key].shape != state[key].shape),
        )
        tower.load_state_dict(state)
        self._tower = tower.eval().requires_grad_(False).to(device)
        self.device = device
        side = vision.get("image_size", 224)
        self.size: int = side if isinstance(side, int) else side[0]
        mean, std = _mean_and_std(model, place)
        self._mean = torch.tensor(mean, device=device).view(1, 3, 1, 1)
        self._std = torch.tensor(std, device=device).view(1, 3, 1, 1)

    def encode_image(self, pixels: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b d"]:
        """Embed images in 0..1, resized to the tower's size (bicubic, antialiased)."""
        pixels = pixels.to(self.device)
        size = (self.size, self.size)
        if pixels.shape[2:] != size:
            pixels = interpolate(
                pixels, size=size, mode="bicubic", antialias=True, align_corners=False
            ).clamp(0, 1)
        return normalize(self._tower((pixels - self._mean) / self._std).float(), dim=1)

    @torch.no_grad()
    def encode_text(self, texts: list[str]) -> Float[Tensor, "n d"]:
        """Embed texts; those longer than the tower's limit are cut."""
        ids, _ = self._text.tokenize(texts, self._text.limit)
        tokens, real = padded(ids)
        return normalize(self._text.embed(tokens, real, "").to(self.device), dim=1)


def load_clip(
    model: str = MODEL, weights: str = "hub", device: str | torch.device = "cpu"
) -> ClipTowers:
    """Load a CLIP model; no network is used.

    Args:
        model: ``architecture:tag`` of open_clip.
        weights: ``hub``, the local cache of the Hugging Face hub; or the path of a saved folder or
            a file of weights.
        device: where it computes.

    Raises:
        BadInput: weights that are missing, damaged or of another model.
    """
    return ClipTowers(model, locate(CLIP, weights, model), torch.device(device))


def available(model: str = MODEL, weights: str = "hub") -> str | None:
    """None if the weights are at hand, else one sentence; nothing is loaded, no network used."""
    missing = text_available(CLIP, weights, model)
    if missing is None:
        return None
    return f"clipstyler needs CLIP weights: {missing.removeprefix('text.weights: ')}"


def _mean_and_std(model: str, place: Path) -> tuple[Any, Any]:
    """How the model's images were scaled: as its folder says, else its tag, else as OpenAI's."""
    import open_clip

    if place.is_dir():
        content = json.loads((place / CLIP_CONFIG).read_text(encoding="utf-8"))
        said = content.get("preprocess_cfg", {})
    else:
        architecture, _, tag = model.partition(":")
        said = open_clip.get_pretrained_cfg(architecture, tag or DEFAULT_TAG) or {}
    return (
        said.get("mean") or open_clip.OPENAI_DATASET_MEAN,
        said.get("std") or open_clip.OPENAI_DATASET_STD,
    )
