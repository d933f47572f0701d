"""Find a data set by its name."""

from importlib import import_module
from pathlib import Path

from vecaf_lib.datasets.images import ImageSet
from vecaf_lib.errors import BadInput

KNOWN = ("digits",)


def load(name: str, split: str, *, image_size: int, index_dir: Path) -> ImageSet:
    """Load one split of the data set called ``name``.

    Args:
        name: one of ``KNOWN``; the module of the same name in this package does the work.
        split: ``train``, ``validation`` or ``test``.
        image_size: height and width of the images, in pixels.
        index_dir: folder with the data set's split index files.

    Raises:
        BadInput: the name is unknown, or the data set refuses the other values.
    """
    if name not in KNOWN:
        raise BadInput(f"There is no data set called {name!r}; known are: {', '.join(KNOWN)}.")
    images: ImageSet = import_module(f"vecaf_lib.datasets.{name}").load(
        split, image_size=image_size, index_dir=index_dir
    )
    return images
