"""What pydantic found wrong with the settings, in sentences for whoever edits params.yaml."""

import re
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

SHOWN = 60  # characters of a wrong value

# kind of error -> what would be right; {names} are filled from the limits of the setting
RIGHT = {
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "string_type": "text",
    "list_type": "a list, written [a, b]",
    "dict_type": "a section, written as indented lines `name: value`",
    "model_type": "a section, written as indented lines `name: value`",
    "too_short": "a list or section with at least {min_length} entry",
    "string_too_short": "text that is not empty",
    "string_pattern_mismatch": "a name of small letters, digits, _ and -",
    "greater_than": "more than {gt:g}",
    "greater_than_equal": "at least {ge:g}",
    "less_than": "less than {lt:g}",
    "less_than_equal": "at most {le:g}",
    "multiple_of": "a multiple of {multiple_of:g}",
    "literal_error": "{expected}",
}


def sentences(error: ValidationError, schema: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """One sentence a problem: which setting, the value that was found, what would be right.

    Args:
        error: raised when something was validated against ``schema``.
        schema: tells which keys are known where an unknown one stands.
        prefix: of the setting's name, such as ``methods.vecaf.options``.
    """
    for problem in error.errors():
        loc = tuple(part for part in problem["loc"] if part != "[key]")
        where = "".join(
            f"[{p}]" if isinstance(p, int) else f".{p}" for p in (prefix, *loc) if p != ""
        )
        where = where.lstrip(".")
        kind, found = problem["type"], problem["input"]
        if kind == "value_error":  # from a validator of ours, a line a problem
            for line in str(problem["ctx"]["error"]).splitlines():
                yield stopped(f"{where}: {line}")
        elif kind == "extra_forbidden":
            known = keys_at(schema, loc[:-1])
            yield stopped(f"{where} is not a setting; {hint(str(loc[-1]), known)}")
        elif kind == "missing":
            yield f"{where} is missing; see the files in profiles/ for an example."
        elif kind in RIGHT:
            right = RIGHT[kind].format(**problem.get("ctx", {}))
            near = get_close_matches(str(found), re.findall(r"'([^']+)'", right), n=1)
            meant = f" (did you mean {near[0]!r}?)" if near else ""
            yield f"{where} is {shown(found)}; it should be {right}{meant}."
        else:
            yield f"{where} is {shown(found)}: {problem['msg']}."


def hint(name: str, known: list[str]) -> str:
    """The nearest of the known names, or all of them."""
    near = get_close_matches(name, known, n=1)
    if near:
        return f"did you mean {near[0]!r}?"
    return f"known are {', '.join(sorted(known))}" if known else "there are none here"


def known(name: str, names: Sequence[str], kind: str) -> str:
    """The name, if it is one of ``names``.

    Raises:
        ValueError: it is not; pydantic makes it the setting's sentence.
    """
    if name not in names:
        raise ValueError(f"{name!r} is no {kind}; {hint(name, list(names))}")
    return name


def stopped(text: str) -> str:
    """The text with the full stop that ends a sentence, if it does not end as a question."""
    return text if text.endswith("?") else f"{text}."


def shown(value: Any) -> str:
    """A wrong value as it is quoted: empty as YAML has it, long ones cut."""
    text = "empty" if value is None or value in ({}, []) else repr(value)
    return text if len(text) <= SHOWN else text[:SHOWN] + " ..."


def keys_at(schema: Any, loc: tuple[int | str, ...]) -> list[str]:
    """Names of the settings that may stand at ``loc``."""
    for part in loc:
        if isinstance(part, str) and part in getattr(schema, "model_fields", {}):
            schema = schema.model_fields[part].annotation
        schema = next(_models_in(schema), schema)
    return list(getattr(schema, "model_fields", {}))


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """The sections an annotation such as ``dict[Name, Method]`` or ``CEA | None`` speaks of."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _models_in(part)
