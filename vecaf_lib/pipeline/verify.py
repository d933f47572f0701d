"""Make a table again and compare: ``python -m vecaf_lib.pipeline.verify TABLE [--retrain]``

The table's notebook runs as its stage of dvc.yaml has it, but writes to a scratch folder; with
``--retrain`` the runs behind the table are made again first, into a scratch folder, too (with
``--runs N`` the first N of them; the others are kept as they are). Of the active profile. A line a
cell; exit status 1 if any is unequal.
"""

import argparse
import shlex
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from vecaf_lib.errors import BadInput
from vecaf_lib.pipeline import cli, execute
from vecaf_lib.pipeline.trace import REPORTS, active_profile, changed_code
from vecaf_lib.run_files import SUFFIX, read_run

DVC, NOTEBOOKS = Path("dvc.yaml"), Path("notebooks")


def stage_arguments(name: str, profile: str, replaced: Mapping[str, str]) -> list[str]:
    """The arguments with which a stage of dvc.yaml calls ``vecaf_lib.pipeline.execute``.

    Args:
        name: of the stage.
        profile: fills ``${profile}`` and ``${item.profile}``.
        replaced: parameter that is given by ``-p`` -> value in place of the stage's; and
            ``notebook`` -> where the executed notebook goes.

    Raises:
        BadInput: dvc.yaml has no such stage, or it has none of the parameters.
    """
    content = yaml.safe_load(DVC.read_text(encoding="utf-8")) if DVC.is_file() else {}
    stage = content.get("stages", {}).get(name)
    if stage is None:
        raise BadInput(f"{DVC} has no stage {name!r}; run this in the project's folder.")
    words = {"profile": profile, "item.profile": profile}
    for part in content.get("vars", []):
        words |= part if isinstance(part, dict) else {}
    text = stage["cmd"]
    for word, value in words.items():
        text = text.replace(f"${{{word}}}", str(value))
    if "${" in text:
        raise BadInput(f"{DVC}: stage {name} has a placeholder that is not known: {text}")
    command = shlex.split(text)
    module = command.index(execute.__name__) if execute.__name__ in command else -1
    if module < 0 or len(command) < module + 3:
        raise BadInput(f"{DVC}: stage {name} does not call {execute.__name__}: {text}")
    source, _, *options = command[module + 1 :]
    authored = NOTEBOOKS / Path(source).name  # what the stage's source is a copy of
    source = str(authored) if authored.is_file() else source
    for key, value in replaced.items():
        if key == "notebook":
            continue
        places = [i for i, option in enumerate(options) if option.startswith(f"{key}=")]
        if len(places) != 1 or options[places[0] - 1] != "-p":
            raise BadInput(f"{DVC}: stage {name} passes no parameter {key} by -p.")
        options[places[0]] = f"{key}={value}"
    return [source, replaced["notebook"], *options]


def make_again(table: str, profile: str, scratch: Path, *, retrain: bool, runs: int | None) -> Path:
    """Make the table in a scratch folder and return its file.

    Args:
        retrain: make the runs behind it again, too.
        runs: how many of them; None for all.

    Raises:
        BadInput: the stage does not write the table, or the stage itself complains.
    """
    replaced = {"output": str(scratch / "tables")}
    if retrain:
        replaced["runs"] = str(scratch / "runs")
        _drop_runs(table, profile, scratch / "runs", runs)
        own = {"runs": replaced["runs"], "notebook": str(scratch / "30_runs.ipynb")}
        execute.main(stage_arguments("runs", profile, own))
    made_by = {**replaced, "notebook": str(scratch / "40_tables.ipynb")}
    execute.main(stage_arguments("tables", profile, made_by))
    made = scratch / "tables" / f"{table}.csv"
    if not made.is_file():
        raise BadInput(f"The stage tables of {DVC} made no {made.name}; it cannot be compared.")
    return made


def _drop_runs(table: str, profile: str, folder: Path, runs: int | None) -> None:
    """Copy the run files but for those to be made again, and say how many these are."""
    stored = REPORTS / profile / "runs"
    if not stored.is_dir():
        raise BadInput(f"{stored} is missing; `dvc repro` makes it.")
    behind = _runs_behind(REPORTS / profile / "tables" / f"{table}.csv")
    shutil.copytree(stored, folder)
    for file in behind[:runs]:
        (folder / file).unlink(missing_ok=True)
    kept = [read_run(path)["provenance"].get("code", {}) for path in folder.glob(f"*/*{SUFFIX}")]
    old = sum(bool(changed_code(digests)) for digests in kept)
    more = f", and {old} others, which are of other code" if old else ""
    told = f"{len(behind[:runs])} of the {len(behind)} runs behind {table}{more}"
    print(f"making again {told}", flush=True)


def compare(stored: Path, made: Path, tolerance: float = 0.0) -> Iterator[tuple[str, list[str]]]:
    """Compare two files of one table.

    Args:
        stored: the one in the reports.
        made: the one made again.
        tolerance: what two numbers with decimals may differ by, in their unit (points).

    Yields:
        each cell's id, or the row's number where the table has no ids, with what is unequal in it;
        an order or a set of columns that differs comes as a cell called ``columns`` or ``order``.
    """
    old, new = (_texts(path) for path in (stored, made))
    if list(old.columns) != list(new.columns):
        yield "columns", [f"{', '.join(old.columns)} stored, {', '.join(new.columns)} made again"]
    if sorted(old.index) == sorted(new.index) and list(old.index) != list(new.index):
        yield "order", ["the rows are in another order"]
    common = [column for column in old.columns if column in new.columns]
    for cell in [*old.index, *(id for id in new.index if id not in old.index)]:
        if cell not in new.index or cell not in old.index:
            yield str(cell), ["made again, not stored" if cell in new.index else "not made again"]
            continue
        yield (
            str(cell),
            [
                f"{column} {old.loc[cell, column] or 'empty'} stored, "
                f"{new.loc[cell, column] or 'empty'} made again"
                for column in common
                if not _equal(old.loc[cell, column], new.loc[cell, column], tolerance)
            ],
        )


def _texts(path: Path) -> pd.DataFrame:
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    for name in ("cell", "id"):
        if name in table and table[name].is_unique:
            return table.set_index(name)
    return table.set_axis([f"row {number}" for number in range(1, len(table) + 1)])


def _equal(old: Any, new: Any, tolerance: float) -> bool:
    if old == new:
        return True
    if tolerance > 0 and "." in str(old) and "." in str(new):
        with suppress(ValueError):
            return abs(float(old) - float(new)) <= tolerance + 1e-9  # four decimals as read
    return False


def _runs_behind(path: Path) -> list[str]:
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    if "runs" not in table:
        raise BadInput(f"{path} names no runs; --retrain has nothing to make again.")
    return list(dict.fromkeys(run for runs in table["runs"] for run in runs.split()))


def stored_table(name: str, profile: str) -> Path:
    """The file of a table in the reports.

    Raises:
        BadInput: there is none of this name.
    """
    folder = REPORTS / profile / "tables"
    known = {path.stem: path for path in sorted(folder.glob("*.csv"))}
    if name.removesuffix(".csv") not in known:
        told = cli.suggestion(name, list(known))
        raise BadInput(f"{folder} has no table {name!r}; {told}.")
    return known[name.removesuffix(".csv")]


def main(arguments: Sequence[str]) -> None:
    """The command line; see the module's text."""
    parser = argparse.ArgumentParser(prog="python -m vecaf_lib.pipeline.verify")
    parser.add_argument("table", metavar="TABLE")
    parser.add_argument("--retrain", action="store_true", help="make its runs again first")
    parser.add_argument("--runs", type=int, metavar="N", help="only the first N of them")
    parser.add_argument("--tolerance", type=float, default=0.0, metavar="POINTS")
    options = parser.parse_args(arguments)
    if options.runs is not None and (options.runs < 1 or not options.retrain):
        raise BadInput(f"--runs is {options.runs}; give at least 1, together with --retrain.")
    if not options.tolerance >= 0:
        raise BadInput(f"--tolerance is {options.tolerance}; give 0 or more points.")
    profile = active_profile()
    stored = stored_table(options.table, profile)
    with tempfile.TemporaryDirectory(prefix="vecaf-verify-") as folder:
        made = make_again(
            stored.stem, profile, Path(folder), retrain=options.retrain, runs=options.runs
        )
        results = list(compare(stored, made, options.tolerance))
    for cell, differences in results:
        print(f"{cell}: {'unequal: ' + '; '.join(differences) if differences else 'equal'}")
    unequal = sum(bool(differences) for _, differences in results)
    print(f"{stored}: {len(results) - unequal} equal, {unequal} unequal")
    if unequal:
        sys.exit(1)


if __name__ == "__main__":
    cli.run(main)
