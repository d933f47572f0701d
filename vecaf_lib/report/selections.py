"""What the methods chose, by yardsticks that are the same for all of them.

Overlap, class balance, difficulty, doubtful labels and coverage, from run files, the pool's labels
and its pretrained embeddings alone: no model is finetuned for them.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int64
from scipy.stats import rankdata
from torch import Tensor
from torch.nn.functional import normalize

from vecaf_lib.errors import BadInput
from vecaf_lib.probe import linear_probe_losses
from vecaf_lib.report.names import FULL
from vecaf_lib.report.stats import summary

COVERED = 5_000  # evenly spaced pool samples, at most, whose nearest chosen one is looked up
POOL, CHANCE = "pool", "chance"  # names of the rows to compare with
UNITS = {
    "overlap": "%",
    "overlap_between_loops": "%",
    "class_entropy": "0 to 1",
    "classes_missed": "classes",
    "probe_loss_rank": "%",
    "probe_loss_top_decile": "%",
    "label_doubted": "%",
    "distance": "1 - cosine",
}


@dataclass(frozen=True)
class Yardsticks:
    """What is known of each pool sample, whatever a method was told.

    Attributes:
        labels: class indices.
        classes: number of classes.
        unit: pretrained embeddings of unit length.
        rank: quantile of the leave-one-out linear-probe loss, 0..1, ties shared.
        doubted: whether the out-of-fold class differs from the label.
    """

    labels: Int64[np.ndarray, " n"]
    classes: int
    unit: Float[Tensor, "n d"]
    rank: Float[np.ndarray, " n"]
    doubted: Bool[np.ndarray, " n"]


def yardsticks(
    embeddings: Float[Tensor, "n d"],
    labels: Int64[Tensor, " n"],
    probabilities: Float[np.ndarray, "n c"],
    *,
    classes: int,
) -> Yardsticks:
    """Measure the pool once, for all methods; ``probabilities`` are ``out_of_fold``'s."""
    embeddings = embeddings.float()
    losses = linear_probe_losses(embeddings, labels, classes=classes).numpy()
    said = np.unique(labels.numpy())[probabilities.argmax(1)]
    rank = (rankdata(losses) - 0.5) / len(losses)
    unit = normalize(embeddings, dim=1)
    return Yardsticks(labels.numpy(), classes, unit, rank, said != labels.numpy())


def jaccard(first: np.ndarray, second: np.ndarray) -> float:
    """Common samples over all samples of two sets, percent."""
    common = len(np.intersect1d(first, second))
    return 100.0 * common / (len(np.union1d(first, second)) or 1)


def class_entropy(labels: Int64[np.ndarray, " k"], classes: int) -> float:
    """Entropy of the class counts over log(classes): 1 if all classes are equally frequent."""
    counts = np.bincount(labels, minlength=classes)
    p = counts[counts > 0] / counts.sum()
    return float(-(p * np.log(p)).sum() / np.log(classes))


def distance(unit: Float[Tensor, "n d"], chosen: Int64[np.ndarray, " k"]) -> float:
    """Mean over the pool of 1 - cosine to the nearest chosen sample; lower covers better."""
    at = torch.arange(min(COVERED, len(unit))) * len(unit) // min(COVERED, len(unit))
    centres = unit[torch.from_numpy(chosen)].T  # (d, k)
    nearest = [(rows @ centres).amax(1) for rows in unit[at].split(1000)]
    return float((1 - torch.cat(nearest)).clamp_min(0).mean())


def of_one_set(chosen: Int64[np.ndarray, " k"], pool: Yardsticks) -> dict[str, float]:
    """All that is measured of one selection, by the names of ``UNITS``."""
    labels = pool.labels[chosen]
    return {
        "class_entropy": class_entropy(labels, pool.classes),
        "classes_missed": float(pool.classes - len(np.unique(labels))),
        "probe_loss_rank": 100 * float(pool.rank[chosen].mean()),
        "probe_loss_top_decile": 100 * float((pool.rank[chosen] > 0.9).mean()),
        "label_doubted": 100 * float(pool.doubted[chosen].mean()),
        "distance": distance(pool.unit, chosen),
    }


def diagnose(
    runs: Sequence[Mapping[str, Any]],
    *,
    ids: Sequence[str],
    labels: Int64[Tensor, " n"],
    embeddings: Float[Tensor, "n d"],
    probabilities: Float[np.ndarray, "n c"],
    classes: int,
) -> pd.DataFrame:
    """All diagnostics of the runs of one ratio and number of loops.

    Means are over the loops of a run first, then over seeds. Full-data finetuning chooses nothing
    and is left out. The rows ``pool`` and ``chance`` say what the whole pool has, and what two
    random sets would have in common.

    Args:
        runs: run files, at most one of each method and seed.
        ids: of the pool's images, in its order.
        labels: of the pool.
        embeddings: of the pool, from the pretrained model.
        probabilities: of the pool, from ``out_of_fold``.
        classes: number of classes.

    Returns:
        Columns cell (``selections/<measure>/<method>[/<other>]``), measure, method, other, mean,
        standard_error (over seeds), n (seeds), unit.

    Raises:
        BadInput: no run that selects, two settings, a run given twice, an image of another pool.
    """
    sets = _sets(runs, ids)
    pool = yardsticks(embeddings, labels, probabilities, classes=classes)
    budget = len(next(iter(next(iter(sets.values())).values()))[0])
    lines = [_line("overlap", CHANCE, "", {0: 100.0 * budget / (2 * len(ids) - budget)}, n=0)]
    for one, other in itertools.combinations(sets, 2):
        common = {
            seed: _mean(itertools.starmap(jaccard, zip(loops, sets[other][seed], strict=True)))
            for seed, loops in sets[one].items()
            if seed in sets[other]
        }
        if common:
            lines.append(_line("overlap", one, other, common))
    for method, by_seed in sets.items():
        pairs = {seed: list(itertools.combinations(loops, 2)) for seed, loops in by_seed.items()}
        if all(pairs.values()):
            within = {seed: _mean(jaccard(a, b) for a, b in of) for seed, of in pairs.items()}
            lines.append(_line("overlap_between_loops", method, "", within))
    whole = of_one_set(np.arange(len(ids)), pool)
    measured = {
        method: {seed: [of_one_set(c, pool) for c in loops] for seed, loops in by_seed.items()}
        for method, by_seed in sets.items()
    }
    for measure in whole:
        lines.append(_line(measure, POOL, "", {0: whole[measure]}, n=0))
        for method, of_seed in measured.items():
            means = {s: _mean(told[measure] for told in loops) for s, loops in of_seed.items()}
            lines.append(_line(measure, method, "", means))
    return pd.DataFrame(lines)


def _sets(
    runs: Sequence[Mapping[str, Any]], ids: Sequence[str]
) -> dict[str, dict[int, list[np.ndarray]]]:
    """Method -> seed -> positions in the pool that each loop chose."""
    place = {id_: at for at, id_ in enumerate(ids)}
    found: dict[str, dict[int, list[np.ndarray]]] = {}
    settings = set()
    for run in runs:
        spec = run["run"]
        method, seed = spec["method"], int(spec["seed"])
        if method == FULL or spec["ratio"] >= 100:
            continue
        settings.add((float(spec["ratio"]), spec["loops"]))
        if seed in found.setdefault(method, {}):
            raise BadInput(f"runs: {method} is given twice for seed {seed}; choose one selection.")
        chosen = [loop["chosen"] for loop in run["result"]["loops"]]
        stranger = next((id_ for loop in chosen for id_ in loop if id_ not in place), None)
        if stranger is not None:
            raise BadInput(f"runs: {method} chose {stranger!r}, which is no image of this pool.")
        found[method][seed] = [np.array([place[id_] for id_ in loop]) for loop in chosen]
    if len(settings) != 1:
        told = ", ".join(f"{r:g} % with {n} loops" for r, n in sorted(settings)) or "none"
        raise BadInput(f"runs: they must be of one ratio and number of loops, not of {told}.")
    return found


def _mean(values: Iterator[float]) -> float:
    return float(np.mean(list(values)))


def _line(
    measure: str, method: str, other: str, values: Mapping[int, float], n: int | None = None
) -> dict[str, Any]:
    told = summary(values)
    return {
        "cell": "/".join(filter(None, ("selections", measure, method, other))),
        "measure": measure,
        "method": method,
        "other": other,
        "mean": told.mean,
        "standard_error": told.standard_error,
        "n": told.n if n is None else n,
        "unit": UNITS[measure],
    }
