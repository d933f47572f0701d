"""The options of a method or data set: the keyword arguments that its function declares."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from vecaf_lib.errors import BadInput


def schema_of(function: Callable[..., Any], given: set[str], title: str) -> type[BaseModel]:
    """Pydantic model of a function's options, with their types, ranges and defaults.

    Args:
        function: its signature declares the options.
        given: the parameters that are no options, because the caller fills them.
        title: name of the model.
    """
    parameters = inspect.signature(function).parameters.values()
    fields = {p.name: (p.annotation, p.default) for p in parameters if p.name not in given}
    for name, (annotation, default) in fields.items():
        if default is inspect.Parameter.empty:
            fields[name] = (annotation, ...)
    strict = ConfigDict(extra="forbid", allow_inf_nan=False)
    return create_model(title, __config__=strict, **fields)  # type: ignore[call-overload]


def checked(schema: type[BaseModel], values: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The values with their defaults, or one sentence about the first that is wrong.

    Args:
        schema: made by ``schema_of``.
        values: the options by name.
        where: the setting that holds them, for the sentence.

    Raises:
        BadInput: an option is unknown, missing or not of its type or range.
    """
    try:
        return schema.model_validate(dict(values)).model_dump()
    except ValidationError as error:
        problem = error.errors()[0]
        name = ".".join(str(part) for part in (where, *problem["loc"]))
        if problem["type"] == "extra_forbidden":
            known = ", ".join(sorted(schema.model_fields)) or "none"
            raise BadInput(f"{name} is no option; known are: {known}.") from error
        if problem["type"] == "missing":
            raise BadInput(f"{name} is missing; it has no default.") from error
        raise BadInput(f"{name}: {problem['input']!r} is wrong: {problem['msg']}.") from error
