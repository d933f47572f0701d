r"""The losses of CLIPstyler (Kwon and Ye, CVPR 2022, section 3).

$$L = 9000\,L_{patch} + 500\,L_{dir} + 150\,L_{content} + 0.002\,L_{TV}$$
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import cosine_similarity


@dataclass(frozen=True)
class Weights:
    """Weights of the losses; the defaults are theirs."""

    patch: float = 9000.0
    direction: float = 500.0
    content: float = 150.0
    smoothness: float = 2e-3


def directional(
    after: Float[Tensor, "m d"], before: Float[Tensor, "m d"], direction: Float[Tensor, " d"]
) -> Float[Tensor, " m"]:
    """1 - cos(dI, dT) of each image, 0 to 2.

    Args:
        after: CLIP's embeddings of stylised images or crops, unit length.
        before: of the image that each came from.
        direction: dT, the target text's embedding minus the source text's.
    """
    return 1 - cosine_similarity(after - before, direction.unsqueeze(0), dim=1)


def patchwise(losses: Float[Tensor, " m"], threshold: float) -> Float[Tensor, ""]:
    """Mean over all crops, with losses below ``threshold`` dropped: set to 0, as theirs.

    A crop that already follows the text is not pushed further.
    """
    return torch.where(losses < threshold, 0.0, losses).mean()


def content(
    after: list[Float[Tensor, "b _ _ _"]], before: list[Float[Tensor, "b _ _ _"]]
) -> Float[Tensor, ""]:
    """Squared distance of feature maps relative to the source's square, mean over maps and images.

    Theirs is the mean square of VGG-19's conv4_2 and conv5_2. Division by the source's square
    makes the weight mean the same for other networks, whose features have other scales.
    """
    parts = [
        (a - b).square().flatten(1).sum(1) / b.square().flatten(1).sum(1).clamp_min(1e-12)
        for a, b in zip(after, before, strict=True)
    ]
    return torch.stack(parts).mean()


def total_variation(images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, ""]:
    """Norms of an image's differences to its neighbours in four directions, summed; batch mean."""
    across = images[:, :, :, 1:] - images[:, :, :, :-1]
    down = images[:, :, 1:] - images[:, :, :-1]
    falling = images[:, :, 1:, 1:] - images[:, :, :-1, :-1]
    rising = images[:, :, :-1, 1:] - images[:, :, 1:, :-1]
    norms = [part.flatten(1).norm(dim=1) for part in (across, down, falling, rising)]  # (b,) each
    return torch.stack(norms).sum(0).mean()
