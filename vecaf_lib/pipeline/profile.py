"""Switch the active profile: params.yaml becomes a copy of one file in profiles/.

``python -m vecaf_lib.pipeline.profile NAME [--force]``
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from vecaf_lib import settings
from vecaf_lib.errors import BadInput
from vecaf_lib.files import atomic_write
from vecaf_lib.pipeline import cli


def switch(name: str, *, profiles: Path, params: Path, force: bool = False) -> None:
    """Copy ``profiles/name.yaml`` over ``params`` once it is found valid.

    Args:
        name: the profile.
        profiles: the folder of profiles.
        params: the file that the pipeline reads.
        force: overwrite ``params`` even if it holds edits that no profile has.

    Raises:
        BadInput: there is no such profile, it is not valid, or edits would be lost.
    """
    source = profile_path(name, profiles)
    settings.read(source)
    committed = {path.read_bytes() for path in profiles.glob("*.yaml")}
    if params.exists() and not force and params.read_bytes() not in committed:
        raise BadInput(
            f"{params} has edits that no file in {profiles} has; save it there under a name of "
            "its own, or repeat with --force to overwrite it."
        )
    atomic_write(params, source.read_bytes())


def profile_path(name: str, profiles: Path) -> Path:
    """The file of a profile.

    Raises:
        BadInput: there is no such profile.
    """
    known = {path.stem: path for path in sorted(profiles.glob("*.yaml"))}
    if name not in known:
        raise BadInput(f"There is no profile {name!r}; {cli.suggestion(name, list(known))}.")
    return known[name]


def main(arguments: Sequence[str]) -> None:
    """The command line; see the module's text."""
    parser = argparse.ArgumentParser(prog="python -m vecaf_lib.pipeline.profile")
    parser.add_argument("name", metavar="NAME")
    parser.add_argument("--force", action="store_true", help="overwrite an edited params.yaml")
    options = parser.parse_args(arguments)
    params = Path("params.yaml")
    switch(options.name, profiles=Path("profiles"), params=params, force=options.force)
    print(f"{params} is now profile {options.name}; `dvc repro` computes what it lacks.")


if __name__ == "__main__":
    cli.run(main)
