"""The trials of a search, ``profiles/search/PROFILE.yaml``, and the settings that each changes."""

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import Field, ValidationError

from vecaf_lib import settings
from vecaf_lib.errors import BadInput
from vecaf_lib.pipeline import cli
from vecaf_lib.settings.base import Count, Ratio, Section
from vecaf_lib.settings.errors import sentences

OWN = "method."  # settings of the method itself begin so, all others are the profile's


class Round(Section):
    """Methods times settings: ``{training.learning_rate: 0.01}``, ``{method.options.tau: 0.5}``.

    ``seeds``: this round's, where it is to have others than the rest.
    """

    methods: Annotated[list[str], Field(min_length=1)]
    ratios: Annotated[list[Ratio], Field(min_length=1)]
    loops: Count = 3
    seeds: Annotated[list[int], Field(min_length=1)] | None = None
    settings: Annotated[list[dict[str, Any]], Field(min_length=1)]


class Search(Section):
    """A file of trials: their seeds, and rounds in the order in which they are made."""

    seeds: Annotated[list[int], Field(min_length=1)]
    rounds: Annotated[dict[str, Round], Field(min_length=1)]

    def seeds_of(self, name: str) -> list[int]:
        """The seeds of one round."""
        return self.rounds[name].seeds or self.seeds


def read(path: Path) -> Search:
    """Read and check a file of trials.

    Raises:
        BadInput: it is missing or wrong; a sentence a problem.
    """
    if not path.is_file():
        raise BadInput(f"{path} is missing: it names the trials of the search.")
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    try:
        return Search.model_validate(content)
    except ValidationError as error:
        told = "\n".join(f"{path}: {problem}" for problem in sentences(error, Search))
        raise BadInput(told) from error


def changed(
    content: Mapping[str, Any], method: str, setting: Mapping[str, Any]
) -> settings.Settings:
    """The profile with some settings changed, checked as a whole.

    Args:
        content: of the profile's file.
        method: whose settings begin with ``method.``.
        setting: dotted names and values.

    Raises:
        BadInput: there is no such setting or method, or the value is wrong.
    """
    new = json.loads(json.dumps(content))  # YAML's aliases are one object in several places
    if method not in new["methods"]:
        known = cli.suggestion(method, list(new["methods"]))
        raise BadInput(f"The search names the method {method!r}; {known}.")
    for name, value in setting.items():
        own = name.startswith(OWN)
        *place, last = name.removeprefix(OWN).split(".")
        part = new["methods"][method] if own else new
        for key in place:
            part = part.setdefault(key, {})
        part[last] = value
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "changed.yaml")
        path.write_text(yaml.safe_dump(new), encoding="utf-8")
        return settings.read(path)
