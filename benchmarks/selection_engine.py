"""The selection engine beside a plain autograd implementation of the same objective.

``python benchmarks/selection_engine.py [--quick]``. Pool: N 50,000, d 384, K 500, clustered; and
real CIFAR-10 embeddings (``VECAF_CIFAR10`` names the images; the first call embeds them). Printed:

1. time of 300 dense iterations and a full sort over the engine's time, at the objectives reached;
2. peak memory above the embeddings, each in a process of its own;
3. test accuracy of a linear probe on 500 CIFAR-10 images, chosen by the engine and by the exact
   mode (`vecaf_lib.selection.ods`), paired by seed, with losses and without.

``--quick``: the dense iterations are 10, scaled to 300, and their objective is the exact mode's,
which takes the same steps with gradients written out, with nearest centroids looked up at every
tenth (an objective within 0.1 % of looking at every step); the third row is of one seed and 10,000
images. Without it the table is kept in ``reports/performance``.
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from cifar_embeddings import embeddings
from sklearn.linear_model import LogisticRegression
from torch import Tensor
from torch.nn.functional import normalize

from vecaf_lib.errors import BadInput
from vecaf_lib.evaluation import linear_probe_losses
from vecaf_lib.large_pool import select
from vecaf_lib.objective import loss_distribution
from vecaf_lib.seeding import generator
from vecaf_lib.selection import Pool, ods
from vecaf_lib.selection.descent import start

N, D, K, TAU, STEPS = 50_000, 384, 500, 0.07, 300
CLUSTERS, NOISE = 100, 0.8
SEEDS = 3
PLACE = Path("reports/performance/engine.csv")


def clustered(n: int, d: int, clusters: int, noise: float = NOISE) -> tuple[Tensor, Tensor]:
    """Unit vectors around random centres of unequal weight, and exponential losses."""
    g = torch.Generator().manual_seed(0)
    centres = normalize(torch.randn(clusters, d, generator=g), dim=1)
    weights = torch.rand(clusters, generator=g).square() + 0.05
    own = torch.multinomial(weights, n, replacement=True, generator=g)
    e = torch.randn(n, d, generator=g).mul_(noise / d**0.5).add_(centres[own])
    return normalize(e, dim=1), -torch.rand(n, generator=g).clamp_min(1e-6).log()


def value(e: Tensor, p: Tensor, theta: Tensor) -> Tensor:
    """Equation 7, dense: the N x K matrix and its graph in memory."""
    unit = normalize(theta, dim=1)
    pull = (p * (e @ unit.T).max(1).values).sum() / TAU
    between = unit @ unit.T / TAU
    off = between - torch.diag(torch.full((len(unit),), torch.inf))
    return off.logsumexp(1).mean() - pull


def dense(e: Tensor, losses: Tensor, steps: int) -> tuple[Tensor, float, float]:
    """Autograd, Adam, a full sort for each centroid; chosen, seconds of steps and of the sort."""
    p = loss_distribution(losses, 1.0)
    theta = e[start(len(e), K, generator=generator(0))].requires_grad_()
    adam = torch.optim.Adam([theta], lr=1e-3)
    begun = time.perf_counter()
    for _ in range(steps):
        adam.zero_grad()
        value(e, p, theta).backward()
        adam.step()
    stepped = time.perf_counter()
    with torch.no_grad():
        order = (normalize(theta, dim=1) @ e.T).argsort(1, descending=True)
    taken: set[int] = set()
    for row in order.numpy():
        taken.add(next(int(i) for i in row if int(i) not in taken))
    return theta.detach(), stepped - begun, time.perf_counter() - stepped


def exact(e: Tensor, losses: Tensor, seed: int, reassign_every: int = 1) -> tuple[Tensor, float]:
    """The package's exact mode, as ActiveFT and the paper have it: 300 steps at 1e-3."""
    record: dict[str, float] = {}
    chosen = ods.select(
        Pool(len(e), embeddings=e, losses=losses),
        K,
        generator=generator(seed),
        record=record,
        iterations=STEPS,
        learning_rate=1e-3,
        reassign_every=reassign_every,
        tolerance=0.0,
        ensemble=1,
    )
    return chosen, record["objective"]


def rows_1(quick: bool) -> list[dict[str, object]]:
    """Time and objective."""
    e, losses = clustered(N, D, CLUSTERS)
    p = loss_distribution(losses, 1.0)
    steps = 10 if quick else STEPS
    theta, stepping, sorting = dense(e, losses, steps)
    slow = stepping * STEPS / steps + sorting
    reached = exact(e, losses, 0, 10)[1] if quick else float(value(e, p, theta))
    select(e[:5000], 50, losses[:5000])  # warm
    record: dict[str, Tensor] = {}
    begun = time.perf_counter()
    select(e, K, losses, generator=generator(0), record=record)
    fast = time.perf_counter() - begun
    ours = float(value(e, p, torch.from_numpy(record["centroids"])))
    gap = 100 * (ours - reached) / abs(reached)
    told = f"{slow:.0f} s / {fast:.2f} s; objective {reached:.4f} / {ours:.4f} ({gap:+.2f} %)"
    return [_row("time, dense / engine", slow / fast, "at least 20", told)]


def rows_2() -> list[dict[str, object]]:
    """Peak memory above the embeddings."""
    found = {}
    for way in ("dense", "engine"):
        command = [sys.executable, __file__, "--memory", way]
        told = subprocess.run(command, check=True, capture_output=True, text=True)
        found[way] = float(told.stdout.split()[-1])
    told = f"{found['dense']:.0f} MiB / {found['engine']:.0f} MiB"
    return [
        _row("peak memory, dense / engine", found["dense"] / found["engine"], "at least 10", told)
    ]


def memory(way: str) -> None:
    """Print the MiB that one way needs above embeddings that lie in memory."""
    e, losses = clustered(N, D, CLUSTERS)
    select(e[:2000], 20, losses[:2000], iterations=2)  # libraries' own buffers
    dense(e[:2000], losses[:2000], 1)
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts here
    before = _peak()
    dense(e, losses, 2) if way == "dense" else select(e, K, losses)
    print(_peak() - before)


def rows_3(quick: bool) -> list[dict[str, object]]:
    """Downstream accuracy on real embeddings."""
    try:
        data = embeddings()
    except BadInput as error:
        return [{"measure": "accuracy, engine - exact", "detail": str(error)}]
    size = 10_000 if quick else len(data["train"])
    pixels, labels = data["train"][:size], data["train_labels"][:size]
    e = normalize(torch.from_numpy(pixels), dim=1)
    hard = linear_probe_losses(e, torch.from_numpy(labels), classes=10)
    rows = []
    for name, losses in (("with losses", hard), ("without", torch.ones(size))):
        accuracies: dict[str, list[float]] = {"engine": [], "exact": [], "random": []}
        for seed in range(1 if quick else SEEDS):
            sets = {
                "engine": select(e, K, losses, generator=generator(seed)),
                "exact": exact(e, losses, seed)[0].numpy(),
                "random": torch.randperm(size, generator=generator(seed))[:K].numpy(),
            }
            for way, chosen in sets.items():
                probe = LogisticRegression(max_iter=2000).fit(pixels[chosen], labels[chosen])
                accuracies[way].append(100 * probe.score(data["test"], data["test_labels"]))
        difference = np.subtract(accuracies["engine"], accuracies["exact"])
        n = len(difference)
        error = difference.std(ddof=1) / n**0.5 if n > 1 else float("nan")
        told = f"SE {error:.2f}; " + ", ".join(
            f"{way} {np.mean(found):.2f} %" for way, found in accuracies.items()
        )
        measure = f"CIFAR-10 accuracy {name}, engine - exact, n = {n}"
        rows.append(_row(measure, difference.mean(), "at least −SE", told))
    return rows


def _row(measure: str, ratio: float, goal: str, detail: str) -> dict[str, object]:
    return {"measure": measure, "found": round(ratio, 2), "goal": goal, "detail": detail}


def _peak() -> float:
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def main() -> None:
    """Print the table."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--quick", action="store_true")
    arguments.add_argument("--memory", choices=("dense", "engine"))
    given = arguments.parse_args()
    if given.memory:
        memory(given.memory)
        return
    table = pd.DataFrame(rows_1(given.quick) + rows_2() + rows_3(given.quick))
    print(f"N {N:,}, d {D}, K {K}; {torch.get_num_threads()} threads")
    print(table.to_string(index=False))
    if not given.quick:
        PLACE.parent.mkdir(parents=True, exist_ok=True)
        table.to_csv(PLACE, index=False)


if __name__ == "__main__":
    main()
