"""Run files as tidy frames: a row a run and tested set, a severity, an evaluation, a step, a loop.

Each reader takes the folder of run files and exactly the runs to read; all frames have ``KEYS`` and
``label``, ``selection`` (``multi`` or ``single``), ``labels_seen`` and ``file``.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from vecaf_lib.results.runs import Run, RunStore

KEYS = ["method", "multi_run", "sets", "ratio", "loops", "seed", "target", "reading"]
MEASURES = ["mean_class_accuracy", "recall", "specificity"]  # percent; besides accuracy
# method -> the name that is printed for it
LABELS = pd.read_csv(Path(__file__).with_name("labels.csv"), index_col=0)["label"].to_dict()
# Points of validation accuracy between trainings that begin alike and see the same batches. With
# LearnLoss' predictor: 0 where its gradient stops before the model, 30 where it swamps the model's.
APART = 5.0
GROUPS = {  # of Table 1, by the labels that a selection may look at
    "none": "embeddings alone",
    "chosen": "labels of what it chose",
    "all": "labels of the whole pool",
}


def label(method: str) -> str:
    """The name printed for a method; an unknown one is printed as it is."""
    return LABELS.get(method, method)


def tidy(folder: Path, runs: Sequence[Run]) -> pd.DataFrame:
    """One row a run and tested set; BadInput if a run is missing or damaged.

    Besides the keys: domain (empty for the profile's own test images); accuracy after the last step
    (in a domain the mean over severities; of a target the mean of recall and specificity, with
    reading "selection" its recall among all classes) and ``MEASURES``, percent; NaN where absent.
    """

    def tested(result: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        test = {name: result.get("test", {}).get(name) for name in MEASURES}
        yield {"domain": "", "accuracy": result["test_accuracy"]} | test
        for domain, accuracies in result.get("domains", {}).items():
            yield {"domain": domain, "accuracy": accuracies["mean"]}

    return _frame(folder, runs, tested).astype(dict.fromkeys(MEASURES, float))


def severities(folder: Path, runs: Sequence[Run]) -> pd.DataFrame:
    """One row a run, domain and severity (``1`` to ``5``, and ``mean``): accuracy in percent."""
    return _frame(
        folder,
        runs,
        lambda result: (
            {"domain": domain, "severity": severity, "accuracy": accuracy}
            for domain, accuracies in result.get("domains", {}).items()
            for severity, accuracy in accuracies.items()
        ),
    )


def curves(folder: Path, runs: Sequence[Run]) -> pd.DataFrame:
    """One row an evaluation: step, and validation_accuracy in percent."""
    return _frame(folder, runs, lambda result: result["curve"])


def losses(folder: Path, runs: Sequence[Run]) -> pd.DataFrame:
    """One row an optimiser step, counted from 1: loss on the minibatch."""
    frame = _frame(folder, runs, lambda result: ({"loss": loss} for loss in result["train_loss"]))
    return frame.assign(step=frame.groupby("file").cumcount() + 1)


def selections(folder: Path, runs: Sequence[Run]) -> pd.DataFrame:
    """One row a loop: loop (from 1), chosen (ids of images), and what else the run says of it."""
    return _frame(folder, runs, lambda result: result["loops"])


def first_loops(folder: Path, runs: Sequence[Run]) -> pd.DataFrame:
    """One row a run that selects: first_set (sorted ids of its first set), validation_accuracy.

    The accuracy, in percent, is that of the last evaluation within the first loop; a run without
    one is left out.
    """

    def first(result: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        loops, curve = result["loops"], result["curve"]
        points = [point for point in curve if point["step"] <= curve[-1]["step"] // len(loops)]
        if loops[0]["chosen"] and points:
            yield points[-1] | {"first_set": tuple(sorted(loops[0]["chosen"]))}

    return _frame(folder, runs, first)


def batches_to(points: pd.DataFrame, target: float) -> pd.DataFrame:
    """The first step of :func:`curves` whose accuracy is at least ``target`` percent, a row a run.

    A run that never gets there, by ``reached``, counts with its last step, a lower bound.
    """
    runs = points.groupby("file", sort=False)
    found = runs.first().drop(columns=["step", "validation_accuracy"])
    reaching = points[points["validation_accuracy"] >= target]
    batches = reaching.groupby("file")["step"].min().reindex(found.index)
    return found.assign(
        batches=batches.fillna(runs["step"].max()).astype(int), reached=batches.notna()
    ).reset_index()


def _frame(
    folder: Path, runs: Sequence[Run], rows_of: Callable[[Mapping[str, Any]], Iterable[Any]]
) -> pd.DataFrame:
    rows = []
    for run, content in zip(runs, RunStore(folder).load_all(runs), strict=True):
        keys = {name: getattr(run, name) for name in KEYS} | {
            "label": label(run.method),
            "selection": "multi" if run.multi_run else "single",
            "labels_seen": content["result"]["labels_seen"],
            "file": run.file,
        }
        rows += [keys | row for row in rows_of(content["result"])]
    return pd.DataFrame(rows)
