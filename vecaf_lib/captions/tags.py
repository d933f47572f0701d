"""A captioner for machines without BLIP-2: the likeliest ImageNet classes, and what is measured.

"A picture of a tabby, perhaps a tiger cat or an Egyptian cat; bright, low in contrast, soft, muted
in colour, mostly brown." The names are those of a pretrained classifier, most probable first,
never the data set's own labels; ``photo`` measures the rest.
"""

from typing import Any

import timm
import torch
from jaxtyping import UInt8
from torch import Tensor, nn
from torch.nn.functional import interpolate

from vecaf_lib.captions import photo
from vecaf_lib.captions._types import Count, Pixels
from vecaf_lib.captions.captioner import Captioner, Images, evenly
from vecaf_lib.captions.nouns import class_nouns, with_article
from vecaf_lib.encoders.vision import load_backbone, memory_format
from vecaf_lib.encoders.weights import weights_available, weights_identity
from vecaf_lib.errors import BadInput
from vecaf_lib.precision import AnyPrecision, autocast, resolve


class TagCaptioner(Captioner):
    """Names the most probable ImageNet classes and the photographic attributes of each image.

    Args:
        pool_images: the pool; thresholds of the attributes come from at most 2,000 evenly spaced.
        model: timm's name of an ImageNet classifier.
        weights: ``package``, ``hub`` or the path of a file, as for the vision model.
        image_size: what the classifier is shown, in pixels: images are resized to it (bicubic);
            None: as they come.
        top: how many classes are named.
        precision: of the classifier's arithmetic; ``auto``: see ``vecaf_lib.precision``.
        device: where it runs.

    Raises:
        BadInput: unknown model, absent weights, or not an ImageNet classifier.
    """

    def __init__(
        self,
        *,
        pool_images: Images,
        model: str = "tf_efficientnet_lite0",
        weights: str = "package",
        image_size: Pixels | None = None,
        top: Count = 3,
        precision: AnyPrecision = "float32",
        device: str | torch.device = "cpu",
    ) -> None:
        self._size = image_size or int(pool_images.shape[-1])
        try:
            network = load_backbone(
                model, weights=weights, image_size=self._size, need_classifier=True
            )
            digest = weights_identity(model, weights)
        except BadInput as error:
            raise BadInput(_in_captions(str(error))) from error
        self._model = _eval(network, device)
        self._nouns = class_nouns(network, model)
        cfg = network.pretrained_cfg  # type: ignore[union-attr]
        self._mean, self._std = (
            255.0 * torch.tensor(cfg[name], device=device).view(1, 3, 1, 1)  # type: ignore[index]
            for name in ("mean", "std")
        )
        self._top, self._precision = top, resolve(device, precision)
        self._thresholds = photo.fit(evenly(pool_images))
        self._record = {
            "captioner": "tags",
            "model": model,
            "weights_sha256": digest,
            "image_size": self._size,
            "top": top,
            "precision": self._precision,
            "thresholds": {name: list(pair) for name, pair in self._thresholds.items()},
            "versions": {"timm": timm.__version__, "torch": torch.__version__.split("+")[0]},
        }

    def record(self) -> dict[str, Any]:
        """Classifier, its weights' checksum, image size, thresholds and libraries."""
        return self._record

    @torch.inference_mode()
    def __call__(self, images: UInt8[Tensor, "b 3 h w"]) -> list[str]:
        """One sentence an image, [b], never empty."""
        device = self._mean.device
        pixels = (_resize(images.to(device), self._size) - self._mean) / self._std
        with autocast(device, self._precision):
            scores = self._model(pixels.contiguous(memory_format=memory_format(self._model)))
        # spare classes, because two of ImageNet's may bear one name (crane: the bird, the machine)
        ranked = scores.float().topk(min(2 * self._top, scores.shape[1])).indices  # (b, 2 top)
        attributes = photo.describe(images, self._thresholds)
        return [
            _sentence(self._likeliest(row), words)
            for row, words in zip(ranked.tolist(), attributes, strict=True)
        ]

    def _likeliest(self, ranked: list[int]) -> list[str]:
        return list(dict.fromkeys(self._nouns[index] for index in ranked))[: self._top]


def available(model: str, weights: str) -> str | None:
    """None if the classifier is at hand, else the sentence that says what to do."""
    problem = weights_available(model, weights)
    return _in_captions(problem) if problem else None


def _sentence(names: list[str], attributes: str) -> str:
    first, *others = [with_article(name) for name in names]
    perhaps = " or ".join(filter(None, (", ".join(others[:-1]), *others[-1:])))
    return f"A picture of {first}{f', perhaps {perhaps}' if perhaps else ''}; {attributes}."


def _resize(images: UInt8[Tensor, "b 3 h w"], size: int) -> Tensor:
    """To [b, 3, size, size], still 0..255, as float32."""
    if images.shape[2:] == (size, size):
        return images.float()
    large = interpolate(images.float(), (size, size), mode="bicubic", antialias=True)
    return large.clamp_(0, 255)  # bicubic overshoots at edges


def _eval(network: nn.Module, device: str | torch.device) -> nn.Module:
    return network.to(device).eval().requires_grad_(False)


def _in_captions(sentence: str) -> str:
    """A sentence about the vision model's settings, said of the captioner's."""
    for theirs, ours in (
        ("vision.name", "captions.options.model"),
        ("vision.weights", "captions.options.weights"),
        ("dataset.image_size", "captions.options.image_size"),
    ):
        sentence = sentence.replace(theirs, ours)
    return sentence
