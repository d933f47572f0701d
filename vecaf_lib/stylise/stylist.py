"""Train a ``StyleNet`` for a prompt, and apply it to a data set's images."""

from collections.abc import Callable, Iterable, Iterator

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn.functional import normalize

from vecaf_lib.datasets.images import ImageSet
from vecaf_lib.datasets.lazy import LazyImages
from vecaf_lib.encoders.features import features
from vecaf_lib.encoders.vision import PVM
from vecaf_lib.errors import BadInput
from vecaf_lib.seeding import generator as stream
from vecaf_lib.stylise import losses
from vecaf_lib.stylise.clip_towers import MODEL, ClipTowers, available, load_clip
from vecaf_lib.stylise.crops import random_crops
from vecaf_lib.stylise.images import StylisedImages
from vecaf_lib.stylise.losses import Weights
from vecaf_lib.stylise.unet import StyleNet

SOURCE = "a Photo"  # their description of any source image
Images = UInt8[Tensor, "n 3 h w"] | LazyImages
THEIRS = Weights()
Content = Callable[[Tensor], list[Tensor]]


def text_direction(clip: ClipTowers, prompt: str, source: str = SOURCE) -> Float[Tensor, " d"]:
    """dT: from the source text to the prompt, each the mean over CLIP's 80 ImageNet templates."""
    if not prompt.strip():
        raise BadInput("prompt is empty; describe the target domain, e.g. 'a snowy day'.")
    from open_clip import OPENAI_IMAGENET_TEMPLATES as TEMPLATES

    means = [
        normalize(clip.encode_text([put(text) for put in TEMPLATES]).mean(0), dim=0)
        for text in (source, prompt)
    ]
    return normalize(means[1] - means[0], dim=0)


def pvm_content(pvm: PVM) -> Content:
    """Content features of images in 0..1: two feature maps of the PVM, see ``features``.

    Theirs are VGG-19's conv4_2 and conv5_2. No package carries VGG's weights; the pretrained PVM
    is at hand in any run: the last two stages of a convolutional net, the middle and the last
    block of a ViT. The PVM is left as it was found.
    """

    def content(images: Tensor) -> list[Tensor]:
        training = pvm.training
        pvm.eval()
        try:
            pixels = (255 * images.to(pvm.mean) - pvm.mean) / pvm.std
            with pvm.autocast():
                maps, _ = features(pvm.backbone, pixels, 2)
            return [part.float().to(images.device) for part in maps]
        finally:
            pvm.train(training)

    return content


def fit_stylist(
    images: Images,
    prompt: str,
    clip: ClipTowers,
    content: Content,
    *,
    steps: int = 200,
    batch_size: int = 4,
    crops: int = 64,
    crop_share: float = 0.25,
    distortion: float = 0.5,
    threshold: float = 0.7,
    weights: Weights = THEIRS,
    learning_rate: float = 5e-4,
    width: int = 16,
    generator: torch.Generator,
    bar: Callable[[Iterable[int]], Iterable[int]] | None = None,
) -> StyleNet:
    """Train one network to move images, as CLIP sees them, from "a Photo" to ``prompt``.

    Args:
        images: the source images, 32 px or more.
        prompt: the target domain.
        clip: the judge of the style; training runs on its device.
        content: images in 0..1 to feature maps, which are to stay.
        steps: of Adam; theirs is 200 an image, here all images share them.
        batch_size: images a step, drawn without replacement until all were seen.
        crops: patches an image.
        crop_share: their side as a part of the image's shorter side (128 of 512 px).
        distortion: of their perspective, see ``random_crops``.
        threshold: patch losses below it are dropped.
        weights: of the four losses.
        learning_rate: Adam's.
        width: see ``StyleNet``.
        generator: draws the network, the batches and the crops.
        bar: wraps the steps, to show progress.

    Raises:
        BadInput: no image, or an empty prompt.
    """
    if not len(images):
        raise BadInput("images: there are none to train a stylist on.")
    direction = text_direction(clip, prompt)
    net = StyleNet(generator, width).to(clip.device)
    parameters = list(net.parameters())
    adam = torch.optim.Adam(parameters, lr=learning_rate)
    batches = _batches(len(images), batch_size, generator)
    for _ in range(steps) if bar is None else bar(range(steps)):
        source = images[next(batches)].to(clip.device).float() / 255  # (b, 3, h, w)
        with torch.no_grad():
            before, maps = clip.encode_image(source), content(source)
        with torch.enable_grad():
            styled = net(source)
            patches = random_crops(
                styled,
                crops,
                share=crop_share,
                size=clip.size,
                distortion=distortion,
                generator=generator,
            )
            origin = before.repeat_interleave(crops, dim=0)  # (b * crops, d)
            local = losses.directional(clip.encode_image(patches), origin, direction)
            whole = losses.directional(clip.encode_image(styled), before, direction)
            loss = (
                weights.patch * losses.patchwise(local, threshold)
                + weights.direction * whole.mean()
                + weights.content * losses.content(content(styled), maps)
                + weights.smoothness * losses.total_variation(styled)
            )
        # no .grad of the PVM or of CLIP is touched
        for parameter, g in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
            parameter.grad = g
        adam.step()
    return net.eval().requires_grad_(False)


def stylised(
    train: ImageSet,
    *,
    prompt: str,
    pvm: PVM,
    model: str = MODEL,
    weights: str = "hub",
    steps: int = 200,
    batch_size: int = 4,
    seed: int = 0,
    device: str | torch.device = "cpu",
    bar: Callable[[Iterable[int]], Iterable[int]] | None = None,
) -> ImageSet:
    """The training images in the style of ``prompt``, made when asked for.

    Args:
        train: source images and labels.
        prompt: the target domain, e.g. "a snowy day".
        pvm: whose feature maps are the content; it is not changed.
        model: of CLIP, see ``load_clip``, as for ``weights`` and ``device``.
        weights: see there.
        steps: see ``fit_stylist``, as for ``batch_size`` and ``bar``.
        batch_size: see there.
        seed: the run's.
        device: see there.
        bar: see there.

    Returns:
        The same labels; ids get ``+stylised``.

    Raises:
        BadInput: CLIP's weights are not at hand or not as they should be, or the prompt is empty.
    """
    missing = available(model, weights)
    if missing is not None:
        raise BadInput(missing)
    net = fit_stylist(
        train.images,
        prompt,
        load_clip(model, weights, device),
        pvm_content(pvm),
        steps=steps,
        batch_size=batch_size,
        generator=stream(seed, "stylise"),
        bar=bar,
    )
    return ImageSet(
        images=StylisedImages(train.images, net),
        labels=train.labels,
        ids=tuple(f"{name}+stylised" for name in train.ids),
        class_names=train.class_names,
    )


def _batches(size: int, batch_size: int, generator: torch.Generator) -> Iterator[list[int]]:
    """Batches of positions for ever; a new order whenever all were seen."""
    while True:
        for part in torch.randperm(size, generator=generator).split(batch_size):
            yield part.tolist()
