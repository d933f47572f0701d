"""The pretrained vision model (PVM) f(.; w): a timm backbone and a fresh linear classifier."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, get_args
from unittest.mock import patch

import timm
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from vecaf_lib.encoders.features import features
from vecaf_lib.encoders.state_dict import classifiers, fit, read_state
from vecaf_lib.encoders.weights import known_model, weights_file
from vecaf_lib.errors import BadInput
from vecaf_lib.precision import Precision, autocast


@dataclass(frozen=True)
class OwnConfig:
    """How the images were prepared that a model was pretrained on.

    Attributes:
        image_size: height and width in pixels.
        mean: of each channel, pixels in 0..1.
        std: of each channel.
        crop: the centre crop's side as a part of the resized image's shorter side.
        interpolation: of the resizing.
    """

    image_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    crop: float
    interpolation: str


def own_config(name: str) -> OwnConfig:
    """The preparation that timm states for the pretrained model ``name``.

    Raises:
        BadInput: timm has no such model.
    """
    cfg = known_model(name)
    return OwnConfig(
        int(cfg.input_size[-1]), tuple(cfg.mean), tuple(cfg.std), cfg.crop_pct, cfg.interpolation
    )


def width_of(name: str) -> int:
    """d, the size of the model's penultimate embedding, without making its tensors.

    Raises:
        BadInput: timm has no such model.
    """
    known_model(name)
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        return int(timm.create_model(name, pretrained=False).head_hidden_size)


class PVM(nn.Module):
    """A pretrained vision model: uint8 images in, penultimate embeddings or class scores out.

    Attributes:
        width: d, the size of the penultimate embedding.
        precision: of the backbone's arithmetic in training; embeddings are float32 in any case.
        evaluation_precision: the same in evaluation mode.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        backbone: nn.Module,
        classes: int,
        *,
        generator: torch.Generator,
        precision: Precision = "float32",
        evaluation_precision: Precision | None = None,
    ):
        """Wrap ``backbone`` (a timm model) and draw a fresh classifier from ``generator``.

        The classifier starts as a truncated normal with deviation 0.02 and zero bias (DeiT's). The
        backbone's own classifier is frozen: it is not used, and training in several processes
        would wait for its gradient. ``evaluation_precision`` None is ``precision``.
        """
        super().__init__()
        for given in (precision, evaluation_precision or precision):
            if given not in get_args(Precision):
                raise BadInput(
                    f"compute.precision: {given!r} is unknown; known are "
                    f"{', '.join(get_args(Precision))}."
                )
        self.backbone = backbone
        self.precision, self.evaluation_precision = precision, evaluation_precision or precision
        self.width = int(backbone.head_hidden_size)  # type: ignore[arg-type]
        for head in classifiers(backbone).values():
            head.requires_grad_(False)
        with torch.random.fork_rng(devices=[]):  # nn.Linear draws from the global state
            self.classifier = nn.Linear(self.width, classes)
        nn.init.trunc_normal_(self.classifier.weight, std=0.02, generator=generator)
        nn.init.zeros_(self.classifier.bias)
        normalisation = backbone.pretrained_cfg  # type: ignore[union-attr]
        for name in ("mean", "std"):
            values = torch.tensor(normalisation[name]).view(1, 3, 1, 1)  # type: ignore[index]
            self.register_buffer(name, 255.0 * values, persistent=False)

    def pixels(self, images: UInt8[Tensor, "n 3 h w"]) -> Float[Tensor, "n 3 h w"]:
        """Images in the backbone's own scale."""
        scaled = (images.to(self.mean.dtype) - self.mean) / self.std
        return scaled.contiguous(memory_format=memory_format(self.backbone))

    def autocast(self) -> torch.autocast:
        """The context in which the backbone runs."""
        precision = self.precision if self.training else self.evaluation_precision
        return autocast(self.mean.device, precision)

    def embed(self, images: UInt8[Tensor, "n 3 h w"]) -> Float[Tensor, "n d"]:
        """Penultimate embedding e of each image, after the model's own mean and std.

        It is what the model's own head would see: pooled as its configuration has it (DINO and
        DeiT the class token, Swin and convolutional nets the mean), and normalised by its last
        layer.
        """
        with self.autocast():
            features = self.backbone.forward_features(self.pixels(images))  # type: ignore[operator]
            return self.backbone.forward_head(features, pre_logits=True).float()  # type: ignore[operator]

    def forward(
        self,
        images: UInt8[Tensor, "n 3 h w"],
        lift: Callable[[Tensor], Tensor] | None = None,
        depths: int = 0,
    ) -> Any:
        """Class scores [n, c]; in training ``lift`` augments the embeddings first (equation 9).

        With ``depths`` a pair: scores, and that many feature maps, see ``features``.
        """
        maps, e = features(self, images, depths) if depths else ([], self.embed(images))
        scores = self.classifier(e if lift is None else lift(e))
        return (scores, maps) if depths else scores


def load_backbone(
    name: str, *, weights: str, image_size: int | None = None, need_classifier: bool = False
) -> nn.Module:
    """Build a timm model and load its pretrained weights.

    Args:
        name: timm's name, with or without the tag of its weights (vit_base_patch16_224.dino).
        weights: ``package`` (weights that come as a Python package), ``hub`` (timm's, from the
            local cache, or from the network unless HF_HUB_OFFLINE=1), or the path of a checkpoint.
        image_size: height and width of the images to come; a model of a fixed input size (ViT,
            Swin, XCiT) is built for it, its position embeddings interpolated as timm does it.
        need_classifier: refuse weights without the classifier of the pretraining.

    Raises:
        BadInput: unknown name, an image size that the model cannot take, absent weights, or
            tensors that do not fit the model.
    """
    known_model(name)
    path = weights_file(name, weights)
    model, adapt = _build(name, image_size)
    fit(read_state(path), model, path, adapt=adapt, need_classifier=need_classifier)
    return model.to(memory_format=memory_format(model))  # type: ignore[call-overload]


def memory_format(backbone: nn.Module) -> torch.memory_format:
    """Channels last for convolutional nets, which it makes faster; not for models of patches."""
    return torch.contiguous_format if hasattr(backbone, "patch_embed") else torch.channels_last


def _build(name: str, image_size: int | None) -> tuple[nn.Module, Callable[..., Any] | None]:
    """The model without its weights, and the function by which timm adapts a checkpoint to it.

    timm keeps that function to itself: it hands it to ``load_pretrained`` alone, so we stand there.
    """
    adapt: list[Callable[..., Any] | None] = []

    def instead(model: nn.Module, filter_fn: Callable[..., Any] | None = None, **_: Any) -> None:
        adapt.append(filter_fn)

    fixed = image_size is not None and known_model(name).fixed_input_size
    sizes = {"img_size": image_size} if fixed else {}
    try:
        with (
            torch.random.fork_rng(devices=[]),
            patch("timm.models._builder.load_pretrained", instead),
        ):
            model = timm.create_model(name, pretrained=True, **sizes)
        if image_size is not None:
            _try(model, image_size)
    except (AssertionError, RuntimeError, ValueError, TypeError, ZeroDivisionError) as error:
        if image_size is None:
            raise
        own = own_config(name).image_size
        raise BadInput(
            f"dataset.image_size: {name} cannot take images of {image_size} pixels "
            f"({str(error).strip() or repr(error)}); its own size is {own}."
        ) from error
    return model, adapt[0] if adapt else None


@torch.inference_mode()
def _try(model: nn.Module, image_size: int) -> None:
    """Send one black image of this size through the model, whatever its weights."""
    patch_size = getattr(getattr(model, "patch_embed", None), "patch_size", None)
    side = patch_size[0] if isinstance(patch_size, tuple | list) else patch_size
    if isinstance(side, int) and image_size % side:
        raise ValueError(f"which is no multiple of its patch size {side}")
    training = model.training
    features = model.eval().forward_features(torch.zeros(1, 3, image_size, image_size))  # type: ignore[operator]
    model.forward_head(features, pre_logits=True)  # type: ignore[operator]
    model.train(training)
