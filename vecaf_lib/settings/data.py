"""The sections of params.yaml about images, captions and the models that read them."""

from typing import Annotated, Any, Literal, get_args

from pydantic import Field, field_validator

from vecaf_lib import datasets
from vecaf_lib.captions.make import CAPTIONERS, is_file
from vecaf_lib.datasets.imagenet_c import Corruption, Severity
from vecaf_lib.encoders.text_registry import TEXT_ENCODERS
from vecaf_lib.precision import AnyPrecision
from vecaf_lib.settings.base import Count, NotNegative, Section
from vecaf_lib.settings.errors import known


class Dataset(Section):
    """Which images, and where they lie; explained in ``vecaf_lib.datasets.load``."""

    name: str
    image_size: Annotated[int, Field(ge=32, le=1024)]
    root: str | None = None
    memory_gib: NotNegative = 1.0
    options: dict[str, Any] = Field(default_factory=dict)

    @field_validator("name")
    @classmethod
    def _known(cls, value: str) -> str:
        return known(value, datasets.KNOWN, "data set")


class Captions(Section):
    """Where captions come from.

    ``source``: ``blip2``, ``tags``, ``attributes`` (explained in ``vecaf_lib.captions``, each with
    ``options`` of its own), or the path of a CSV or JSONL file with id and caption.
    ``image_size``: what the captioner is shown, in pixels; null is the data set's.
    """

    source: Annotated[str, Field(min_length=1)]
    image_size: Annotated[int, Field(ge=32, le=1024)] | None = None
    batch_size: Count = 32
    options: dict[str, Any] = Field(default_factory=dict)

    @field_validator("source")
    @classmethod
    def _known(cls, value: str) -> str:
        if is_file(value):
            return value
        names = list(CAPTIONERS)
        return known(value, names, f"captioner ({', '.join(names)}) and no .csv or .jsonl file")


class Vision(Section):
    """The pretrained vision model: timm's name; ``package``, ``hub`` or the path of a file."""

    name: Annotated[str, Field(min_length=1)]
    weights: Annotated[str, Field(min_length=1)] = "package"


class Text(Section):
    """The frozen language encoder; explained in ``vecaf_lib.encoders.text.encode``."""

    name: str
    weights: Annotated[str, Field(min_length=1)] = "package"
    model: str | None = None
    revision: str | None = None
    pooling: str | None = None
    max_tokens: Count | None = None
    batch_size: Count = 64
    width: Count = 768
    seed: Annotated[int, Field(ge=0)] = 0
    precision: AnyPrecision = "float32"

    @field_validator("name")
    @classmethod
    def _known(cls, value: str) -> str:
        return known(value, list(TEXT_ENCODERS), "text encoder")


class Domain(Section):
    """A target domain (section 3.3): what captions say of it, and the images of it to test on.

    ``images``: ``corrupted``, the profile's own test images corrupted here, or ``imagenet_c``, the
    published set, which lies at ``root`` (see ``vecaf_lib.datasets``).
    """

    prompt: Annotated[str, Field(min_length=1)]
    corruption: Corruption
    images: Literal["corrupted", "imagenet_c"] = "corrupted"
    root: str | None = None
    severities: list[Severity] = Field(default_factory=lambda: [*get_args(Severity)], min_length=1)
