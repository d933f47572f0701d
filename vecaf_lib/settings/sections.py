"""The sections of params.yaml: names, ranges, choices and defaults."""

from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    field_validator,
    model_validator,
)

from vecaf_lib import datasets
from vecaf_lib.captions.make import CAPTIONERS, is_file
from vecaf_lib.captions.prompts import Part
from vecaf_lib.cea import Form, Scope
from vecaf_lib.datasets.imagenet_c import Corruption, Severity
from vecaf_lib.distribution import Device
from vecaf_lib.encoders.bridge import Kind
from vecaf_lib.encoders.text_registry import TEXT_ENCODERS
from vecaf_lib.precision import AnyPrecision, Precision
from vecaf_lib.probe import FirstLosses
from vecaf_lib.selection import names
from vecaf_lib.settings.errors import known

Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Ratio = Annotated[float, Field(gt=0, le=100)]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")]


class Section(BaseModel):
    """A part of params.yaml: unknown keys, NaN and infinity are refused."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, frozen=True)


class Dataset(Section):
    """Which images, and where they lie; explained in ``vecaf_lib.datasets.load``."""

    name: str
    image_size: Annotated[int, Field(ge=32, le=1024)]
    root: str | None = None
    memory_gib: NotNegative = 1.0
    options: dict[str, Any] = {}

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
    options: dict[str, Any] = {}

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


class Training(Section):
    """Finetuning; the fields of ``vecaf_lib.training.Recipe``, explained there."""

    steps: Count
    batch_size: Annotated[int, Field(ge=2, multiple_of=2)]
    learning_rate: Positive
    warm_up: Annotated[int, Field(ge=0)] = 0
    weight_decay: NotNegative = 1e-4
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    clip_norm: Positive | None = None
    freeze_batchnorm_statistics: bool = True
    shift: Annotated[int, Field(ge=0)] = 0
    flip: bool = False
    restart_each_loop: bool = False
    evaluate_every: Count = 10


class CEA(Section):
    """Cross-attentive embedding augmentation; explained in ``vecaf_lib.cea.Augmentation``."""

    mode: Literal["paper", "official"] = "paper"
    eta: NotNegative = 0.2
    form: Form = "scaled"
    bridge: Kind = "ridge"
    ridge: Positive = 0.1
    refit_bridge: bool = True
    rescale_text: bool = True
    pool_scope: Scope = "selected"
    finetune_augmented: bool = True

    @model_validator(mode="after")
    def _official_has_no_choices(self) -> "CEA":
        chosen = self.model_fields_set - {"mode", "bridge", "ridge"}
        if self.mode == "official" and chosen:
            fixed = " and no ".join(sorted(chosen))
            raise ValueError(f"mode 'official' takes no {fixed}; leave it out or use mode 'paper'")
        return self


class Domain(Section):
    """A target domain (section 3.3): what captions say of it, and the images of it to test on.

    ``images``: ``corrupted``, the profile's own test images corrupted here, or ``imagenet_c``, the
    published set, which lies at ``root`` (see ``vecaf_lib.datasets``).
    """

    prompt: Annotated[str, Field(min_length=1)]
    corruption: Corruption
    images: Literal["corrupted", "imagenet_c"] = "corrupted"
    root: str | None = None
    severities: Annotated[list[Severity], Field(min_length=1)] = [1, 2, 3, 4, 5]


class Stylise(Section):
    """CLIPstyler, see ``vecaf_lib.stylise``: train on images in the style of the domain's prompt.

    ``model``: open_clip's ``architecture:tag``; ``weights``: ``hub`` (its local cache) or a path.
    """

    model: str = "ViT-B-32:openai"
    weights: Annotated[str, Field(min_length=1)] = "hub"
    steps: Count = 200
    batch_size: Count = 4


class Grid(Section):
    """A block of runs: every ratio with every number of loops, single and/or multi-run.

    ``targets``: names of classes, each of which is told from all others in a run of its own
    (Table 2); left out, all classes are told apart.
    """

    ratios: Annotated[list[Ratio], Field(min_length=1)]
    loops: Annotated[list[Count], Field(min_length=1)]
    multi_run: Annotated[list[bool], Field(min_length=1)] = [True]
    targets: list[str] = []


class Method(Section):
    """One row of a table: how it selects, whether it augments, and which runs are made of it.

    ``vision`` and ``text`` replace the profile's own. ``class_names``: every caption is told its
    image's class, as the released code's are. ``caption_part``: of the captioner tags, only the
    nouns or only the attributes. ``domain``: whose prompt ends every caption.
    ``domains``: those it is tested in besides. ``repetitions``: it is run with so many of the
    profile's seeds, the first ones; null is all of them. ``stylise``: its training images are
    moved to ``domain`` first.
    """

    select: str
    options: dict[str, Any] = {}
    first_losses: FirstLosses = "uniform"
    accumulate: bool = False
    cea: CEA | None = None
    stylise: Stylise | None = None
    vision: Vision | None = None
    text: Text | None = None
    class_names: bool = False
    caption_part: Part = "whole"
    domain: str | None = None
    domains: list[str] = []
    repetitions: Count | None = None
    grid: Annotated[list[Grid], Field(min_length=1)]

    @field_validator("select")
    @classmethod
    def _known(cls, value: str) -> str:
        return known(value, names(), "method of selection")

    @model_validator(mode="after")
    def _style_of_what(self) -> "Method":
        if self.stylise and not self.domain:
            raise ValueError("stylise needs a domain, whose prompt says what style; name one")
        return self

    @model_validator(mode="after")
    def _names_for_whom(self) -> "Method":
        for name in ("class_names", "caption_part"):
            if getattr(self, name) not in (False, "whole") and not self.cea:
                raise ValueError(f"{name} changes captions, which only cea reads; give cea")
        return self


class Part(Section):
    """The methods that one table compares, and at which ratio."""

    ratio: Ratio
    methods: Annotated[list[str], Field(min_length=1)]


class StandsFor(Section):
    """Which data set of the paper a profile is about; ``full`` if it is the paper's whole setting.

    The verdicts of the ledger of claims depend on it.
    """

    dataset: Literal["CIFAR-10", "Caltech-101", "ImageNet-1K"]
    full: bool = False


class Tables(Section):
    """Which of the runs the tables and figures show.

    ``by_class`` adds Table 1 in mean accuracy per class, for pools whose classes differ in size.
    ``objective``, ``domains``, ``encoders`` are Tables 2, 3 and 5; ``decisions`` compares what the
    paper leaves open with ``vecaf``, ``variant`` the parts of our own with ``vecaf_by_class``.
    """

    ratios: Annotated[list[Ratio], Field(min_length=1)]
    by_class: bool = False
    loops: Count = 3
    ablation_ratio: Ratio
    loops_ratio: Ratio
    loops_compared: Annotated[list[Count], Field(min_length=1)]
    figure_ratio: Ratio
    figure_methods: Annotated[list[str], Field(min_length=1)]
    loss_window: Count
    target_accuracy: Annotated[list[Ratio], Field(min_length=1)]
    objective: Part | None = None
    domains: Part | None = None
    encoders: Part | None = None
    decisions: Part | None = None
    variant: Part | None = None


class Compute(Section):
    """Where the work is done.

    ``workers``: runs side by side, on which no result depends. ``threads``: torch's, of each.
    ``precision``: of training; ``evaluation_precision``: of passes without gradients, over the pool
    and the splits, null is the same. ``processes``: how many share one run, one captioning and one
    pass over the images, a GPU each.
    ``memory_gib`` and ``gpu_memory_gib``: what the profile is known to need, for `make check`.
    """

    workers: Count = 2
    threads: Count = 1
    device: Device = "auto"
    processes: Count = 1
    precision: Precision = "float32"
    evaluation_precision: Precision | None = None
    memory_gib: Positive | None = None
    gpu_memory_gib: Positive | None = None

    @model_validator(mode="after")
    def _one_or_the_other(self) -> "Compute":
        if self.processes > 1 and self.workers > 1:
            raise ValueError(
                f"processes is {self.processes} and workers is {self.workers}; one of them must be "
                "1: either several processes share a run, or several runs go side by side"
            )
        return self
