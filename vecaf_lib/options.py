"""Settings that a schema declares: options read off signatures, and wrong values in sentences."""

import inspect
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Annotated, Any, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from vecaf_lib.errors import BadInput, did_you_mean

Count = Annotated[int, Field(ge=1)]
Whole = Annotated[int, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
BelowOne = Annotated[float, Field(ge=0, lt=1)]
Share = Annotated[float, Field(gt=0, le=1)]
QUOTED = 60  # characters of a wrong value
EXPECTED = {  # kind of error -> what would be right, where pydantic speaks of Python or patterns
    "list_type": "a list, written [a, b]",
    "dict_type": "a section, written as indented lines `name: value`",
    "model_type": "a section, written as indented lines `name: value`",
    "string_type": "text",
    "string_too_short": "text that is not empty",
    "string_pattern_mismatch": "a name of small letters, digits, _ and -",
}


def schema_of(function: Callable[..., Any], given: Collection[str], title: str) -> type[BaseModel]:
    """Pydantic model of a function's options: of all parameters but those the caller fills."""
    fields: dict[str, Any] = {
        p.name: (p.annotation, ... if p.default is p.empty else p.default)
        for p in inspect.signature(function).parameters.values()
        if p.name not in given
    }
    return create_model(
        title, __config__=ConfigDict(extra="forbid", allow_inf_nan=False, strict=True), **fields
    )


def checked(schema: type[BaseModel], values: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The values with their defaults; ``where`` is the setting that holds them.

    Raises:
        BadInput: the first option that is unknown, missing or not of its type or range.
    """
    try:
        return schema.model_validate(dict(values)).model_dump()
    except ValidationError as error:
        raise BadInput(next(sentences(error, schema, where))) from error


def sentences(error: ValidationError, schema: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """One sentence a problem: which setting (below ``prefix``), its value, what would be right."""
    for problem in error.errors():
        location = [part for part in problem["loc"] if part != "[key]"]
        parts = [f"[{p}]" if isinstance(p, int) else f".{p}" for p in (prefix, *location)]
        name, kind, value = "".join(parts).strip("."), problem["type"], problem["input"]
        # empty as YAML has it, long ones cut
        quoted = "empty" if value is None or value in ({}, []) else repr(value)
        quoted = quoted if len(quoted) <= QUOTED else quoted[:QUOTED] + " ..."
        if kind == "value_error":  # from a validator of ours, a line a problem
            for line in str(problem["ctx"]["error"]).splitlines():
                yield f"{name}: {line.rstrip('.')}."
        elif kind == "extra_forbidden":
            known = _names_at(schema, location[:-1])
            yield f"{name} is not a setting; {did_you_mean(location[-1], known)}."
        elif kind == "missing":
            yield f"{name} is missing; it has no default."
        elif kind in EXPECTED:
            yield f"{name} is {quoted}; it should be {EXPECTED[kind]}."
        elif kind == "literal_error":
            choices = re.findall(r"'([^']+)'", problem["ctx"]["expected"])
            yield f"{name} is {quoted}; {did_you_mean(value, choices)}."
        else:  # "Input should be greater than 0"
            yield f"{name} is {quoted}; it {problem['msg'].partition(' ')[2]}."


def one_of(name: str, choices: Collection[str], kind: str) -> str:
    """The name, if it is one of the choices, else BadInput; also for validators."""
    if name not in choices:
        raise BadInput(f"{name!r} is no {kind}; {did_you_mean(name, choices)}.")
    return name


def _names_at(schema: Any, location: list[int | str]) -> list[str]:
    for part in location:
        if part in getattr(schema, "model_fields", {}):
            schema = schema.model_fields[part].annotation
        schema = next(_models_in(schema), schema)
    return sorted(getattr(schema, "model_fields", {}))


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """The sections that an annotation such as ``dict[Name, Method]`` or ``CEA | None`` names."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _models_in(part)
