"""Random square crops, each seen in a random perspective (CLIPstyler's patches)."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

CORNERS = torch.tensor([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]])  # (x, y)


def random_crops(
    images: Float[Tensor, "b c h w"],
    count: int,
    *,
    share: float,
    size: int,
    distortion: float,
    generator: torch.Generator,
) -> Float[Tensor, "m c s s"]:
    """``count`` crops an image [b * count, c, size, size], those of one image together.

    Each is a square of the image, its corners drawn inwards by a perspective; what then lies
    outside is 0. Cropping, perspective and resizing are one bilinear sampling.

    Args:
        images: of any size.
        count: crops an image; theirs is 64.
        share: side of a crop as a part of the image's shorter side; theirs is 128 of 512 px.
        size: of the result, px.
        distortion: a corner moves inwards by at most this part of half a side; theirs is 0.5.
        generator: of the CPU; draws positions and corners.
    """
    b, _, height, width = images.shape
    m = b * count
    half = share * min(height, width) * torch.tensor([1 / width, 1 / height])  # in -1..1, (x, y)
    centre = (1 - half) * (2 * torch.rand(m, 1, 2, generator=generator) - 1)  # (m, 1, 2)
    inwards = 1 - distortion * torch.rand(m, 4, 2, generator=generator)
    H = homography(CORNERS * inwards, CORNERS.expand(m, 4, 2))  # (m, 3, 3)
    # centres of the result's pixels, homogeneous, (s * s, 3)
    target = affine_grid(torch.eye(2, 3).unsqueeze(0), [1, 1, size, size], align_corners=False)
    flat = torch.cat([target.reshape(-1, 2), torch.ones(size * size, 1)], dim=1)
    source = flat @ H.mT  # (m, s * s, 3)
    place = source[..., :2] / source[..., 2:]  # in the crop's square, -1..1
    inside = ((place.abs() <= 1).all(2) & (source[..., 2] > 0)).view(m, 1, size, size)
    grid = (centre + half * place).view(b, count * size, size, 2)
    sampled = grid_sample(
        images, grid.to(images), padding_mode="border", align_corners=False
    )  # (b, c, count * s, s)
    crops = sampled.unflatten(2, (count, size)).transpose(1, 2).flatten(0, 1)
    return crops * inside.to(images)


def homography(
    start: Float[Tensor, "m 4 2"], end: Float[Tensor, "m 4 2"]
) -> Float[Tensor, "m 3 3"]:
    """The projective map that takes four points to four others, its last entry 1."""
    x, y = start.unbind(2)  # (m, 4)
    one, zero = torch.ones_like(x), torch.zeros_like(x)
    rows = []
    for axis, to in enumerate(end.unbind(2)):
        place = [zero] * 8
        place[3 * axis : 3 * axis + 3] = [x, y, one]
        place[6:] = [-x * to, -y * to]
        rows.append(torch.stack(place, dim=2))  # (m, 4, 8)
    right = torch.cat(end.unbind(2), dim=1)  # (m, 8)
    solved = torch.linalg.solve(torch.cat(rows, dim=1), right.unsqueeze(2)).squeeze(2)
    return torch.cat([solved, solved.new_ones(len(solved), 1)], dim=1).view(-1, 3, 3)
