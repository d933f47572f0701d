"""The network that restyles an image: a small U-Net, applied to images of any size."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import interpolate, pad

from vecaf_lib.errors import BadInput

SMALLEST = 32  # px; below, the deepest maps are too small to normalise
STRIDE = 8  # three halvings
DARKEST = 1e-3  # pixels are kept this far from 0 and 1, where the logit is infinite


class StyleNet(nn.Module):
    """Image in 0..1 to image in 0..1 of the same size; each image on its own.

    Three halvings with skip connections, instance normalisation, and nearest-neighbour upsampling,
    which leaves no checkerboard. The last layer's output is added to the logit of the image and
    goes through a sigmoid: an untrained network starts near the image, theirs at noise, for which
    200 steps shared by many images would be too few.
    """

    def __init__(self, generator: torch.Generator, width: int = 16) -> None:
        """Draw the weights from ``generator``; ``width`` channels at full size, x 8 at the end."""
        super().__init__()
        widths = [width * 2**level for level in range(4)]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(generator.initial_seed())
            self.enter = _block(3, width)
            self.down = nn.ModuleList(_block(w, 2 * w, stride=2) for w in widths[:-1])
            self.deep = _block(widths[-1], widths[-1])
            self.up = nn.ModuleList(_block(3 * w, w) for w in widths[-2::-1])
            self.leave = nn.Conv2d(width, 3, 1)

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
        """Restyle images in 0..1.

        Raises:
            BadInput: they are smaller than 32 px.
        """
        height, width = images.shape[2:]
        if min(height, width) < SMALLEST:
            raise BadInput(
                f"images of {height} x {width} px cannot be stylised; "
                f"both sides need {SMALLEST} px or more."
            )
        right, below = -width % STRIDE, -height % STRIDE
        x = self.enter(pad(images, (0, right, 0, below), mode="reflect"))
        skips = []
        for block in self.down:
            skips.append(x)
            x = block(x)
        x = self.deep(x)
        for block in self.up:
            x = block(torch.cat([interpolate(x, scale_factor=2.0), skips.pop()], dim=1))
        change = self.leave(x)[:, :, :height, :width]
        return torch.sigmoid(images.clamp(DARKEST, 1 - DARKEST).logit() + change)


def _block(inside: int, outside: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inside, outside, 3, stride, 1, padding_mode="reflect"),
        nn.InstanceNorm2d(outside, affine=True),
        nn.LeakyReLU(0.2),
    )
