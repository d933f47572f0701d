"""The sections of params.yaml: names, ranges, choices and defaults."""

from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    field_validator,
    model_validator,
)

from vecaf_lib.cea import Form, Scope
from vecaf_lib.encoders.bridge import Kind
from vecaf_lib.probe import FirstLosses
from vecaf_lib.selection import names
from vecaf_lib.settings.errors import hint

Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Ratio = Annotated[float, Field(gt=0, le=100)]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")]


class Section(BaseModel):
    """A part of params.yaml: unknown keys, NaN and infinity are refused."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, frozen=True)


class Dataset(Section):
    """Which images."""

    name: Literal["digits"]
    image_size: Annotated[int, Field(ge=32, le=512)]


class Captions(Section):
    """Where captions come from: ``attributes`` (measured from pixels) or a CSV file id,caption."""

    source: Annotated[str, Field(min_length=1)]
    include_class_name: bool = False


class Vision(Section):
    """The pretrained vision model."""

    name: str
    weights: str = "package"


class Text(Section):
    """The frozen language encoder."""

    name: Literal["minilm"]


class Training(Section):
    """Finetuning; the fields of ``vecaf_lib.training.Recipe``, explained there."""

    steps: Count
    batch_size: Annotated[int, Field(ge=2, multiple_of=2)]
    learning_rate: Positive
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


class Grid(Section):
    """A block of runs: every ratio with every number of loops, single and/or multi-run."""

    ratios: Annotated[list[Ratio], Field(min_length=1)]
    loops: Annotated[list[Count], Field(min_length=1)]
    multi_run: Annotated[list[bool], Field(min_length=1)] = [True]


class Method(Section):
    """One row of a table: how it selects, whether it augments, and which runs are made of it."""

    select: str
    options: dict[str, Any] = {}
    first_losses: FirstLosses = "uniform"
    accumulate: bool = False
    cea: CEA | None = None
    grid: Annotated[list[Grid], Field(min_length=1)]

    @field_validator("select")
    @classmethod
    def _known(cls, value: str) -> str:
        if value not in names():
            raise ValueError(f"{value!r} is no method of selection; {hint(value, names())}")
        return value


class Tables(Section):
    """Which of the runs the tables and figures show."""

    ratios: Annotated[list[Ratio], Field(min_length=1)]
    loops: Count = 3
    ablation_ratio: Ratio
    loops_ratio: Ratio
    loops_compared: Annotated[list[Count], Field(min_length=1)]
    figure_ratio: Ratio
    figure_methods: Annotated[list[str], Field(min_length=1)]
    loss_window: Count
    target_accuracy: Annotated[list[Ratio], Field(min_length=1)]


class Compute(Section):
    """Worker processes and torch threads in each; the results do not depend on ``workers``."""

    workers: Count = 2
    threads: Count = 1
