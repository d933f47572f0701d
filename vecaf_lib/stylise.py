r"""CLIPstyler (Kwon and Ye, CVPR 2022): training images moved to a target domain by a prompt.

The baseline of Table 3 that changes pixels. Theirs trains a U-Net for each image, 200 steps each;
here one U-Net is trained for a prompt over images of the pool and then applied to each.

$$L = 9000\,L_{patch} + 500\,L_{dir} + 150\,L_{content} + 0.002\,L_{TV}$$
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn.functional import interpolate, normalize, pad

from vecaf_lib.data.images import Images, ImageSet, LazyImages
from vecaf_lib.models.clip import Clip, checkpoint
from vecaf_lib.models.vision import PVM, features
from vecaf_lib.models.weights import locate
from vecaf_lib.seeding import generator as stream
from vecaf_lib.training import minibatches

THEIRS = {"patch": 9000.0, "direction": 500.0, "content": 150.0, "smoothness": 2e-3}  # weights
STRIDE = 8  # of StyleNet: three halvings
Content = Callable[[Tensor], list[Tensor]]
DARKEST = 1e-3  # pixels are kept this far from 0 and 1, where the logit is infinite


def directional(
    after: Float[Tensor, "m d"], before: Float[Tensor, "m d"], direction: Float[Tensor, " d"]
) -> Float[Tensor, " m"]:
    """1 - cos(dI, dT) of each image, 0 to 2; dI is ``after`` - ``before``, dT ``direction``."""
    return 1 - torch.cosine_similarity(after - before, direction.unsqueeze(0), dim=1)


def patchwise(losses: Float[Tensor, " m"]) -> Float[Tensor, ""]:
    """Mean over all crops; one below 0.7 (theirs) already follows the text and counts as 0."""
    return torch.where(losses < 0.7, 0.0, losses).mean()


def content_loss(
    after: list[Float[Tensor, "b _ _ _"]], before: list[Float[Tensor, "b _ _ _"]]
) -> Float[Tensor, ""]:
    """Squared distance of feature maps relative to the source's (theirs is not), their mean."""
    pairs = [(a.flatten(1), b.flatten(1)) for a, b in zip(after, before, strict=True)]
    shares = [(a - b).square().sum(1) / b.square().sum(1).clamp_min(1e-12) for a, b in pairs]
    return torch.stack(shares).mean()


def total_variation(images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, ""]:
    """Norms of an image's differences to its neighbours in four directions, summed; batch mean."""
    differences = (
        images[:, :, :, 1:] - images[:, :, :, :-1],  # across
        images[:, :, 1:] - images[:, :, :-1],  # down
        images[:, :, 1:, 1:] - images[:, :, :-1, :-1],  # along both diagonals
        images[:, :, :-1, 1:] - images[:, :, 1:, :-1],
    )
    return torch.stack([part.flatten(1).norm(dim=1) for part in differences]).sum(0).mean()


def random_crops(
    images: Float[Tensor, "b c h w"], count: int, size: int, *, generator: torch.Generator
) -> Float[Tensor, "m c s s"]:
    """``count`` crops an image [b * count, c, size, size], those of one image together.

    As theirs, each is a square whose side is a quarter of the image's shorter one, its corners
    moved inwards by at most half of half a side; what then lies outside is 0.
    """
    from torchvision import transforms  # here, as it takes a second

    side = round(0.25 * min(images.shape[2:]))
    perspective = transforms.RandomPerspective(distortion_scale=0.5, p=1.0)
    move = transforms.Compose([transforms.RandomCrop(side), perspective, transforms.Resize(size)])
    with torch.random.fork_rng(devices=[]):  # torchvision draws from the global state
        torch.manual_seed(int(torch.randint(2**62, (), generator=generator)))
        return torch.cat([move(image) for image in images.repeat_interleave(count, 0).split(1)])


class StyleNet(nn.Module):
    """Image in 0..1 to image in 0..1 of the same size: three halvings with skip connections.

    The last layer's output is added to the logit of the image: an untrained network starts near
    the image, theirs at noise, for which 200 steps shared by many images would be too few.
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
        """Restyle images in 0..1, 32 px or more."""
        height, width = images.shape[2:]
        x = self.enter(pad(images, (0, -width % STRIDE, 0, -height % STRIDE), mode="reflect"))
        skips = []
        for block in self.down:
            skips.append(x)
            x = block(x)
        x = self.deep(x)
        for block in self.up:
            x = block(torch.cat([interpolate(x, scale_factor=2.0), skips.pop()], dim=1))
        return torch.sigmoid(
            images.clamp(DARKEST, 1 - DARKEST).logit() + self.leave(x)[:, :, :height, :width]
        )


def _block(inside: int, outside: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inside, outside, 3, stride, 1, padding_mode="reflect"),
        nn.InstanceNorm2d(outside, affine=True),
        nn.LeakyReLU(0.2),
    )


class StylisedImages(LazyImages):
    """Images through a ``StyleNet``, one at a time: the last bits depend on the batch's size."""

    def __init__(self, source: Images, net: StyleNet) -> None:
        super().__init__(len(source), *source.shape[2:])
        self._source, self._net = source, net

    @torch.no_grad()
    def _make(self, rows: list[int]) -> UInt8[Tensor, "k 3 h w"]:
        source = self._source[rows]  # (k, 3, h, w)
        images = torch.empty_like(source)
        for place, image in enumerate(source.split(1)):
            styled = self._net(image.to(self._net.leave.weight.device).float() / 255)
            images[place] = (255 * styled[0]).round().to(torch.uint8).cpu()
        return images


def text_direction(clip: Clip, prompt: str) -> Float[Tensor, " d"]:
    """dT: from "a Photo" to the prompt, each the mean over CLIP's 80 ImageNet templates."""
    from open_clip import OPENAI_IMAGENET_TEMPLATES as TEMPLATES

    texts = ([put(text) for put in TEMPLATES] for text in ("a Photo", prompt))
    photo, style = (normalize(clip.encode_text(each).mean(0), dim=0) for each in texts)
    return normalize(style - photo, dim=0)


def pvm_content(pvm: PVM) -> Content:
    """Two feature maps of images in 0..1, see ``depths``; theirs are VGG-19's (4_2 and 5_2)."""

    def content(images: Tensor) -> list[Tensor]:
        maps, _ = features(pvm.eval(), (255 * images.to(pvm.mean) - pvm.mean) / pvm.std, 2)
        return [part.to(images.device) for part in maps]

    return content


def fit_stylist(
    images: Images,
    prompt: str,
    clip: Clip,
    content: Content,
    *,
    steps: int = 200,
    batch_size: int = 4,
    crops: int = 64,
    weights: Mapping[str, float] = THEIRS,
    learning_rate: float = 5e-4,
    width: int = 16,
    generator: torch.Generator,
) -> StyleNet:
    """Train one network to move images, as CLIP sees them, from "a Photo" to ``prompt``.

    Args:
        content: images in 0..1 to feature maps, which are to stay.
        steps: of Adam, which all images share; each takes ``crops`` patches an image.
        generator: draws the network, the batches (no image twice in a pass) and the crops.
    """
    direction = text_direction(clip, prompt)
    net = StyleNet(generator, width).to(clip.device)
    adam = torch.optim.Adam(net.parameters(), lr=learning_rate)
    batches = minibatches(len(images), batch_size, generator)
    for _ in range(steps):
        source = images[next(batches)].to(clip.device).float() / 255  # (b, 3, h, w)
        with torch.no_grad():
            before, maps = clip.encode_image(source), content(source)
        with torch.enable_grad():
            styled = net(source)
            patches = random_crops(styled, crops, clip.size, generator=generator)  # (b * crops, ..)
            origin = before.repeat_interleave(crops, dim=0)
            local = directional(clip.encode_image(patches), origin, direction)
            loss = (
                weights["patch"] * patchwise(local)
                + weights["direction"]
                * directional(clip.encode_image(styled), before, direction).mean()
                + weights["content"] * content_loss(content(styled), maps)
                + weights["smoothness"] * total_variation(styled)
            )
        adam.zero_grad()
        loss.backward(inputs=list(net.parameters()))  # the PVM and CLIP get no .grad
        adam.step()
    return net.eval().requires_grad_(False)


def stylised(
    train: ImageSet,
    *,
    prompt: str,
    pvm: PVM,
    model: str = "ViT-B-32:openai",
    weights: str = "hub",
    seed: int = 0,
    **options: Any,
) -> ImageSet:
    """The training images in the style of ``prompt``, made when asked for; ids get ``+stylised``.

    Args:
        pvm: whose feature maps are the content; it is not changed. CLIP computes on its device.
        model, weights: of CLIP: ``architecture:tag`` of open_clip (the default is theirs); ``hub``
            (its local cache), or the path of a saved folder or of a file.
        options: ``steps``, ``batch_size`` and others of ``fit_stylist``.
    """
    place = locate(checkpoint(model, weights, field="stylise"), weights)
    clip, draw = Clip(model, place, pvm.mean.device), stream(seed, "stylise")
    net = fit_stylist(train.images, prompt, clip, pvm_content(pvm), generator=draw, **options)
    images, ids = StylisedImages(train.images, net), [f"{name}+stylised" for name in train.ids]
    return replace(train, images=images, ids=tuple(ids), states=None)
