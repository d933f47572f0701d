"""params.yaml as a whole: read and checked before any work starts, every default made explicit."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, Field, ValidationError, field_validator

from vecaf_lib import captions, datasets
from vecaf_lib.errors import BadInput
from vecaf_lib.selection import names, option_schema
from vecaf_lib.settings.base import Name, Section
from vecaf_lib.settings.data import Captions, Dataset, Domain, Text, Vision
from vecaf_lib.settings.errors import hint, sentences
from vecaf_lib.settings.method import Method
from vecaf_lib.settings.sections import Compute, StandsFor, Tables, Training
from vecaf_lib.settings.tables import table_problems


class Settings(Section):
    """params.yaml as a whole."""

    profile: Name
    stands_for: StandsFor | None = None
    dataset: Dataset
    captions: Captions
    vision: Vision
    text: Text
    training: Training
    domains: dict[Name, Domain] = Field(default_factory=dict)
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
            domains = info.data.get("domains", {})
            for domain in filter(None, [method.domain, *method.domains]):
                if domain not in domains:
                    problems.append(
                        f"{name} names the domain {domain!r}, which the section domains has not; "
                        f"{hint(domain, list(domains))}"
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
        styled = [name for name, method in info.data["methods"].items() if method.stylise]
        steps = info.data["training"].steps
        return _or_complain(tables, list(table_problems(tables, runs, steps, styled)))

    @field_validator("compute")
    @classmethod
    def _shared_equally(cls, compute: Compute, info: Any) -> Compute:
        training: Training | None = info.data.get("training")
        if training and training.batch_size % compute.processes:
            raise ValueError(
                f"processes is {compute.processes}, by which training.batch_size "
                f"({training.batch_size}) cannot be shared equally; change one of them"
            )
        return compute


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
    found = dict(_options(content, problems))
    try:
        checked = Settings.model_validate(content)
    except ValidationError as error:
        problems = [*sentences(error, Settings), *problems]
    if problems:
        raise BadInput("\n".join(f"{path}: {problem}" for problem in problems))
    complete = {
        name: getattr(checked, name).model_copy(update={"options": found[name]})
        for name in ("dataset", "captions")
    }
    methods = {
        name: method.model_copy(update={"options": found[f"methods.{name}"]})
        for name, method in checked.methods.items()
    }
    return checked.model_copy(update=complete | {"methods": methods})


def _options(content: Any, problems: list[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each section that has options, and these with their defaults; wrong ones become problems.

    Looks at the file's content as it is, so that they are found whatever else is wrong.
    """
    for where, section, schema in _sections_with_options(content):
        options = section.get("options", {})
        try:
            yield where, schema.model_validate(options).model_dump(mode="json")
        except ValidationError as error:
            if isinstance(options, dict):
                problems += sentences(error, schema, f"{where}.options")


def _sections_with_options(
    content: Any,
) -> Iterator[tuple[str, dict[str, Any], type[BaseModel]]]:
    """Setting's name, content and schema of the options, of those whose own name is known."""
    methods = content.get("methods")
    sections = {f"methods.{k}": v for k, v in methods.items()} if isinstance(methods, dict) else {}
    sections |= {name: content.get(name) for name in ("dataset", "captions")}
    for where, section in sections.items():
        if not isinstance(section, dict):
            continue  # the schema tells
        if where == "dataset" and section.get("name") in datasets.KNOWN:
            yield where, section, datasets.option_schema(section["name"])
        elif where == "captions" and _is_captioner(section.get("source")):
            yield where, section, captions.option_schema(section["source"])
        elif section.get("select") in names():
            yield where, section, option_schema(section["select"])


def _is_captioner(source: Any) -> bool:
    return isinstance(source, str) and (source in captions.CAPTIONERS or captions.is_file(source))
