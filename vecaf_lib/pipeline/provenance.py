"""What a result came from: its inputs, the modules behind it, and what these compute.

Images, captions and weights of your own may lie anywhere, so they are identified at every
`dvc repro`, without torch; the same inputs give the same bytes wherever they lie.
"""

import ast
import functools
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import grimp

from vecaf_lib.data.place import identify
from vecaf_lib.errors import BadInput
from vecaf_lib.files import sha256_file, sha256_json, write_json
from vecaf_lib.pipeline.project import Project

LIBRARY = Path(__file__).parents[1]
_graph = functools.cache(functools.partial(grimp.build_graph, "vecaf_lib", cache_dir=None))


def write_inputs(output: str) -> None:
    """Identify the active profile's inputs in a JSON file; ``{profile}`` stands for its name."""
    project = Project.of_stage()
    names = ("dataset", "captions", "vision", "text", "methods")
    sections = {name: project.section(name) for name in names}
    write_json(project.path(output), identify_inputs(sections, data=project.path("data")))


def identify_inputs(settings: Mapping[str, Any], *, data: Path) -> dict[str, Any]:
    """Digests of the inputs that the settings name; BadInput if one is not there.

    ``images``: see ``identify`` of the data sets; ``captions``: SHA-256 where they are a file;
    ``vision`` and ``text``: path -> SHA-256 of weights that are the user's own.
    """
    dataset, source = settings["dataset"], settings["captions"]["source"]
    digests = {
        "images": identify(
            dataset["name"], data=data, root=dataset["root"], options=dataset["options"]
        ),
        "captions": _contents("captions.source", source) if Path(source).suffix else None,
    }
    for kind in ("vision", "text"):
        sections = [settings[kind], *(method[kind] for method in settings["methods"].values())]
        own = {section["weights"] for section in sections if section} - {"package", "hub"}
        digests[kind] = {path: _contents(f"{kind}.weights", path) for path in sorted(own)}
    return digests


def _contents(setting: str, name: str) -> Any:
    """SHA-256 of a file, or of each file in a folder."""
    path = Path(name)
    if path.is_dir():
        files = (file for file in sorted(path.rglob("*")) if file.is_file())
        return {file.relative_to(path).as_posix(): sha256_file(file) for file in files}
    if not path.is_file():
        raise BadInput(f"{setting}: {path} does not exist; give the path of a file.")
    return sha256_file(path)


def modules_behind(names: Iterable[str]) -> set[str]:
    """These modules, their packages, and all that they import, by the source, in functions too."""
    behind: set[str] = set()
    pending = set(names)
    while pending:
        name = pending.pop()
        behind.add(name)
        imported = _graph().find_modules_directly_imported_by(name) | {name.rpartition(".")[0]}
        pending |= imported - behind - {""}
    return behind


def code_digests(names: Iterable[str]) -> dict[str, str]:
    """Module -> SHA-256 of what it computes: its syntax tree without docstrings and comments."""
    digests = {}
    for name in sorted(names):
        path = LIBRARY.joinpath(*name.split(".")[1:])
        path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        digests[name] = _digest(path.read_bytes())
    return digests


def commit() -> str:
    """The commit of the working tree, ``-dirty`` behind it if that has changed since."""
    words = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        return subprocess.check_output(words, stderr=subprocess.DEVNULL, text=True).strip()
    except (FileNotFoundError, subprocess.CalledProcessError):
        return "no git checkout"


@functools.lru_cache(maxsize=256)
def _digest(source: bytes) -> str:
    return sha256_json(_plain(ast.parse(source)))


def _plain(node: Any) -> Any:
    """A syntax tree as JSON, the same in every Python: empty fields, new in some, are left out."""
    match node:
        case ast.Expr(ast.Constant(str())):
            return None  # a docstring, or another string that nothing uses
        case list():
            return [part for part in map(_plain, node) if part is not None]
        case ast.AST():
            fields = {name: part for name, part in ast.iter_fields(node) if part not in (None, [])}
            return [type(node).__name__, {name: _plain(part) for name, part in fields.items()}]
    return repr(node)
