"""Does a lower objective choose better images? Why the engine loses where losses pull.

``python benchmarks/objective_accuracy.py``; four minutes; ``VECAF_CIFAR10`` names the images. On
45,000 real CIFAR-10 embeddings and 500 images, p_L from the losses of a linear probe: the exact
mode at the paper's rate and at the engine's, and the engine stopped early, each with the objective
that it reached and the test accuracy of a linear probe on its choice, 3 seeds. The table is kept
in ``reports/performance/objective.csv``.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from cifar_embeddings import embeddings
from selection_engine import K, value
from sklearn.linear_model import LogisticRegression
from torch.nn.functional import normalize

from vecaf_lib.evaluation import linear_probe_losses
from vecaf_lib.large_pool import select
from vecaf_lib.objective import loss_distribution
from vecaf_lib.seeding import generator
from vecaf_lib.selection import Pool, ods

SEEDS = 3
PLACE = Path("reports/performance/objective.csv")
EXACT = {"exact, 300 steps at 1e-3": (300, 1e-3), "exact, 150 steps at 3e-3": (150, 3e-3)}
ENGINE = {f"engine, {steps} steps at 3e-3": steps for steps in (40, 60, 100, 150)}


def main() -> None:
    """Print and keep the table."""
    data = embeddings()
    pixels, labels = data["train"], data["train_labels"]
    e = normalize(torch.from_numpy(pixels), dim=1)
    losses = linear_probe_losses(e, torch.from_numpy(labels), classes=10)
    p = loss_distribution(losses, 1.0)

    def accuracy(chosen: Any) -> float:
        probe = LogisticRegression(max_iter=2000).fit(pixels[chosen], labels[chosen])
        return 100 * float(probe.score(data["test"], data["test_labels"]))

    lines = []
    for name in ["random", *EXACT, *ENGINE]:
        reached, found = [], []
        for seed in range(SEEDS):
            record: dict[str, Any] = {}
            g = generator(seed)
            if name == "random":
                chosen = torch.randperm(len(e), generator=g)[:K].numpy()
            elif name in EXACT:
                steps, rate = EXACT[name]
                plan: dict[str, Any] = {"iterations": steps, "learning_rate": rate, "ensemble": 1}
                plan |= {"reassign_every": 5, "tolerance": 0.0, "record": record}
                pool = Pool(len(e), embeddings=e, losses=losses)
                chosen = ods.select(pool, K, generator=g, **plan).numpy()
                reached.append(record["objective"])
            else:
                chosen = select(e, K, losses, generator=g, iterations=ENGINE[name], record=record)
                reached.append(float(value(e, p, torch.from_numpy(record["centroids"]))))
            found.append(accuracy(chosen))
        line = {
            "selection": name,
            "objective": round(float(np.mean(reached)), 3) if reached else None,
            "accuracy": round(float(np.mean(found)), 2),
            "standard_error": round(float(np.std(found, ddof=1)) / SEEDS**0.5, 2),
            "n": SEEDS,
        }
        print(line, flush=True)
        lines.append(line)
    PLACE.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(lines).to_csv(PLACE, index=False)


if __name__ == "__main__":
    main()
