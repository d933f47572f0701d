"""Source-only copies of notebooks, which the stages depend on.

``python -m vecaf_lib.pipeline.sources OUTDIR NOTEBOOK...``

Looking at a notebook in JupyterLab and saving it changes its bytes, not these copies: so the
pipeline repeats a stage when its source changed and at no other time.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from vecaf_lib.errors import BadInput
from vecaf_lib.files import atomic_write
from vecaf_lib.pipeline import cli
from vecaf_lib.pipeline.notebooks import notebook_bytes, read_notebook, source_only


def write_sources(folder: Path, notebooks: Sequence[Path]) -> None:
    """Write a source-only copy of each notebook to ``folder``, under its own name.

    Raises:
        BadInput: a notebook cannot be read, or two copies (or a copy and its notebook) would be
            one file. Nothing is written then.
    """
    copies: dict[Path, bytes] = {}
    for notebook in notebooks:
        target = folder / notebook.name
        if target in copies:
            raise BadInput(f"Two notebooks are called {notebook.name}; rename one.")
        if target.resolve() == notebook.resolve():
            raise BadInput(f"The copy of {notebook} would replace it; choose another folder.")
        copies[target] = notebook_bytes(source_only(read_notebook(notebook)))
    for target, data in copies.items():
        atomic_write(target, data)


def main(arguments: Sequence[str]) -> None:
    """The command line; see the module's text."""
    parser = argparse.ArgumentParser(prog="python -m vecaf_lib.pipeline.sources")
    parser.add_argument("folder", type=Path, metavar="OUTDIR")
    parser.add_argument("notebooks", type=Path, nargs="+", metavar="NOTEBOOK")
    options = parser.parse_args(arguments)
    write_sources(options.folder, options.notebooks)


if __name__ == "__main__":
    cli.run(main)
