"""A PVM split into a frozen trunk, whose output is computed once and stored, and what is finetuned.

The stored output, the states, takes the place of the images in training and in every pass. Other
images go through the trunk as they come; it is in evaluation mode always.
"""

import math
from collections.abc import Callable, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from vecaf_lib.data.images import Index, LazyImages
from vecaf_lib.errors import BadInput
from vecaf_lib.models.extract import embeddings
from vecaf_lib.models.vision import PVM, template

Trainable = Literal["all", "last_blocks", "head"]  # the classifier in any case
Names = tuple[str, ...]
FAMILIES: dict[str, tuple[Names, Names]] = {  # parts before its blocks, and after
    "EfficientNet": (("conv_stem", "bn1"), ("conv_head", "bn2")),
    "VisionTransformer": (
        ("patch_embed", "cls_token", "reg_token", "dist_token", "pos_embed", "norm_pre"),
        ("norm",),
    ),
}


def freeze(pvm: PVM, trainable: Trainable, blocks: int = 1) -> None:
    """Split ``pvm`` in place, so that only its classifier, or ``blocks`` blocks too, are trained.

    A block is an entry of timm's ``blocks``: a stage of an EfficientNet, a block of a ViT. What
    follows the last one is trained with it. BadInput for another kind of model, or fewer blocks.
    """
    if trainable != "all":
        pvm.trunk, pvm.backbone = _split(pvm.backbone, trainable, blocks)


def state_shape(name: str, image_size: int, trainable: Trainable, blocks: int = 1) -> torch.Size:
    """Shape of the states of one image, without making tensors; BadInput as of ``freeze``."""
    backbone = template(name, image_size)
    with torch.device("meta"), torch.inference_mode():
        trunk, _ = _split(backbone, trainable, blocks)
        return trunk(torch.zeros(1, 3, image_size, image_size)).shape[1:]


def _split(backbone: Any, trainable: Trainable, blocks: int) -> tuple["Trunk", nn.Module]:
    if trainable == "head":
        return Trunk(backbone, whole=True), NoTail(backbone.head_hidden_size)
    classes = [part.__name__ for part in type(backbone).__mro__]
    kind, name = next((part for part in classes if part in FAMILIES), None), classes[0]
    if kind is None:
        raise BadInput(
            f"training.trainable: last_blocks is for models of the kinds EfficientNet, ViT and "
            f"DeiT, not for {name}; use head, or all."
        )
    if blocks > (count := len(backbone.blocks)):
        raise BadInput(f"training.blocks is {blocks}, but {name} has {count} blocks.")
    before, after = FAMILIES[kind]
    tail = deepcopy(backbone)
    tail.blocks, backbone.blocks = tail.blocks[-blocks:], backbone.blocks[:-blocks]
    for name in filter(lambda name: hasattr(tail, name), before):
        setattr(tail, name, None)
    for name in after:
        setattr(backbone, name, nn.Identity())
    return Trunk(backbone, whole=False), Tail(tail, after, skipped=count - blocks)


class Trunk(nn.Module):
    """The frozen part: pixels in, states [n, ...] out; the ``whole`` backbone's are embeddings."""

    backbone: Any

    def __init__(self, backbone: nn.Module, *, whole: bool) -> None:
        super().__init__()
        self.backbone, self.whole = backbone.requires_grad_(False), whole
        self.train()

    def train(self, mode: bool = True) -> "Trunk":
        """Stay in evaluation mode."""
        return super().train(False)

    def forward(self, pixels: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n *state"]:
        """Run all but the tail."""
        states = self.backbone.forward_features(pixels)
        return self.backbone.forward_head(states, pre_logits=True) if self.whole else states


class Tail(nn.Module):
    """The blocks after the trunk: states in, with what ``PVM`` and ``features`` ask of timm."""

    backbone: Any

    def __init__(self, backbone: nn.Module, after: Names, *, skipped: int) -> None:
        """``backbone`` has the last blocks alone; ``skipped`` are before them in the whole."""
        super().__init__()
        self.backbone, self.after = backbone, after
        names = [info["module"] for info in self.backbone.feature_info]  # blocks.3, ...
        places = [int(name.split(".")[1]) - skipped for name in names]
        self.map_after = [place for place in places if place >= 0]  # blocks whose output is a map
        self.feature_info = self.backbone.feature_info[-len(self.map_after) :]

    def forward_features(self, states: Tensor) -> Tensor:
        """See timm."""
        return self.forward_intermediates(states, [])[0]

    def forward_intermediates(
        self, states: Tensor, indices: Sequence[int]
    ) -> tuple[Tensor, list[Float[Tensor, "n _ _ _"]]]:
        """See timm; ``indices`` are of ``feature_info``."""
        maps, wanted = [], {self.map_after[index] for index in indices}
        for place, block in enumerate(self.backbone.blocks):
            states = block(states)
            if place in wanted:
                maps.append(self._map(states))
        for name in self.after:
            states = getattr(self.backbone, name)(states)
        return states, maps

    def forward_head(self, states: Tensor, *, pre_logits: bool) -> Tensor:
        """See timm."""
        return self.backbone.forward_head(states, pre_logits=pre_logits)

    def _map(self, states: Tensor) -> Float[Tensor, "n _ _ _"]:
        if states.dim() == 4:
            return states
        patches = states[:, self.backbone.num_prefix_tokens :]  # (n, h * h, d), of square images
        return patches.mT.unflatten(2, (math.isqrt(patches.shape[1]), -1))


class NoTail(Tail):
    """In place of a tail where the states are the embeddings, which also are its one map."""

    def __init__(self, width: int) -> None:
        nn.Module.__init__(self)
        self.feature_info = [{"num_chs": width, "reduction": 1}]

    def forward_intermediates(
        self, states: Tensor, indices: Sequence[int]
    ) -> tuple[Tensor, list[Float[Tensor, "n _ _ _"]]]:
        """See timm."""
        return states, [states[:, :, None, None]]

    def forward_head(self, states: Tensor, *, pre_logits: bool) -> Tensor:
        """See timm."""
        return states


class StoredStates(LazyImages):
    """A trunk's states of images, read from a .npy file when indexed; no more is in memory."""

    def __init__(self, files: Sequence[Path], count: int) -> None:
        """A second file has those of the mirrored images; BadInput if one has not ``count``."""
        self._files = [embeddings(file, size=count) for file in files]
        self.shape = self._files[0].shape

    def _make(self, rows: list[int]) -> Float[Tensor, "k *state"]:
        return self._files[0][rows]

    def read(self, at: Index, mirror: Bool[Tensor, " b"]) -> Float[Tensor, "b *state"]:
        """The states at ``at``, those of the marked images mirrored."""
        rows = self._positions(at)
        states = self._make(rows)
        for place in mirror.nonzero().flatten().tolist():
            states[place] = self._files[1][rows[place]]
        return states


def states_of(pvm: PVM, *, mirrored: bool = False) -> Callable[[Tensor], Tensor]:
    """From a batch of images to the trunk's states of them, or of the mirrored images."""
    return lambda images: pvm.states(images.flip(3) if mirrored else images)
