"""Where a number comes from (``trace``), and a table made again and compared (``verify``)."""

import shlex
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import pandas as pd
import yaml

from vecaf_lib.errors import BadInput, did_you_mean
from vecaf_lib.files import read_run
from vecaf_lib.pipeline.notebooks import execute_stage, read_notebook
from vecaf_lib.pipeline.project import PARAMS, SECTIONS, Project
from vecaf_lib.pipeline.provenance import code_digests, commit
from vecaf_lib.pipeline.settings import write_sections
from vecaf_lib.results.runs import Run, RunStore

REPORTS = "reports/{profile}"


def report(id: str, profile: str | None) -> None:
    """Print ``trace`` of a profile, or of the active one, and the state of the checkout."""
    project = Project.find()
    print("\n".join(trace(id, project.root / "reports" / (profile or project.profile))))
    print(f"working tree: {commit()}")


def trace(id: str, folder: Path) -> Iterator[str]:
    """Where the number of a cell or claim in a profile's reports comes from, line by line.

    A cell leads to its runs, their code and inputs, and its notebook; a claim leads to its cells.
    BadInput: the id is unknown, or a run file is missing or damaged.
    """
    rows: dict[str, tuple[Mapping[str, str], Path]] = {}
    for path in sorted(folder.glob("*/*.csv")):
        cells = _read(path)
        for column in {"cell", "id"} & {*cells}:
            rows |= {line[column]: (line.to_dict(), path) for _, line in cells.iterrows()}
    if id not in rows:
        raise BadInput(f"{folder} has no cell or claim {id!r}; {did_you_mean(id, rows)}.")
    row, table = rows[id]
    values = {n: v for n, v in row.items() if v and n not in ("cell", "cells", "id", "runs")}
    yield f"{id}: " + ", ".join(f"{name} {value}" for name, value in values.items())
    yield f"table: {table}"
    yield from _cells(folder, f"makes {table.name}", f'"{table.stem}"', f'"{table.name}"')
    for cell in row.get("cells", "").split():
        yield from ("", *trace(cell, folder))
    runs = []
    for path in (folder / "runs" / file for file in row.get("runs", "").split()):
        run = read_run(path)
        try:
            RunStore(folder / "runs").load(Run(**run["run"]))
        except (KeyError, TypeError) as error:
            raise BadInput(f"{path} is damaged (it names no run); delete it.") from error
        domain, result = row.get("domain"), run["result"]
        accuracies = result["domains"][domain] if domain else {"mean": result["test_accuracy"]}
        accuracy, seed = accuracies[row.get("severity") or "mean"], run["run"]["seed"]
        yield f"run: {path}: seed {seed}, accuracy {accuracy:.4f} % on {domain or 'test'} images"
        yield f"  digest {run['provenance'].get('digest')}; checksum {run['checksum']}, verified"
        runs.append(run["provenance"])
    if not runs:
        return
    for name in ("settings", "inputs", "versions"):
        same = all(run.get(name) == runs[0].get(name) for run in runs)
        yield f"{name}:" if same else f"{name} differ between these runs; those of the first:"
        text = yaml.safe_dump(runs[0].get(name, {}), sort_keys=False, allow_unicode=True)
        yield "\n".join(f"  {line}" for line in text.splitlines())
    now: dict[str, str] = {}
    for name in (code := runs[0].get("code", {})):
        with suppress(FileNotFoundError):
            now |= code_digests([name])
    changed = [name for name in code if now.get(name) != code[name]]
    yield f"code not as in the working tree: {', '.join(changed) or 'none'}"
    yield from _cells(folder, "makes the runs", "make_runs(")


def _read(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, dtype=str, keep_default_na=False)


def _cells(folder: Path, does: str, *texts: str) -> Iterator[str]:
    """The cells of executed notebooks that have one of the texts in their source."""
    for path in sorted(folder.glob("notebooks/*.ipynb")):
        for number, cell in enumerate(read_notebook(path).cells, start=1):
            if cell.cell_type == "code" and any(text in cell.source for text in texts):
                yield f"notebook: {path}, cell {number}, In [{cell.execution_count}], {does}"


def verify(table: str, *, retrain: int | None, tolerance: float) -> None:
    """Make a table of the active profile again, by the stages of dvc.yaml, in a scratch folder.

    ``retrain``: how many of the runs behind it are made again, too, 0 for all; None for none.
    BadInput: there is no such table, or cells differ, see ``compare``; they are named.
    """
    if not tolerance >= 0:
        raise BadInput(f"--tolerance is {tolerance}; give 0 or more points.")
    project = Project.find()
    write_sections(project.root / PARAMS, project.root / SECTIONS)
    reports = project.path(REPORTS)
    tables = {path.stem: path for path in sorted(reports.glob("tables/*.csv"))}
    if table not in tables:
        raise BadInput(f"{reports} has no table {table!r}; {did_you_mean(table, tables)}.")
    before, moved = _read(tables[table]), []
    with tempfile.TemporaryDirectory(prefix="vecaf-verify-") as scratch:
        if retrain is not None:
            runs = Path(scratch, "runs")
            shutil.copytree(reports / "runs", runs)
            again = list(dict.fromkeys(" ".join(before["runs"]).split()))[: retrain or None]
            for file in again:
                (runs / file).unlink(missing_ok=True)
            print(f"making {len(again)} runs again, and those whose code has changed", flush=True)
            moved = [f"runs={runs}"]
            _execute("runs", project.root, scratch, *moved)
        _execute("tables", project.root, scratch, *moved)
        different = compare(before, _read(Path(scratch, "tables", f"{table}.csv")), tolerance)
    if different:
        raise BadInput(f"{tables[table]} is not the same, in: {', '.join(different)}.")
    print(f"{tables[table]} is the same to within {tolerance:g}, made again")


def _execute(stage: str, root: Path, scratch: str, *extra: str) -> None:
    """Execute a stage's notebook as dvc.yaml has it, all that it writes below ``scratch``."""
    command = yaml.safe_load((root / "dvc.yaml").read_text())["stages"][stage]["cmd"]
    _, _, source, output, *words = shlex.split(command.replace(REPORTS, scratch))
    pairs = [word for word in words if "=" in word]
    execute_stage(root / "notebooks" / Path(source).name, output, [*pairs, *extra])


def compare(old: pd.DataFrame, new: pd.DataFrame, tolerance: float = 0.0) -> list[str]:
    """The cells, named by the first column, in which two tables of text differ.

    Numbers with decimals, of equal rows and columns, may differ by ``tolerance`` in their unit.
    """
    if tolerance and old.shape == new.shape and old.columns.equals(new.columns):
        a, b = (table.where(table.map(lambda text: "." in text)) for table in (old, new))
        gap = a.apply(pd.to_numeric, errors="coerce") - b.apply(pd.to_numeric, errors="coerce")
        new = new.mask(gap.abs() <= tolerance + 1e-9, old)  # four decimals, as they are read
    if old.equals(new):
        return []
    rows = pd.concat([old, new]).drop_duplicates(keep=False)
    return [*dict.fromkeys(rows.iloc[:, 0])] or ["order of the rows"]
