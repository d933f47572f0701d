"""Follow a number back to what made it: ``python -m vecaf_lib.pipeline.trace ID [--profile NAME]``

ID is a cell of a table, e.g. ``table1/vecaf/multi/r5``, or a claim, e.g.
``claims/abstract/fewer-batches``, which leads to its cells. Run it where params.yaml is.
"""

import argparse
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from vecaf_lib.errors import BadInput
from vecaf_lib.files import sha256_file
from vecaf_lib.pipeline import cli
from vecaf_lib.pipeline.store import RunSpec, RunStore
from vecaf_lib.report.behind import accuracy_of
from vecaf_lib.report.claims import read_csv as read_ledger
from vecaf_lib.report.tables import read_csv
from vecaf_lib.run_files import read_run

PARAMS, REPORTS = Path("params.yaml"), Path("reports")
RUNS_NOTEBOOK, TABLES_NOTEBOOK = "30_runs.ipynb", "40_tables.ipynb"
MAKES_RUNS = "make_runs("  # what the cell that makes the runs says


def active_profile(params: Path = PARAMS) -> str:
    """The profile that params.yaml holds.

    Raises:
        BadInput: the file is missing or names none.
    """
    if not params.is_file():
        raise BadInput(f"{params} is missing; run this in the project's folder.")
    content = yaml.safe_load(params.read_text(encoding="utf-8"))
    if not isinstance(content, dict) or not isinstance(content.get("profile"), str):
        raise BadInput(f"{params} names no profile; copy one of the files in profiles/.")
    return str(content["profile"])


def trace(id: str, profile: str) -> Iterator[str]:
    """The lines that tell where a number comes from.

    Args:
        id: of a cell or a claim.
        profile: whose reports are looked at.

    Raises:
        BadInput: the id is unknown, or a run file is missing or damaged.
    """
    folder = REPORTS / profile
    if id.startswith("claims/"):
        yield from _claim(id, folder)
    else:
        yield from _cell(id, folder)
    yield from _working_tree()


def _claim(id: str, folder: Path) -> Iterator[str]:
    found = sorted(folder.glob("*/claims.csv"))
    if not found:
        raise BadInput(f"{folder} has no claims.csv; `dvc repro` makes it.")
    ledger = read_ledger(found[0]).set_index("id", drop=False)
    if id not in ledger.index:
        raise BadInput(_unknown(id, list(ledger.index), "claim"))
    row = ledger.loc[id]
    yield f"{id}\n  {row['statement']} ({row['where']})"
    yield f"  {row['verdict']}; rule {row['rule']}"
    yield from ([f"  {row['distance']}"] if row["distance"] else [])
    if pd.notna(row["our_value"]):
        limits = f" [{row['our_low']:.4g}, {row['our_high']:.4g}]"
        limits = limits if pd.notna(row["our_low"]) else ""
        yield f"  ours: {row['our_value']:.4g}{limits} {row['unit']}"
    cells = row["cells"].split()
    if not cells:
        yield "  no cell of ours belongs to it"
    for cell in cells:
        yield ""
        yield from _cell(cell, folder)


def _cell(id: str, folder: Path) -> Iterator[str]:
    """One cell: its number, its table, its runs, what these came from, and the notebooks."""
    line, path = _find(id, folder)
    spread = ""
    if "standard_error" in line and pd.notna(line["standard_error"]):
        spread = f" ± {line['standard_error']:.4f}"
    number = line.get("mean", line.get("gflops"))
    seeds = f", n = {line['n']:g}" if "n" in line else ""
    yield f"{id}: {number:.4f}{spread}{seeds}"
    yield f"table: {path}"
    runs = [_run(folder / "runs", file) for file in str(line.get("runs", "")).split()]
    for (spec, content), file in zip(runs, str(line.get("runs", "")).split(), strict=True):
        provenance = content["provenance"]
        yield f"run: {folder / 'runs' / file}"
        yield f"  seed {spec.seed}, {_value(content['result'], line)}"
        yield f"  digest {provenance.get('digest')}"
        yield f"  checksum {content['checksum']}, verified"
    if runs:
        yield from _provenance([content["provenance"] for _, content in runs])
        yield _notebook(folder / "notebooks" / RUNS_NOTEBOOK, [MAKES_RUNS], "makes the runs")
    else:
        yield "runs: none stand behind this number"
    writes = f"writes {path.name}"
    named = [f'"{path.name}"', f'"{path.stem}"']
    yield _notebook(folder / "notebooks" / TABLES_NOTEBOOK, named, writes)


def _find(id: str, folder: Path) -> tuple[pd.Series, Path]:
    """The row of a cell and the table it stands in.

    Raises:
        BadInput: there are no tables, or none has the cell.
    """
    paths = sorted(path for path in (folder / "tables").glob("*.csv") if path.stem != "claims")
    if not paths:
        raise BadInput(f"{folder / 'tables'} has no tables; `dvc repro` makes them.")
    known: dict[str, tuple[pd.Series, Path]] = {}
    for path in paths:
        table = read_csv(path)
        if "cell" not in table and {"method", "target"} <= set(table):  # batches to a target
            target = pd.to_numeric(table["target"]).map("{:g}".format)
            table = table.assign(cell=path.stem + "/" + table["method"] + "/" + target)
        if "cell" in table:
            known |= {str(line["cell"]): (line, path) for _, line in table.iterrows()}
    if id not in known:
        raise BadInput(_unknown(id, list(known), "cell"))
    return known[id]


def _unknown(id: str, known: Sequence[str], what: str) -> str:
    near = get_close_matches(id, known, n=3, cutoff=0.5)
    hint = f"near ones are {', '.join(near)}" if near else f"the first is {known[0]}"
    return f"There is no {what} {id!r}; {hint}."


def _run(root: Path, file: str) -> tuple[RunSpec, dict[str, Any]]:
    """A run file, checked by the store.

    Raises:
        BadInput: it is missing, damaged or holds another run.
    """
    content = read_run(root / file)
    try:
        spec = RunSpec(**content["run"])
    except (KeyError, TypeError) as error:
        raise BadInput(f"{root / file} is damaged (it names no run); delete it.") from error
    return spec, RunStore(root).load(spec)


def _value(result: Mapping[str, Any], line: pd.Series) -> str:
    """The run's value of the cell's quantity, as far as it is one number."""
    if "reached" in line:
        hits = [
            point["step"]
            for point in result["curve"]
            if point["validation_accuracy"] >= float(line["target"])
        ]
        return f"{min(hits)} batches" if hits else "target not reached"
    value = f"{accuracy_of(result, line):.4f} %"
    return f"{value} in the domain" if line.get("domain") else f"test accuracy {value}"


def _provenance(all_runs: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """What the runs came from, told once; where they differ, of the first."""
    first = all_runs[0]
    for name in ("settings", "inputs", "versions", "code"):
        if any(other.get(name) != first.get(name) for other in all_runs[1:]):
            yield f"{name}: differ between these runs; those of the first:"
        elif name != "code":
            yield f"{name}:"
        if name == "code":
            yield from _code(first.get("code", {}))
            continue
        text = yaml.safe_dump(first.get(name, {}), sort_keys=False, allow_unicode=True)
        yield "\n".join(f"  {part}" for part in text.splitlines())


def changed_code(digests: Mapping[str, str]) -> list[str]:
    """Which files of a run's code are gone, or are not as they were when it was made."""
    files = {name: Path(name) for name in digests}
    return [n for n, f in files.items() if not f.is_file() or sha256_file(f) != digests[n]]


def _code(digests: Mapping[str, str]) -> Iterator[str]:
    changed = changed_code(digests)
    if not changed:
        yield f"code: {len(digests)} files, all as in the working tree"
        return
    yield f"code: {len(changed)} of {len(digests)} files no longer agree with the working tree:"
    yield from (f"  {name}{'' if Path(name).is_file() else ' (gone)'}" for name in changed)


def _notebook(path: Path, says: Sequence[str], does: str) -> str:
    """Which cell of an executed notebook has one of the texts in its source."""
    from vecaf_lib.pipeline.notebooks import read_notebook  # nbformat is slow to import

    if not path.is_file():
        return f"notebook: {path} is missing"
    for number, cell in enumerate(read_notebook(path).cells, start=1):
        if cell.cell_type == "code" and any(text in cell.source for text in says):
            run = cell.get("execution_count")
            return f"notebook: {path}, cell {number} (id {cell.id}, In [{run}]) {does}"
    return f"notebook: {path}, no cell says that it {does}"


def _working_tree() -> Iterator[str]:
    """The commit of the working tree, and whether files differ from it."""
    commit, status = _git("rev-parse", "HEAD"), _git("status", "--porcelain")
    if commit is None or status is None:
        yield "working tree: not a git checkout"
        return
    changes = len(status.splitlines())
    yield f"working tree: commit {commit.strip()}, " + (
        f"{changes} changes" if changes else "clean"
    )


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    return done.stdout if done.returncode == 0 else None


def main(arguments: Sequence[str]) -> None:
    """The command line; see the module's text."""
    parser = argparse.ArgumentParser(prog="python -m vecaf_lib.pipeline.trace")
    parser.add_argument("id", metavar="ID")
    parser.add_argument("--profile", help="in place of the active one")
    options = parser.parse_args(arguments)
    lines = list(trace(options.id, options.profile or active_profile()))
    print("\n".join(lines))


if __name__ == "__main__":
    cli.run(main)
