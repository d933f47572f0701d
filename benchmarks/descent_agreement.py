"""Does a profile's descent choose what the exact one chooses, on the profile's own embeddings?

``python benchmarks/descent_agreement.py PROFILE [--ratio 5] [--starts 3]``. Exact is 300 steps of
Adam at 1e-3, every sample assigned anew in each (ActiveFT's). Beside it, from the same start, for
``activeft`` and ``vecaf``: the profile's own settings, shorter descents, and the engine for large
pools. The losses are a linear probe's; an ensemble is left out, its members are what differs.

Printed, as means over starts: the share of the exact choice that is chosen (overlap), the exact
objective at the end, the mean loss of the chosen over the pool's, the percentage of centroids that
attract nobody, and seconds. Two yardsticks: the exact descent in float64, which shows what rounding
does, and from another start. Exit code 1 where the profile's own settings miss a limit.
"""

import argparse
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor
from torch.nn.functional import normalize

from vecaf_lib.data.load import load_lazily
from vecaf_lib.evaluation import linear_probe_losses
from vecaf_lib.large_pool import select as select_fast
from vecaf_lib.models.extract import embeddings
from vecaf_lib.objective import loss_distribution
from vecaf_lib.pipeline.project import views
from vecaf_lib.pipeline.settings import read
from vecaf_lib.seeding import generator
from vecaf_lib.selection import descent
from vecaf_lib.selection.activeft import contrast
from vecaf_lib.selection.ods import ods_objective
from vecaf_lib.selection.pool import budget_of

EXACT: dict[str, Any] = {"iterations": 300, "learning_rate": 1e-3, "tolerance": 0.0}
EXACT["engine"] = "exact"
FAST = {"engine": "fast", "iterations": None, "tolerance": None}  # its own
SHORTER = ((60, 5e-3), (100, 3e-3), (150, 2e-3), (200, 1.5e-3))
OVERLAP = 0.9  # at least, or what float64 has in common with float32 if that is less
LOSS_RATIO = 0.02  # at most, of the exact one's: a fiftieth of a mean loss
EMPTY = 1.0  # points at most


def objective_of(options: Mapping[str, Any], e: Tensor, losses: Tensor) -> Any:
    """The objective; options without lambda are ActiveFT's."""
    if "lambda_" not in options:
        return contrast(e, options["tau"])
    p = loss_distribution(losses.to(e), options["loss_power"])
    return ods_objective(e, p, options["tau"], options["lambda_"])


def centroids(
    options: Mapping[str, Any], e: Tensor, losses: Tensor, seed: int, budget: int
) -> Tensor:
    """Where the descent of one seed ends, by the engine that the options name."""
    draw = generator(seed, "selection", 0)
    if options.get("engine") == "fast":
        names = ("tau", "lambda_", "loss_power", "iterations", "tolerance")
        plan = {name: options[name] for name in names if name in options}
        kind = "ods" if "lambda_" in options else "activeft"
        record: dict[str, Any] = {}
        own = losses if kind == "ods" else None
        select_fast(e, budget, own, objective=kind, generator=draw, record=record, **plan)
        return torch.from_numpy(record["centroids"])
    first = descent.start(len(e), budget, generator=draw)
    objective = objective_of(options, e, losses)
    steps = {name: options[name] for name in ("iterations", "learning_rate", "tolerance")}
    return descent.optimise(e[first], objective, **steps)


def compare(
    options: Mapping[str, Any], e: Tensor, losses: Tensor, budget: int, starts: int
) -> pd.DataFrame:
    """One row a way, means over starts; ``e`` are unit embeddings (n x d)."""
    short = {
        f"{count} steps at {rate:g}": {**options, **EXACT, "iterations": count}
        | {"learning_rate": rate}
        for count, rate in SHORTER
    }
    ways = {"exact": {**options, **EXACT}, "in float64": {**options, **EXACT}}
    ways |= {"another start": {**options, **EXACT}, "the profile's": dict(options), **short}
    ways |= {"engine fast": {**options, **FAST}}
    rows = []
    for seed in range(starts):
        reference = torch.empty(0, dtype=torch.int64)
        for way, own in ways.items():
            begun = time.perf_counter()
            pool = e.double() if way == "in float64" else e
            moved = seed + (starts if way == "another start" else 0)
            theta = centroids(own, pool, losses, moved, budget)
            seconds = time.perf_counter() - begun
            chosen = descent.nearest_unused(pool, theta)
            reference = chosen if way == "exact" else reference
            rows.append(
                {
                    "way": way,
                    "overlap": descent.share(reference, chosen),
                    "objective": objective_of(options, pool, losses)(theta)[0],
                    "loss ratio": float(losses[chosen].mean() / losses.mean()),
                    "empty, %": 100 * descent.empty(pool, theta),
                    "seconds": seconds,
                }
            )
    return pd.DataFrame(rows).groupby("way", sort=False).mean()


def missed(table: pd.DataFrame, way: str = "the profile's") -> list[str]:
    """A sentence for each limit that a way misses."""
    own, exact = table.loc[way], table.loc["exact"]
    least = min(OVERLAP, table.loc["in float64", "overlap"])
    distances = {
        "overlap": (least - own["overlap"], 0.0),
        "loss ratio": (abs(own["loss ratio"] - exact["loss ratio"]), LOSS_RATIO),
        "empty, %": (abs(own["empty, %"] - exact["empty, %"]), EMPTY),
    }
    return [
        f"{name} is {own[name]:.3f}, and {exact[name]:.3f} of the exact descent; the limit is "
        + (f"{least:.2f}." if name == "overlap" else f"{limit:g} away.")
        for name, (distance, limit) in distances.items()
        if distance > limit + 1e-9
    ]


def main() -> None:
    """Print a table for each method, and what its settings miss."""
    parser = argparse.ArgumentParser()
    parser.add_argument("profile")
    parser.add_argument("--ratio", type=float, help="percent; default: of the profile's figures")
    parser.add_argument("--starts", type=int, default=3)
    parser.add_argument("--embeddings", type=Path, help="folder of the .npy files")
    given = parser.parse_args()
    settings = read(Path("profiles", f"{given.profile}.yaml")).model_dump(mode="json")
    folder = given.embeddings or Path("data/generated", given.profile, "embeddings")
    own = settings["dataset"]
    data = load_lazily(split="train", data=Path("data"), **{**own, "memory_gib": 0.0})
    e = normalize(embeddings(views(settings).image_file(folder), size=len(data)).float(), dim=1)
    losses = linear_probe_losses(e, data.labels, classes=len(data.class_names))
    ratio = given.ratio or settings["figures"]["ratio"]
    budget, faults = budget_of(ratio, len(e)), []
    for name in ("activeft", "vecaf"):
        table = compare(settings["methods"][name]["options"], e, losses, budget, given.starts)
        fits = [not missed(table, way) for way in table.index]
        print(f"\n{name}, {budget} of {len(e)} images, means over {given.starts} starts")
        print(table.assign(agrees=fits).round(3).to_string())
        faults += [f"{name}: {sentence}" for sentence in missed(table)]
    if faults:
        print("\nThe profile's settings do not choose as the exact descent:", *faults, sep="\n")
        sys.exit(1)


if __name__ == "__main__":
    main()
