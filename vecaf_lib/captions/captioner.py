"""What a captioner is: images in, one sentence an image out, and a record of how."""

from abc import ABC, abstractmethod
from typing import Any

import torch
from jaxtyping import UInt8
from torch import Tensor

from vecaf_lib.datasets.lazy import LazyImages

Images = UInt8[Tensor, "n 3 h w"] | LazyImages
REFERENCE_IMAGES = 2000  # enough for thirds of a measurement; a large pool is not decoded whole


class Captioner(ABC):
    """Writes one sentence about each image, from its pixels alone."""

    when_empty: str = "a picture"  # the caption of an image that ``__call__`` had no words for

    @abstractmethod
    def record(self) -> dict[str, Any]:
        """What decides the captions, for JSON: captioner, model, revision, prompt, decoding, ..."""

    @abstractmethod
    def __call__(self, images: UInt8[Tensor, "b 3 h w"]) -> list[str]:
        """One sentence an image, [b]; an empty one where the model had nothing to say."""


def evenly(images: Images, at_most: int = REFERENCE_IMAGES) -> Images:
    """At most so many images of a pool, evenly spaced over its order; lazy ones stay lazy."""
    if len(images) <= at_most:
        return images
    chosen = torch.arange(at_most) * len(images) // at_most  # (at_most,)
    return images[chosen] if isinstance(images, Tensor) else images.take(chosen)
