"""Both towers of a CLIP model (Radford et al., ICML 2021), by open_clip: frozen, float32."""

import json
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import interpolate, normalize, pad

from vecaf_lib.errors import BadInput, did_you_mean
from vecaf_lib.models.weights import Checkpoint, explained

FORMS = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")


class Clip:
    """CLIP's embeddings of texts and images; ``limit`` in tokens, ``size`` of images in px."""

    def __init__(self, model: str, place: Path, device: str | torch.device = "cpu") -> None:
        """Load a folder with ``open_clip_config.json``, or a file of the weights of ``model``."""
        import open_clip  # here, as it takes seconds and few need it

        named, options, code = f"local-dir:{place}", {}, {}
        if place.is_file():
            named, tag = _named(model)
            scale = {key: tag[key] for key in ("mean", "std") if key in tag}
            options = {"pretrained": str(place), "force_preprocess_cfg": scale}
            # the architecture ViT-L-14 has not the activation (QuickGELU) of OpenAI's tag
            options |= {"quick_gelu": tag.get("quick_gelu", False)} if tag else {}
        wrong = f"text.weights: {place} is no readable CLIP model"  # as OpenAI's own, which is code
        with explained(wrong), torch.random.fork_rng([]):
            if place.is_dir():  # whose configuration may name code
                config = json.loads((place / "open_clip_config.json").read_bytes())
                text = config["model_cfg"]["text_cfg"]
                code = {"trust_remote_code": False} if "hf_tokenizer_name" in text else {}
                if "hf_model_name" in text:
                    raise ValueError("its text tower is another model, named in hf_model_name")
            clip: Any = open_clip.create_model(named, device=device, **options)
            self._tokenize = open_clip.get_tokenizer(named, **code)
        self._clip = clip.eval().requires_grad_(False)
        self.device, self.limit = torch.device(device), int(self._tokenize.context_length)
        size, scale = clip.visual.image_size, clip.visual.preprocess_cfg
        self.size: int = size if isinstance(size, int) else size[0]
        self._mean, self._std = (
            torch.tensor(scale[key], device=device).view(1, 3, 1, 1) for key in ("mean", "std")
        )

    def lengths(self, captions: list[str], limit: int) -> list[int]:
        """Number of tokens of each caption, ``limit`` + 1 if it is longer than ``limit``."""
        tokens = self._tokenize(captions, context_length=limit + 1)  # (n, limit + 1), 0 after end
        return (torch.arange(1, limit + 2) * (tokens != 0)).amax(1).tolist()

    def embed(self, captions: list[str], limit: int, pooling: str) -> Float[Tensor, "b d"]:
        """The projected state of each caption's end-of-text token, not of unit length."""
        tokens = self._tokenize(captions, context_length=limit)  # (b, limit)
        return self._clip.encode_text(pad(tokens, (0, self.limit - limit)).to(self.device))

    @torch.no_grad()
    def encode_text(self, texts: list[str]) -> Float[Tensor, "n d"]:
        """Embed texts, unit length; those longer than the tower's limit are cut."""
        return normalize(self.embed(texts, self.limit, "end_of_text"), dim=1)

    def encode_image(self, pixels: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b d"]:
        """Embed images in 0..1, unit length; resized to the tower's size (bicubic, antialiased)."""
        pixels, size = pixels.to(self.device), (self.size, self.size)
        if pixels.shape[2:] != size:
            pixels = interpolate(pixels, size, mode="bicubic", antialias=True).clamp(0, 1)
        return normalize(self._clip.encode_image((pixels - self._mean) / self._std).float(), dim=1)


def checkpoint(
    model: str, weights: str, revision: str | None = None, *, field: str = "text"
) -> Checkpoint:
    """Files of ``architecture:tag`` (without a tag OpenAI's); see ``weights.locate``."""
    if weights != "hub":
        needs = (("open_clip_config.json",),) if Path(weights).is_dir() else ()
        return Checkpoint(field, model, forms=FORMS, needs=needs)
    _, tag = _named(model if ":" in model else f"{model}:openai")
    owner, name, file = (tag.get("hf_hub", model).split("/", 2) + [""] * 3)[:3]
    return Checkpoint(field, f"{owner}/{name}", revision, (file,) if file else FORMS)


def _named(model: str) -> tuple[str, dict[str, Any]]:
    # the architecture of ``architecture:tag``, and what open_clip states of the tag
    import open_clip

    architecture, _, tag = model.partition(":")
    stated = open_clip.get_pretrained_cfg(architecture, tag)
    if architecture not in open_clip.list_models() or (tag and not stated):
        hint = did_you_mean(model, open_clip.list_pretrained(as_str=True))
        raise BadInput(f"text.model: open_clip has no {model!r}; {hint}.")
    return architecture, stated
