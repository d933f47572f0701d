"""The runs behind a cell of a table: what each seed reached, checked against the cell's mean."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from vecaf_lib.errors import BadInput
from vecaf_lib.report.names import BY_CLASS
from vecaf_lib.run_files import read_run


class Reached(NamedTuple):
    """What one run of a cell reached.

    Attributes:
        file: the run file, below the folder of run files.
        test: accuracy of the kind that the cell is about, in percent.
        validation: accuracy on the validation split after the last step, in percent.
    """

    file: str
    test: float
    validation: float


def accuracy_of(result: Mapping[str, Any], line: pd.Series) -> float:
    """The run's accuracy on the images, and of the kind, that this cell is about; in percent."""
    if line.get("domain"):
        return float(result["domains"][line["domain"]][str(line["severity"])])
    if str(line["cell"]).startswith(f"{BY_CLASS}/"):
        return float(result["test"]["mean_class_accuracy"])
    return float(result["test_accuracy"])


def behind(line: pd.Series, runs_dir: Path) -> dict[int, Reached]:
    """Seed -> what its run reached.

    Args:
        line: a row of one of our tables.
        runs_dir: the folder of run files, ``<method>/<run>.json.gz``.

    Raises:
        BadInput: a file is missing, or their mean is not the cell's.
    """
    found = {}
    for file in str(line["runs"]).split():
        run = read_run(runs_dir / file)
        result = run["result"]
        reached = Reached(file, accuracy_of(result, line), float(result["validation_accuracy"]))
        found[int(run["run"]["seed"])] = reached
    mean = sum(run.test for run in found.values()) / max(len(found), 1)
    if not found or abs(mean - float(line["mean"])) > 1e-3:
        raise BadInput(
            f"Cell {line['cell']} says {line['mean']:.4f} but its run files give {mean:.4f}; "
            "make the tables again with `dvc repro`."
        )
    return found
