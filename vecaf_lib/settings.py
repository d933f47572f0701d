"""The one schema of params.yaml: every name, range and choice is checked before any work starts."""

from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from vecaf_lib.cea import Form, Scope
from vecaf_lib.encoders.bridge import Kind
from vecaf_lib.errors import BadInput
from vecaf_lib.probe import FirstLosses
from vecaf_lib.selection import names, option_schema
from vecaf_lib.settings_errors import hint, sentences
from vecaf_lib.settings_tables import table_problems

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


class Settings(Section):
    """params.yaml as a whole."""

    profile: Name
    dataset: Dataset
    captions: Captions
    vision: Vision
    text: Text
    training: Training
    seeds: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]
    methods: Annotated[dict[Name, Method], Field(min_length=1)]
    run_methods: Annotated[list[str], Field(min_length=1)]
    tables: Tables
    compute: Compute = Compute()

    @field_validator("seeds")
    @classmethod
    def _distinct(cls, seeds: list[int]) -> list[int]:
        if len(set(seeds)) < len(seeds):
            raise ValueError(f"{seeds} has a seed twice; each repetition needs a seed of its own")
        return seeds

    # Through ``info`` each of these is told those of the sections above its own that are valid.

    @field_validator("methods")
    @classmethod
    def _enough_steps(cls, methods: dict[str, Method], info: Any) -> dict[str, Method]:
        training: Training | None = info.data.get("training")
        problems = []
        for name, method in methods.items():
            most = max(loops for block in method.grid for loops in block.loops)
            if training and most > training.steps:
                problems.append(
                    f"{name} asks for {most} loops, but training.steps is {training.steps}; "
                    "every loop needs at least one step"
                )
        return _or_complain(methods, problems)

    @field_validator("run_methods")
    @classmethod
    def _described(cls, run_methods: list[str], info: Any) -> list[str]:
        known: list[str] = list(info.data.get("methods", run_methods))
        unknown = [name for name in run_methods if name not in known]
        problems = [f"methods has no {name!r}; {hint(name, known)}" for name in unknown]
        if len(set(run_methods)) < len(run_methods):
            problems.append("a method is named twice; name each once")
        return _or_complain(run_methods, problems)

    @field_validator("tables")
    @classmethod
    def _has_runs(cls, tables: Tables, info: Any) -> Tables:
        if not {"training", "methods", "run_methods"} <= info.data.keys():
            return tables
        runs = {name: info.data["methods"][name] for name in info.data["run_methods"]}
        steps = info.data["training"].steps
        return _or_complain(tables, list(table_problems(tables, runs, steps)))


def _or_complain(value: Any, problems: list[str]) -> Any:
    if problems:
        raise ValueError("\n".join(problems))
    return value


def read(path: Path) -> Settings:
    """Read and check a profile or params.yaml.

    Returns:
        The settings with every default made explicit, options of the methods included.

    Raises:
        BadInput: one sentence a problem, a line each, all problems at once.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise BadInput(f"{path} is missing; `make profile PROFILE=smoke` makes it.") from error
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BadInput(f"{path} is not readable YAML: {' '.join(str(error).split())}.") from error
    if not isinstance(content, dict):
        raise BadInput(f"{path} has no settings; copy one of the files in profiles/.")
    problems: list[str] = []
    options = _options(content.get("methods"), problems)
    try:
        checked = Settings.model_validate(content)
    except ValidationError as error:
        problems = [*sentences(error, Settings), *problems]
    if problems:
        raise BadInput("\n".join(f"{path}: {problem}" for problem in problems))
    methods = {
        name: method.model_copy(update={"options": options[name]})
        for name, method in checked.methods.items()
    }
    return checked.model_copy(update={"methods": methods})


def _options(methods: Any, problems: list[str]) -> dict[str, dict[str, Any]]:
    """The options of each method with their defaults; wrong ones become problems.

    Looks at the file's content as it is, so that they are found whatever else is wrong.
    """
    complete = {}
    for name, method in methods.items() if isinstance(methods, dict) else []:
        if not isinstance(method, dict) or method.get("select") not in names():
            continue  # the schema tells
        schema = option_schema(method["select"])
        try:
            complete[name] = schema.model_validate(method.get("options", {})).model_dump()
        except ValidationError as error:
            if isinstance(method["options"], dict):
                problems += sentences(error, schema, f"methods.{name}.options")
    return complete
