"""The one schema of params.yaml: every name, range and choice is checked before any work starts."""

import difflib
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from vecaf_lib.cea import Form, Scope
from vecaf_lib.encoders.bridge import Kind
from vecaf_lib.errors import BadInput
from vecaf_lib.probe import FirstLosses
from vecaf_lib.selection import load, option_schema

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

    source: str
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
            raise ValueError(f"mode 'official' fixes {', '.join(sorted(chosen))}; leave them out")
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
        load(value)
        return value


class Tables(Section):
    """Which of the runs the tables and figures show."""

    loops: Count = 3
    ablation_ratio: Ratio
    loops_ratio: Ratio
    loops_compared: Annotated[list[Count], Field(min_length=1)]
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
    run_methods: Annotated[list[str], Field(min_length=1)]
    methods: Annotated[dict[Name, Method], Field(min_length=1)]
    tables: Tables
    compute: Compute = Compute()

    @field_validator("seeds")
    @classmethod
    def _distinct(cls, seeds: list[int]) -> list[int]:
        if len(set(seeds)) < len(seeds):
            raise ValueError(f"{seeds} has a seed twice; paired statistics need distinct seeds")
        return seeds

    @model_validator(mode="after")
    def _described(self) -> "Settings":
        for name in self.run_methods:
            if name not in self.methods:
                known = ", ".join(self.methods)
                raise ValueError(f"run_methods names {name!r}, but methods has only {known}")
        return self

    @model_validator(mode="after")
    def _enough_steps(self) -> "Settings":
        for name, method in self.methods.items():
            most = max(loops for block in method.grid for loops in block.loops)
            if most > self.training.steps:
                raise ValueError(
                    f"methods.{name}.grid asks for {most} loops of {self.training.steps} steps; "
                    "every loop needs at least one step"
                )
        return self


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
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BadInput(f"{path} is not readable YAML: {' '.join(str(error).split())}.") from error
    if not isinstance(content, dict):
        raise BadInput(f"{path} has no settings; copy one of the files in profiles/.")
    problems: list[str] = []
    checked = _validate(Settings, content, "", problems)
    methods = {}
    for name, method in (checked.methods if isinstance(checked, Settings) else {}).items():
        schema, where = option_schema(method.select), f"methods.{name}.options."
        options = _validate(schema, method.options, where, problems)
        if options is not None:
            methods[name] = method.model_copy(update={"options": options.model_dump()})
    if problems or not isinstance(checked, Settings):
        raise BadInput("\n".join(f"{path}: {problem}" for problem in problems))
    return checked.model_copy(update={"methods": methods})


def _validate(
    schema: type[BaseModel], content: Any, prefix: str, problems: list[str]
) -> BaseModel | None:
    try:
        return schema.model_validate(content)
    except ValidationError as error:
        problems += [_sentence(schema, prefix, problem) for problem in error.errors()]
        return None


def _sentence(schema: type[BaseModel], prefix: str, problem: Any) -> str:
    """One sentence for one of pydantic's errors: where, what was found, what would be right."""
    where = prefix + ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        known = _keys_at(schema, problem["loc"][:-1])
        near = difflib.get_close_matches(str(problem["loc"][-1]), known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(sorted(known))}."
        return f"{where} is not a setting; {hint}"
    if problem["type"] == "missing":
        return f"{where} is missing; see profiles/ for an example."
    reason = problem["msg"].removeprefix("Value error, ").rstrip(".")
    if not where:
        return f"{reason}."
    shown = "" if isinstance(problem["input"], dict) else f" is {problem['input']!r}"
    return f"{where}{shown}: {reason[0].lower()}{reason[1:]}."


def _keys_at(schema: Any, loc: tuple[Any, ...]) -> list[str]:
    """Field names that would have been right at ``loc``."""
    for part in loc:
        if (
            isinstance(schema, type)
            and issubclass(schema, BaseModel)
            and part in schema.model_fields
        ):
            schema = schema.model_fields[part].annotation
        inner = [a for a in getattr(schema, "__args__", ()) if isinstance(a, type)]
        models = [a for a in inner if issubclass(a, BaseModel)]
        nested = [m for a in getattr(schema, "__args__", ()) for m in getattr(a, "__args__", ())]
        models += [m for m in nested if isinstance(m, type) and issubclass(m, BaseModel)]
        schema = models[0] if models else schema
    return list(schema.model_fields) if hasattr(schema, "model_fields") else []
