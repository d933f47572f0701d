"""params.yaml as a whole: read and checked before any work starts, every default made explicit."""

from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import Field, ValidationError, field_validator

from vecaf_lib.errors import BadInput
from vecaf_lib.selection import names, option_schema
from vecaf_lib.settings.errors import hint, sentences
from vecaf_lib.settings.sections import (
    Captions,
    Compute,
    Dataset,
    Method,
    Name,
    Section,
    Tables,
    Text,
    Training,
    Vision,
)
from vecaf_lib.settings.tables import table_problems


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
