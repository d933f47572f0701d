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
LABELS = {  # method -> the name that is printed for it
    "random": "Random",
    "probe": "Probe on frozen features",
    "learnloss": "LearnLoss",
    "ta_vaal": "TA-VAAL",
    "alfa_mix": "ALFA-Mix",
    "activeft": "ActiveFT",
    "kmeans": "k-means centres",
    "coreset": "CoreSet",
    "typiclust": "TypiClust",
    "probcover": "ProbCover",
    "maxherding": "MaxHerding",
    "bilaf": "BiLAF",
    "badge": "BADGE",
    "uherding": "UHerding",
    "ods_margin": "ODS by margin",
    "topk_loss": "Top-K loss",
    "loss_herding": "Herding by loss",
    "class_herding": "Class-quota herding",
    "stratified": "Random, stratified",
    "full": "Full-data FT",
    "vecaf": "VeCAF",
    "vecaf_no_ods": "VeCAF without ODS",
    "vecaf_no_cea": "VeCAF without CEA",
    "vecaf_neither": "VeCAF without both",
    "vecaf_snowy": "VeCAF, snowy captions",
    "vecaf_foggy": "VeCAF, foggy captions",
    "vecaf_tau": "VeCAF, another tau",
    "vecaf_lambda": "VeCAF, another lambda",
    "vecaf_alone": "VeCAF without the ensemble",
    "vecaf_literal": "VeCAF, CEA as printed",
    "vecaf_procrustes": "VeCAF, Procrustes bridge",
    "vecaf_eta": "VeCAF, another eta",
    "vecaf_probe": "VeCAF, first losses of a probe",
    "vecaf_named": "VeCAF with class names",
    "vecaf_nouns": "VeCAF, captions of nouns",
    "vecaf_attributes": "VeCAF, captions of attributes",
    "vecaf_hashed": "VeCAF, text without meaning",
    "vecaf_lite1": "VeCAF, EfficientNet-Lite1",
    "vecaf_lite1_hashed": "VeCAF, EfficientNet-Lite1, text without meaning",
    "vecaf_official": "VeCAF as released",
    "vecaf_by_class": "VeCAF by class (ours)",
    "vecaf_self_paced": "VeCAF self-paced (ours)",
    "paced_no_cea": "Self-paced without captions",
    "paced_unnamed": "Self-paced without class names",
    "paced_hashed": "Self-paced, text without meaning",
    "paced_uniform": "Self-paced without losses",
    "paced_hard": "Self-paced, equation 3's losses",
    "paced_alone": "Self-paced without the ensemble",
    "paced_printed": "Self-paced, VeCAF's selection",
    "clipstyler": "CLIPstyler",
}
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
