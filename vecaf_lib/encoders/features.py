"""Feature maps from several depths of a PVM, which the loss predictors of rival methods read."""

from typing import Any

from jaxtyping import Float, UInt8
from torch import Tensor, nn

from vecaf_lib.errors import BadInput


def features(
    model: nn.Module,
    images: UInt8[Tensor, "n 3 h w"] | Float[Tensor, "n 3 h w"],
    count: int = 4,
) -> tuple[list[Float[Tensor, "n _ _ _"]], Float[Tensor, "n d"]]:
    """Feature maps at ``count`` depths, shallow to deep, and the penultimate embedding.

    A model whose stages shrink the image (convolutional, Swin) gives its last ``count`` stages;
    one whose blocks are all of one size (ViT, DeiT, XCiT) gives evenly spaced blocks, the last
    among them (12 blocks and count 4: the 3rd, 6th, 9th and 12th), without its class token.

    Args:
        model: a PVM, with uint8 images; or a timm model, with images in that model's own scale.

    Returns:
        ``count`` maps [n, channels, height, width], and the embedding e as ``PVM.embed`` has it,
        from one forward pass; gradients flow through both.

    Raises:
        BadInput: the model cannot give feature maps, or not so many.
    """
    if hasattr(model, "backbone"):
        pvm: Any = model
        with pvm.autocast():
            maps, embedding = _forward(pvm.backbone, pvm.pixels(images), count)
        return [part.float() for part in maps], embedding.float()
    return _forward(model, images, count)


def feature_widths(model: nn.Module, count: int = 4) -> list[int]:
    """Channels of each map that ``features`` gives."""
    backbone: Any = getattr(model, "backbone", model)
    return [int(backbone.feature_info[index]["num_chs"]) for index in depths(backbone, count)]


def depths(backbone: nn.Module, count: int) -> list[int]:
    """Indices, among the maps that timm can give of ``backbone``, of those that are taken."""
    name = type(backbone).__name__
    info: Any = getattr(backbone, "feature_info", None)
    if info is None or not hasattr(backbone, "forward_intermediates"):
        raise BadInput(
            f"vision.name: timm gives no feature maps of {name}; use a method that needs none."
        )
    available = len(info)
    if not 1 <= count <= available:
        raise BadInput(f"vision.name: {name} has {available} feature maps, but {count} are asked.")
    if len({stage["reduction"] for stage in info}) > 1:
        return list(range(available - count, available))
    return [available * (position + 1) // count - 1 for position in range(count)]


def _forward(
    backbone: Any, pixels: Float[Tensor, "n 3 h w"], count: int
) -> tuple[list[Float[Tensor, "n _ _ _"]], Float[Tensor, "n d"]]:
    last, maps = backbone.forward_intermediates(pixels, indices=depths(backbone, count))
    return maps, backbone.forward_head(last, pre_logits=True)
