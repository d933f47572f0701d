"""Notebooks: copies of their sources, which stages depend on; execution as stages; their site.

Equal notebooks and parameters give equal bytes: times, process ids and random ids are left out.
"""

import json
import logging
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode
from nbstripout import strip_output

from vecaf_lib.errors import BadInput, did_you_mean
from vecaf_lib.files import atomic_write
from vecaf_lib.pipeline import progress
from vecaf_lib.pipeline.project import Project

INJECTED = "injected-parameters"
_METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python", "pygments_lexer": "ipython3"},
}
# Dates of figures are fixed, and nothing is fetched, unless the environment says otherwise.
_KERNEL = {"SOURCE_DATE_EPOCH": "0", "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
_KERNEL |= {"USER": str(os.getuid())}  # for libraries that ask for a name, where there is none
_INLINE = "module://matplotlib_inline.backend_inline"


def read_notebook(path: Path) -> NotebookNode:
    """Read a notebook, whatever kernel it names; BadInput if it is missing or is none."""
    try:
        notebook = nbformat.read(path, as_version=4)
        nbformat.validate(notebook)
    except (OSError, ValueError, AttributeError, nbformat.ValidationError) as error:
        reason = str(error).splitlines()[0]
        raise BadInput(f"{path} is no notebook that can be read ({reason}).") from error
    notebook.metadata = nbformat.from_dict(_METADATA)
    for cell in notebook.cells:
        kept = {"tags", "mystnb"} & cell.metadata.keys()  # what an author writes
        cell.metadata = nbformat.from_dict({name: cell.metadata[name] for name in sorted(kept)})
    return notebook


def source_of(path: Path) -> NotebookNode:
    """What an author wrote of a notebook: its cells and their tags."""
    return strip_output(read_notebook(path), keep_output=False, keep_count=False, keep_id=False)


def write_sources(folder: Path, notebooks: Sequence[Path]) -> None:
    """Write a copy of each notebook's source, which saving it in JupyterLab does not change."""
    for path, data in [(path, _bytes(source_of(path))) for path in notebooks]:  # all or none
        atomic_write(folder / path.name, data)


def execute_stage(
    source: Path, output: str, parameters: Sequence[str], replace: bool = False
) -> None:
    """``execute`` with the settings that the stage ``settings`` wrote.

    Parameters are ``name=value``; a value that is no JSON is text. ``{profile}``, here and in
    ``output``, stands for the active profile's name. ``replace`` the folder ``output`` of these.
    """
    project = Project.of_stage()
    values: dict[str, Any] = {}
    for pair in parameters:
        name, equals, text = pair.partition("=")
        if not (name.isidentifier() and equals) or name in values:
            raise BadInput(f"-p {pair} is not of the form name=value, or comes twice.")
        values[name] = text = project.fill(text)
        with suppress(ValueError):
            values[name] = json.loads(text)
    if replace:
        shutil.rmtree(project.path(values["output"]), ignore_errors=True)
    execute(source, project.path(output), values)


def execute(source: Path, output: Path, parameters: Mapping[str, Any]) -> None:
    """Execute a notebook in the working folder and write it, outputs included, to ``output``.

    Where a cell fails, the notebook up to that cell is kept beside ``output`` with the suffix
    .failed.ipynb, and ``output`` is left as it was. ``parameters`` replace values of the cell
    tagged so. The environment of this process becomes the kernel's.

    Raises:
        BadInput: the notebook or a parameter is wrong, or a cell failed.
    """
    import papermill
    from nbclient.exceptions import DeadKernelError
    from papermill.exceptions import PapermillExecutionError
    from traitlets.config import Config

    logging.getLogger("papermill").setLevel(logging.CRITICAL)  # failures are reported here
    notebook, failed = source_of(source), output.with_suffix(".failed.ipynb")
    declared = papermill.inspect_notebook(notebook)
    for name in parameters.keys() - declared.keys():
        raise BadInput(f"{source} has no parameter {name!r}; {did_you_mean(name, declared)}.")
    with tempfile.TemporaryDirectory(prefix="vecaf-") as folder:
        working, config = Path(folder, "working.ipynb"), Config()
        config.KernelManager.connection_file = f"{folder}/kernel.json"
        if len(folder) < 80:  # of a socket's 100; ports collide when stages start side by side
            config.KernelManager.transport = "ipc"
        try:
            with progress.relay(output.stem) as bars:
                own = _surroundings(Path(folder))
                os.environ.update(_KERNEL | os.environ | bars | own)  # which the kernel inherits
                papermill.execute_notebook(
                    notebook,
                    working,
                    dict(parameters),
                    kernel_name="python3",
                    progress_bar=False,
                    extra_arguments=["--log-level=50"],  # the kernel complains of its own end
                    start_timeout=120,
                    coalesce_streams=True,
                    config=config,
                )
        except (DeadKernelError, PapermillExecutionError) as error:
            _keep(working, failed)
            reason = str(error)  # the traceback of the cell
            if isinstance(error, DeadKernelError):
                reason = "The kernel died, most often for want of memory."
            elif error.ename == BadInput.__name__:
                reason = error.evalue
            raise BadInput(
                f"{reason}\n{source} stopped there; it is kept up to that cell as {failed}"
            ) from error
        _keep(working, output)
    failed.unlink(missing_ok=True)


def _surroundings(folder: Path) -> dict[str, str]:
    """What makes a kernel this environment's own, with pictures, whatever the user's settings."""
    from ipykernel.kernelspec import write_kernel_spec

    write_kernel_spec(folder / "kernels" / "python3")
    os.environ.pop("PYTHONSTARTUP", None)
    own = {"JUPYTER_PATH": str(folder), "IPYTHONDIR": str(folder)}
    own |= {"MPLBACKEND": _INLINE, "MATPLOTLIBRC": os.devnull}
    if not os.access(Path("~").expanduser(), os.W_OK):
        own |= dict.fromkeys(("MPLCONFIGDIR", "NUMBA_CACHE_DIR"), str(folder))
    return own


def _keep(working: Path, output: Path) -> None:
    """Write an executed notebook; papermill's own cells have random ids."""
    notebook = read_notebook(working)
    for number, cell in enumerate(notebook.cells):
        tags = cell.metadata.get("tags", [])
        if INJECTED in tags or any("papermill" in tag for tag in tags):
            cell.id = INJECTED if INJECTED in tags else f"error-{number}"
    atomic_write(output, _bytes(notebook))


def _bytes(notebook: NotebookNode) -> bytes:
    """A notebook's file; a cell's own file, which warnings name, is called by the process's id."""
    cells = re.escape(f"{tempfile.gettempdir()}/ipykernel_") + r"\d+"
    return (re.sub(cells, "ipykernel", nbformat.writes(notebook)).rstrip("\n") + "\n").encode()


def build_site(output: str) -> None:
    """Build pages of the active profile's report; BadInput, and the old stay, if Sphinx warns."""
    project = Project.of_stage()
    report, site = project.path("reports/{profile}"), project.path(output)
    if not (report / "README.md").is_file():
        raise BadInput(f"{report}/README.md is missing; `dvc repro` makes it.")
    with tempfile.TemporaryDirectory(prefix="vecaf-") as folder:
        source, made = Path(folder, "source"), Path(folder, "made")
        shutil.copytree(report, source, ignore=shutil.ignore_patterns("runs", "*.failed.ipynb"))
        shutil.copytree(project.path("notebooks/site"), source, dirs_exist_ok=True)
        shutil.copytree(project.path("reports/performance"), source / "performance")
        shutil.copy(project.path("profiles/PROTOCOL.md"), source / "protocol.md")
        shutil.copy(project.path("params.yaml"), source)
        sphinx = [sys.executable, "-m", "sphinx", "-b", "html", "-q", "-W", "--keep-going"]
        done = subprocess.run(
            [*sphinx, "-d", f"{folder}/doctrees", str(source), str(made)],
            capture_output=True,
            text=True,
            env=os.environ | {"TZ": "UTC"},
        )
        if done.returncode:
            raise BadInput(f"The site could not be built: {done.stderr.strip()[-2000:]}")
        shutil.rmtree(site, ignore_errors=True)
        shutil.copytree(made, site, ignore=shutil.ignore_patterns(".buildinfo", "*.map", "*.inv"))
    print(f"The report: {site / 'index.html'}")
