"""Execute one notebook as a pipeline stage.

``python -m vecaf_lib.pipeline.execute NOTEBOOK OUTPUT [-p name=value ...] [-s name=section ...]``

``-p`` passes a string (a path, a name); ``-s`` passes a section of params.yaml, as validated, e.g.
``-s method=methods.vecaf``. Run it where params.yaml is: that folder is the notebook's own, too.
"""

import argparse
import logging
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import papermill
from nbclient.exceptions import DeadKernelError
from nbformat import NotebookNode
from papermill.exceptions import PapermillExecutionError
from papermill.execute import ERROR_MARKER_TAG
from traitlets.config import Config

from vecaf_lib.errors import BadInput
from vecaf_lib.files import atomic_write
from vecaf_lib.pipeline import cli, progress
from vecaf_lib.pipeline.notebooks import executed, notebook_bytes, read_notebook

PARAMS = Path("params.yaml")


class CellFailed(RuntimeError):
    """A cell raised something other than ``BadInput``; the text holds its traceback."""


def section(content: Mapping[str, Any], key: str) -> Any:
    """Return the part of the settings that a dotted key names, e.g. ``methods.vecaf``.

    Raises:
        BadInput: there is no such part.
    """
    part: Any = content
    for name in key.split("."):
        if not isinstance(part, Mapping) or name not in part:
            known = sorted(part) if isinstance(part, Mapping) else []
            raise BadInput(
                f"{PARAMS} has no section {key!r}: {name!r} is unknown; "
                f"{cli.suggestion(name, known)}."
            )
        part = part[name]
    return part


def check_parameters(name: Path, notebook: NotebookNode, parameters: Mapping[str, Any]) -> None:
    """Check that the notebook declares every parameter, and gets a value for each required one.

    A parameter declared as ``name = None`` is required.

    Raises:
        BadInput: a parameter is unknown to the notebook, or a required one is missing.
    """
    declared = papermill.inspect_notebook(notebook)
    if unknown := sorted(parameters.keys() - declared.keys()):
        raise BadInput(
            f"{name} declares no parameter {unknown[0]!r} in its cell tagged 'parameters' "
            f"(one `name = None` a line); {cli.suggestion(unknown[0], sorted(declared))}."
        )
    missing = [n for n, p in declared.items() if p["default"] == "None" and n not in parameters]
    if missing:
        raise BadInput(
            f"{name} needs a value for {', '.join(missing)}; pass it with -p name=value or "
            "-s name=section."
        )


def execute(notebook: Path, output: Path, parameters: Mapping[str, Any]) -> None:
    """Execute ``notebook`` in the current folder and write it, outputs included, to ``output``.

    Equal notebooks and parameters give equal bytes. Where a cell fails, the notebook up to that
    cell is kept beside ``output`` with the suffix .failed.ipynb and ``output`` is left as it was.

    Raises:
        BadInput: the notebook or a parameter is wrong, or a cell raised BadInput.
        CellFailed: a cell raised another exception.
    """
    logging.getLogger("papermill").setLevel(logging.CRITICAL)  # failures are reported here
    source = read_notebook(notebook)
    check_parameters(notebook, source, parameters)
    failed = output.with_suffix(".failed.ipynb")
    with tempfile.TemporaryDirectory(prefix="vecaf-") as folder:
        working = Path(folder) / "working.ipynb"
        try:
            with _kernel_environment(output.stem):
                papermill.execute_notebook(
                    source,
                    working,
                    dict(parameters),
                    kernel_name="python3",
                    progress_bar=False,
                    start_timeout=120,
                    coalesce_streams=True,
                    config=_private_sockets(Path(folder)),
                )
        except (PapermillExecutionError, DeadKernelError) as error:
            _keep_failed(working, failed)
            kept = f"{notebook} stopped there; it is kept up to that cell as {failed}"
            if isinstance(error, DeadKernelError):
                raise BadInput(
                    f"The kernel of {notebook} died, most often for want of memory; "
                    f"what had finished is kept, see {failed}."
                ) from error
            if error.ename == BadInput.__name__:
                raise BadInput(f"{error.evalue}\n{kept}") from error
            raise CellFailed(f"{error}\n{kept}") from error
        atomic_write(output, notebook_bytes(executed(read_notebook(working))))
    failed.unlink(missing_ok=True)


def _private_sockets(folder: Path) -> Config:
    """Talk to the kernel through files: free ports collide when stages start side by side."""
    config = Config()
    if len(str(folder)) < 80:  # the system allows about 100 characters for a socket's name
        config.KernelManager.transport = "ipc"
        config.KernelManager.connection_file = str(folder / "kernel.json")
    return config


def _keep_failed(working: Path, failed: Path) -> None:
    partial = executed(read_notebook(working))
    for number, cell in enumerate(partial.cells):
        if ERROR_MARKER_TAG in cell.metadata.get("tags", []):
            cell.id = f"error-{number}"
    atomic_write(failed, notebook_bytes(partial))


@contextmanager
def _kernel_environment(stage: str) -> Iterator[None]:
    before = dict(os.environ)
    with progress.relay(stage, sys.stderr) as environment:
        os.environ.update(environment, SOURCE_DATE_EPOCH="0")
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
        os.environ.setdefault("TRANSFORMERS_OFFLINE", "1")
        try:
            yield
        finally:
            for name in os.environ.keys() - before.keys():
                del os.environ[name]
            os.environ.update(before)


def _pairs(option: str, pairs: Sequence[str]) -> dict[str, str]:
    result: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not (name.isidentifier() and equals and value):
            raise BadInput(f"{option} {pair} is not of the form name=value.")
        if name in result:
            raise BadInput(f"{option} gives {name} twice; give it once.")
        result[name] = value
    return result


def main(arguments: Sequence[str]) -> None:
    """The command line; see the module's text."""
    from vecaf_lib import settings  # imports torch, which executing a notebook does not need

    parser = argparse.ArgumentParser(prog="python -m vecaf_lib.pipeline.execute")
    parser.add_argument("notebook", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("-p", dest="strings", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("-s", dest="sections", action="append", default=[], metavar="NAME=SECTION")
    options = parser.parse_args(arguments)
    content = settings.read(PARAMS).model_dump(mode="json")
    strings = _pairs("-p", options.strings)
    sections = _pairs("-s", options.sections)
    if both := sorted(strings.keys() & sections.keys()):
        raise BadInput(f"{both[0]} is given by both -p and -s; give it once.")
    parameters = strings | {name: section(content, key) for name, key in sections.items()}
    try:
        execute(options.notebook, options.output, parameters)
    except CellFailed as error:
        print(error, file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    cli.run(main)
