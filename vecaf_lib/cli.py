"""The command ``vecaf``, which the stages of dvc.yaml and the Makefile call."""

import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from vecaf_lib.errors import BadInput

ACTIVE = "default: the active one"
NEW = "profile new"


def parser() -> ArgumentParser:
    """The command line: each command names the function of ``vecaf_lib.pipeline`` that it calls."""
    top = ArgumentParser(prog="vecaf", description="Stages and tools of the project.")
    commands = top.add_subparsers(metavar="COMMAND", required=True)

    def command(name: str, function: str, text: str, **constants: Any) -> Any:
        part = commands.add_parser(name, help=text, description=text)
        part.set_defaults(function=function, **constants)
        return part.add_argument

    add = command("settings", "settings:write_sections", "check a profile, write its sections")
    add("params", type=Path)
    add("folder", type=Path)
    add = command("sources", "notebooks:write_sources", "copy notebooks without outputs")
    add("folder", type=Path)
    add("notebooks", type=Path, nargs="+")
    add = command("inputs", "provenance:write_inputs", "identify images, captions and weights")
    add("output")
    add = command("execute", "notebooks:execute_stage", "execute a notebook as a stage")
    add("source", type=Path)
    add("output", help="{profile}, here and in values, stands for the active profile's name")
    add("-p", dest="parameters", action="append", default=[], metavar="NAME=VALUE")
    add("--replace", action="store_true", help="delete what the value output names, first")
    add = command("site", "notebooks:build_site", "build HTML pages of the executed notebooks")
    add("output")
    places = {"profiles": Path("profiles"), "params": Path("params.yaml")}
    add = command("profile", "settings:switch", "make a profile the active one", **places)
    add("name", metavar="profile")
    add("--force", action="store_true", help="overwrite an edited params.yaml")
    add = command(NEW, "new_profile:write", "write a profile of your own images, make it active")
    add("name", help="of the profile, such as mine")
    add("--images", type=Path, required=True, metavar="FOLDER", help="with a folder for each class")
    add("--captions", type=Path, metavar="FILE", help="CSV of id and caption; default: measured")
    add("--force", action="store_true", help="overwrite that profile, and an edited params.yaml")
    add = command("select", "own:select", "choose images of a folder that stand for all of them")
    add("source", type=Path, help="a folder of images, or a .npy, .npz or .csv file of embeddings")
    add("--budget", type=int, metavar="K", help="how many to choose")
    add("--share", metavar="PERCENT", help="the same as a part of all, such as 2%%")
    add("--method", help="default: maxherding, or ods with losses")
    add("--labelled", type=Path, metavar="FILE", help="what is labelled already, a name a line")
    add("--losses", type=Path, metavar="FILE", help="CSV of file and loss, or a .npy")
    add("--output", type=Path, metavar="FOLDER", default=Path("selected"), help="default: selected")
    add("--seed", type=int, default=0, help="of methods that draw")
    add = command("check", "needs:report", "is all at hand that a profile needs")
    add("profile", nargs="?", help=ACTIVE)
    add = command("fetch", "needs:fetch", "fetch and verify what a profile needs")
    add("profile", nargs="?", help=ACTIVE)
    add("--dataset", help="the images of this data set alone")
    add = command("compare", "reference:compare", "are a profile's results those of its reference")
    add("profile", nargs="?", help=ACTIVE)
    add("--list", dest="listed", action="store_true", help="each run and mean that differs")
    add("--write", action="store_true", help="make these results the reference")
    add = command("trace", "audit:report", "where a number comes from")
    add("id", help="of a cell or claim, such as table1/vecaf/multi/r5")
    add("--profile", help=ACTIVE)
    add = command("verify", "audit:verify", "make a table again in a scratch folder and compare")
    add("table")
    add("--retrain", type=int, nargs="?", const=0, metavar="N", help="the (first N) runs, too")
    add("--tolerance", type=float, default=0.0, metavar="POINTS", help="that numbers may differ by")
    return top


def main(words: Sequence[str] | None = None) -> None:
    """Run one command; bad input ends the process with its sentence and status 1."""
    words = [*(sys.argv[1:] if words is None else words)]
    words = [NEW, *words[2:]] if words[:2] == NEW.split() else words
    arguments = vars(parser().parse_args(words))
    module, _, function = arguments.pop("function").partition(":")
    try:  # the module is imported here alone, so that cheap commands start at once
        getattr(import_module(f"vecaf_lib.pipeline.{module}"), function)(**arguments)
    except BadInput as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
