"""The form in which every data set hands over its images."""

from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Int64, UInt8
from torch import Tensor

from vecaf_lib.datasets.lazy import LazyImages
from vecaf_lib.errors import BadInput


@dataclass(frozen=True)
class ImageSet:
    """Labelled images of one size.

    Attributes:
        images: RGB, 0..255, [n, 3, h, w]; lazy ones are indexed and split as the tensor would be.
        labels: class number of each image, [n], each in ``range(len(class_names))``.
        ids: one name an image, all different, stable between versions of the split.
        class_names: the name of each class.

    Raises:
        BadInput: the lengths differ, an id is used twice or a label has no class name.
    """

    images: UInt8[Tensor, "n 3 h w"] | LazyImages
    labels: Int64[Tensor, "n"]
    ids: tuple[str, ...]
    class_names: tuple[str, ...]

    def __post_init__(self) -> None:
        if not len(self.images) == len(self.labels) == len(self.ids):
            raise BadInput(
                f"An image set needs one label and one id an image, but has {len(self.images)} "
                f"images, {len(self.labels)} labels and {len(self.ids)} ids."
            )
        if len(set(self.ids)) < len(self.ids):
            raise BadInput("An image set uses an id more than once; ids must be unique.")
        if ((self.labels < 0) | (self.labels >= len(self.class_names))).any():
            raise BadInput(
                f"An image set has a label outside 0..{len(self.class_names) - 1}, the numbers of "
                "its classes."
            )

    def __len__(self) -> int:
        return len(self.ids)

    def subset(self, indices: Sequence[int] | Int64[Tensor, "k"]) -> "ImageSet":
        """The images at ``indices``, in that order, without repeats; lazy ones stay lazy."""
        chosen = indices.tolist() if isinstance(indices, Tensor) else list(indices)
        images = self.images
        return ImageSet(
            images=images[chosen] if isinstance(images, Tensor) else images.take(chosen),
            labels=self.labels[chosen],
            ids=tuple(self.ids[index] for index in chosen),
            class_names=self.class_names,
        )
