"""The files of the site: notebooks to be shown, Sphinx, one copy of each picture, the old site."""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from html import escape
from pathlib import Path

import nbformat

from vecaf_lib.errors import BadInput

THEME = Path(__file__).with_name("theme")
GIVEN = "*Here papermill set these names to their sections of the [settings](../settings.md).*"


def once(made: Path, pictures: Sequence[Path], out_dir: Path) -> None:
    """Let pages show pictures from where they lie, in place of Sphinx's copies of them."""
    pages = {path: path.read_text(encoding="utf-8") for path in made.glob("*.html")}
    for picture in pictures:
        twin = made / "_images" / picture.name
        if twin.is_file() and twin.read_bytes() == picture.read_bytes():
            twin.unlink()
            address = os.path.relpath(picture, out_dir)
            for path, text in pages.items():
                pages[path] = text.replace(f"_images/{picture.name}", address)
    for path, text in pages.items():
        path.write_text(text, encoding="utf-8")


def sphinx(source: Path, made: Path, doctrees: Path, title: str, banner: str) -> None:
    """Run Sphinx in a process of its own, where a warning is an error."""
    command = [sys.executable, "-m", "sphinx", "-b", "html", "-q", "-W", "--keep-going"]
    command += ["-c", str(THEME), "-d", str(doctrees)]
    command += ["-D", f"html_title={title}", "-D", f"project={title}"]
    command += ["-D", f"html_theme_options.announcement={escape(banner)}"]
    command += [str(source), str(made)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "TZ": "UTC"})
    if done.returncode:
        raise BadInput(f"The report could not be built: {done.stderr.strip()[-2000:]}")


def copy_notebook(path: Path, target: Path) -> None:
    """Copy a notebook to be shown.

    One that does not begin with a heading gets its file name as heading. The values that papermill
    gave it are those of the page of settings, which stands for them.
    """
    notebook = nbformat.read(path, as_version=4)
    texts = [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]
    if not (texts and texts[0].lstrip().startswith("# ")):
        heading = nbformat.v4.new_markdown_cell(f"# {path.stem}", id="report-heading")
        notebook.cells.insert(0, heading)
    for place, cell in enumerate(notebook.cells):
        if "injected-parameters" in cell.metadata.get("tags", []):
            notebook.cells[place] = nbformat.v4.new_markdown_cell(GIVEN, id="report-given")
    notebook.metadata.setdefault("language_info", {"name": "python"})
    notebook.metadata["language_info"].setdefault("pygments_lexer", "ipython3")
    notebook.metadata.pop("widgets", None)  # their scripts would have to come from elsewhere
    nbformat.write(notebook, target)


def replace(made: Path, out_dir: Path) -> None:
    """Put the finished site in place of the old one."""
    out_dir.parent.mkdir(parents=True, exist_ok=True)
    fresh = out_dir.with_name(f".{out_dir.name}.part")
    shutil.rmtree(fresh, ignore_errors=True)
    shutil.copytree(made, fresh)
    shutil.rmtree(out_dir, ignore_errors=True)
    fresh.rename(out_dir)
