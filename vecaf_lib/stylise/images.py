"""Images that are stylised when they are asked for."""

import torch
from jaxtyping import UInt8
from torch import Tensor

from vecaf_lib.datasets.lazy import Index, LazyImages
from vecaf_lib.stylise.unet import StyleNet


class StylisedImages(LazyImages):
    """Images [n, 3, h, w] through a ``StyleNet``, one at a time.

    One at a time, because the last bits of a convolution depend on the size of its batch: so an
    image is the same whatever it is asked for with.
    """

    def __init__(self, source: UInt8[Tensor, "n 3 h w"] | LazyImages, net: StyleNet) -> None:
        self._source, self._net = source, net

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(n, 3, h, w)."""
        n, _, height, width = self._source.shape
        return (n, 3, height, width)

    def take(self, indices: Index) -> "StylisedImages":
        """The images at ``indices``, in that order; none is stylised yet."""
        positions = self._positions(indices)
        source = self._source
        chosen = source[positions] if isinstance(source, Tensor) else source.take(positions)
        return StylisedImages(chosen, self._net)

    def _make(self, positions: list[int]) -> UInt8[Tensor, "k 3 h w"]:
        source = self._source[positions]  # (k, 3, h, w)
        device = self._net.leave.weight.device
        images = torch.empty_like(source)
        for row, image in enumerate(source.split(1)):
            with torch.no_grad():
                styled = self._net(image.to(device).float() / 255)
            images[row] = (255 * styled[0]).round().to(torch.uint8).cpu()
        return images
