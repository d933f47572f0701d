"""The pretrained vision model (PVM) f(.; w): a timm backbone and a fresh linear classifier."""

import difflib
from collections.abc import Callable

import timm
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from vecaf_lib.encoders.weights import rename, weights_file
from vecaf_lib.errors import BadInput


class PVM(nn.Module):
    """A pretrained vision model: uint8 images in, penultimate embeddings or class scores out.

    Attributes:
        width: d, the size of the penultimate embedding.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, backbone: nn.Module, classes: int, *, generator: torch.Generator):
        """Wrap ``backbone`` (a timm model) and draw a fresh classifier from ``generator``.

        The classifier starts as a truncated normal with deviation 0.02 and zero bias (DeiT's).
        """
        super().__init__()
        self.backbone = backbone
        self.width = int(backbone.head_hidden_size)  # type: ignore[arg-type]
        with torch.random.fork_rng(devices=[]):  # nn.Linear draws from the global state
            self.classifier = nn.Linear(self.width, classes)
        nn.init.trunc_normal_(self.classifier.weight, std=0.02, generator=generator)
        nn.init.zeros_(self.classifier.bias)
        normalisation = backbone.pretrained_cfg  # type: ignore[union-attr]
        for name in ("mean", "std"):
            values = torch.tensor(normalisation[name]).view(1, 3, 1, 1)  # type: ignore[index]
            self.register_buffer(name, 255.0 * values, persistent=False)

    def embed(self, images: UInt8[Tensor, "n 3 h w"]) -> Float[Tensor, "n d"]:
        """Penultimate embedding e of each image, after the model's own mean and std."""
        pixels = (images.to(self.mean.dtype) - self.mean) / self.std
        pixels = pixels.contiguous(memory_format=torch.channels_last)
        features = self.backbone.forward_features(pixels)  # type: ignore[operator]
        return self.backbone.forward_head(features, pre_logits=True)  # type: ignore[operator]

    def forward(
        self, images: UInt8[Tensor, "n 3 h w"], lift: Callable[[Tensor], Tensor] | None = None
    ) -> Float[Tensor, "n c"]:
        """Class scores; in training ``lift`` augments the embeddings first (equation 9)."""
        e = self.embed(images)
        return self.classifier(e if lift is None else lift(e))


def load_backbone(name: str, *, weights: str) -> nn.Module:
    """Build a timm model and load its pretrained weights, without any network access.

    Args:
        name: timm's name of the architecture.
        weights: ``package`` (weights that come as a Python package) or the path of a
            ``state_dict`` file.

    Raises:
        BadInput: unknown name, absent package or file, or keys that do not fit the model.
    """
    if not timm.is_model(name):
        near = difflib.get_close_matches(name, timm.list_models(), n=3)
        raise BadInput(
            f"vision.name: timm has no model {name!r}; near it are {', '.join(near) or 'none'}."
        )
    path = weights_file(name, weights)
    with torch.random.fork_rng(devices=[]):
        model = timm.create_model(name, pretrained=False)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a damaged file
        raise BadInput(f"vision.weights: {path} is not a readable state_dict ({error}).") from error
    if not isinstance(state, dict) or not all(isinstance(t, Tensor) for t in state.values()):
        raise BadInput(f"vision.weights: {path} holds other things than the tensors of a model.")
    model.load_state_dict(rename(state, model, path))
    return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
