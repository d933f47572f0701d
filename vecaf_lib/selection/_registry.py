"""Find a method by the name of its file, and read its options off its signature."""

import difflib
import importlib
import pkgutil
from pathlib import Path
from types import ModuleType

from pydantic import BaseModel

from vecaf_lib.errors import BadInput
from vecaf_lib.options import schema_of

_GIVEN_BY_THE_LOOP = {"pool", "budget", "generator", "record"}


def names() -> list[str]:
    """Names of all methods: the files of this folder that have no underscore in front."""
    found = pkgutil.iter_modules([str(Path(__file__).parent)])
    return sorted(module.name for module in found if not module.name.startswith("_"))


def load(name: str) -> ModuleType:
    """Import the method ``name``; its module has ``select`` and ``NEEDS``.

    Raises:
        BadInput: no such method.
    """
    if name not in names():
        near = difflib.get_close_matches(name, names(), n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise BadInput(f"select: {name!r} is no method; {hint}known are {', '.join(names())}.")
    return importlib.import_module(f"vecaf_lib.selection.{name}")


def option_schema(name: str) -> type[BaseModel]:
    """Pydantic model of a method's options: the keyword arguments of its ``select``."""
    return schema_of(load(name).select, _GIVEN_BY_THE_LOOP, f"{name} options")
