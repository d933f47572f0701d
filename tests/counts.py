"""How long the project is, and how long it may be: ``python tests/counts.py``."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1]
LIMITS = {
    "files of vecaf_lib": 90,
    "lines of vecaf_lib": 10_420,
    "statements of vecaf_lib": 6_380,
    "lines of tests": 14_210,
    "lines of README.md": 150,
    "lines of dvc.yaml": 200,
    "bytes of dvc.lock": 60_000,
}


def counts() -> dict[str, int]:
    """What ``LIMITS`` limits; docstrings and comments count."""
    library = [path.read_text() for path in (ROOT / "vecaf_lib").rglob("*.py")]
    trees = [ast.walk(ast.parse(text)) for text in library]
    tests = [path.read_text() for path in (ROOT / "tests").rglob("*.py")]
    return {
        "files of vecaf_lib": len(library),
        "lines of vecaf_lib": sum(text.count("\n") for text in library),
        "statements of vecaf_lib": sum(isinstance(n, ast.stmt) for tree in trees for n in tree),
        "lines of tests": sum(text.count("\n") for text in tests),
        "lines of README.md": (ROOT / "README.md").read_text().count("\n"),
        "lines of dvc.yaml": (ROOT / "dvc.yaml").read_text().count("\n"),
        "bytes of dvc.lock": len((ROOT / "dvc.lock").read_bytes()),
    }


if __name__ == "__main__":
    for name, count in counts().items():
        print(f"{count:7,} {name}, at most {LIMITS[name]:,}")
