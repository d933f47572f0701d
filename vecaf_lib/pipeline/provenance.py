"""What a result came from: the code a file imports, that code's checksums, library versions."""

import ast
import re
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path

from vecaf_lib.errors import BadInput
from vecaf_lib.files import sha256_file

PACKAGE = "vecaf_lib"
_PYTHON_CELL_MAGICS = ("capture", "prun", "time", "timeit")


def imports_of(path: Path, root: Path) -> frozenset[Path]:
    """The files of vecaf_lib that a .py or .ipynb file imports, directly or through others.

    Read from the source, nothing is run: imports inside functions count, imports by a computed
    name do not. The ``__init__.py`` of each package on the way is included.

    Args:
        path: the file, absolute or relative to ``root``; it is not itself in the answer unless
            another file imports it.
        root: the folder that holds vecaf_lib.

    Returns:
        paths relative to ``root``.

    Raises:
        BadInput: a file cannot be parsed, or imports a module of vecaf_lib that does not exist.
    """
    root = root.resolve()
    found: set[Path] = set()
    pending = [root / path]
    while pending:
        for file in _direct_imports(pending.pop(), root) - found:
            found.add(file)
            pending.append(root / file)
    return frozenset(found)


def code_digests(paths: Iterable[Path], root: Path) -> dict[str, str]:
    """SHA-256 of each file, by its path relative to ``root``, in the order of the names."""
    names = {(root / path).relative_to(root).as_posix() for path in paths}
    return {name: sha256_file(root / name) for name in sorted(names)}


def library_versions(names: Iterable[str]) -> dict[str, str]:
    """The installed version of each distribution, e.g. ``{"torch": "2.13.0"}``.

    Raises:
        BadInput: one is not installed.
    """
    versions = {}
    for name in sorted(names):
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError as error:
            raise BadInput(
                f"Package {name} is not installed; install the environment from its lock file."
            ) from error
    return versions


def _direct_imports(file: Path, root: Path) -> set[Path]:
    found: set[Path] = set()
    for module, names in _import_statements(file, root):
        if module.split(".")[0] != PACKAGE:
            continue
        parts = module.split(".")
        if not (_file_of(parts, root) or (root / Path(*parts)).is_dir()):
            raise BadInput(f"{file} imports {module}, which does not exist under {root}.")
        wanted = [parts[:depth] for depth in range(1, len(parts) + 1)]
        wanted += [[*parts, name] for name in names]  # a name may be a module of the package
        found.update(target for part in wanted if (target := _file_of(part, root)))
    return found


def _file_of(parts: list[str], root: Path) -> Path | None:
    for candidate in (Path(*parts, "__init__.py"), Path(*parts).with_suffix(".py")):
        if (root / candidate).is_file():
            return candidate
    return None


def _import_statements(file: Path, root: Path) -> Iterator[tuple[str, list[str]]]:
    """Yield (absolute module name, names taken from it) of each import statement."""
    for tree in _syntax_trees(file):
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                yield from ((alias.name, []) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                module = node.module or ""
                if node.level:
                    package = file.relative_to(root).parts[: -node.level]
                    module = ".".join([*package, module]).rstrip(".")
                yield module, [alias.name for alias in node.names]


def _syntax_trees(file: Path) -> list[ast.AST]:
    try:
        if file.suffix != ".ipynb":
            return [ast.parse(file.read_bytes())]
        from vecaf_lib.pipeline.notebooks import read_notebook  # nbformat is slow to import

        code = [cell.source for cell in read_notebook(file).cells if cell.cell_type == "code"]
        return [ast.parse(_without_magics(source)) for source in code]
    except FileNotFoundError as error:
        raise BadInput(f"{file} does not exist; check the path.") from error
    except SyntaxError as error:
        raise BadInput(f"{file} is not valid Python ({error}); mend it.") from error


def _without_magics(source: str) -> str:
    from IPython.core.inputtransformer2 import TransformerManager  # slow to import

    first, _, rest = source.lstrip().partition("\n")
    if magic := re.match(r"%%(\w+)", first):
        if magic[1] not in _PYTHON_CELL_MAGICS:
            return ""  # another language
        source = rest
    return TransformerManager().transform_cell(source)
