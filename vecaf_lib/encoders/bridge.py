"""Bring text embeddings into the image space, where equation 9 subtracts one from the other.

The paper says "we use text embeddings with the same dimensions as image embeddings"; the pairs it
reports (BERT-L 1024, ViT-B 768, ...) have different ones. The map is therefore our decision, and
a parameter:

| kind       | map                                                | needs           |
|------------|----------------------------------------------------|-----------------|
| identity   | none                                               | equal widths    |
| ridge      | affine least squares from t_i to e_i over the pool | pool pairs      |
| procrustes | orthogonal map and one scale, over centred pairs   | pool pairs      |
| random     | seeded Gaussian projection                         | nothing         |
"""

from collections.abc import Callable
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from vecaf_lib.errors import BadInput

Kind = Literal["identity", "ridge", "procrustes", "random"]
Bridge = Callable[[Tensor], Tensor]


def fit_bridge(
    kind: Kind,
    text: Float[Tensor, "n d_text"],
    image: Float[Tensor, "n d"],
    *,
    ridge: float = 0.1,
    generator: torch.Generator,
) -> Bridge:
    """Fit the map from text space to image space on the pool's pairs (no label is used).

    Args:
        kind: see the table above.
        ridge: penalty of the ridge map, as a fraction of the mean variance of a text dimension.
        generator: draws the random projection.

    Returns:
        A function from [m, d_text] to [m, d].
    """
    if kind == "identity":
        if text.shape[1] != image.shape[1]:
            raise BadInput(
                f"cea.bridge: 'identity' needs equal widths, but text has {text.shape[1]} and "
                f"images have {image.shape[1]}; use ridge, procrustes or random."
            )
        return lambda t: t
    if kind == "random":
        draw = torch.randn(text.shape[1], image.shape[1], generator=generator)
        projection = (draw / text.shape[1] ** 0.5).to(text)
        return lambda t: t @ projection
    if kind not in get_args(Kind):
        raise BadInput(f"cea.bridge: {kind!r} is unknown; known are {', '.join(get_args(Kind))}.")
    text_mean, image_mean = text.mean(0), image.mean(0)
    T, E = text - text_mean, image - image_mean  # (n, d_text), (n, d)
    if kind == "ridge":
        gram = T.T @ T  # (d_text, d_text)
        penalty = ridge * gram.diagonal().mean().clamp_min(1e-12)  # if all captions are equal
        matrix = torch.linalg.solve(gram + penalty * torch.eye(len(gram)).to(gram), T.T @ E)
    else:
        left, values, right = torch.linalg.svd(T.T @ E, full_matrices=False)
        rotation = left @ right  # (d_text, d)
        scale = values.sum() / (T @ rotation).square().sum().clamp_min(1e-12)  # least squares
        matrix = scale * rotation
    return lambda t: (t - text_mean) @ matrix + image_mean


def rescale(text: Float[Tensor, "k d"], image: Float[Tensor, "k d"]) -> Float[Tensor, "k d"]:
    """Give each text vector the norm of its image vector, so that only direction is mixed in."""
    return normalize(text, dim=1) * image.norm(dim=1, keepdim=True)
