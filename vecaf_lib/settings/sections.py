"""The other sections of params.yaml: training, what the tables show, and where it is computed."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from vecaf_lib.distribution import Device
from vecaf_lib.precision import Precision
from vecaf_lib.settings.base import Count, NotNegative, Positive, Ratio, Section


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


class Part(Section):
    """The methods that one table compares, and at which ratio."""

    ratio: Ratio
    methods: Annotated[list[str], Field(min_length=1)]


class Replication(Part):
    """A part whose methods are run once more, with seeds that no other table has."""

    seeds: Annotated[list[int], Field(min_length=2)]


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
    paper leaves open with ``vecaf``, ``variant`` the parts of our own with ``vecaf_self_paced``;
    ``replication`` compares methods with ActiveFT once more, on seeds of its own.
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
    replication: Replication | None = None


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
