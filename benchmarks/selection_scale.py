"""The selection engine at the size of ImageNet, and how its time grows.

``python benchmarks/selection_scale.py [member ensemble growth]``; all three without a name. Pools:
clustered unit vectors of 768 numbers, float16, in a file that is memory-mapped. Each selection is a
process of its own; its line joins ``reports/performance/selection.jsonl`` as soon as it is there.

member    N 1,281,167, K 12,811, one member, complete: goal 10 minutes, 6 GB resident
ensemble  the same with five members, matched and corrected, in 100 steps for 150: goal 30 minutes,
          8 GB
growth    N 10,000 to 1,281,167 at K = 1 % and at K = 1,000; beside it the time of one pass of the
          N x K product at the rate measured in the same process
"""

import argparse
import datetime
import json
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch

from vecaf_lib.large_pool import select
from vecaf_lib.large_pool.products import BLOCK, code, scores
from vecaf_lib.results.compare import save

PLACE = Path("reports/performance/selection.jsonl")
N, D, CLUSTERS = 1_281_167, 768, 5_000
SIZES = (10_000, 40_000, 160_000, 640_000, N)
ENSEMBLE = 5


def write_pool(path: Path, size: int) -> None:
    """Clustered float16 embeddings and exponential losses, drawn a chunk at a time."""
    g = torch.Generator().manual_seed(0)
    centres = torch.nn.functional.normalize(torch.randn(CLUSTERS, D, generator=g), dim=1)
    weights = torch.rand(CLUSTERS, generator=g).square() + 0.05
    shape = (size, D)
    pool = np.lib.format.open_memmap(path / "e.npy", mode="w+", dtype=np.float16, shape=shape)
    for first in range(0, size, 20_000):
        own = torch.multinomial(weights, min(20_000, size - first), True, generator=g)
        rows = torch.randn(len(own), D, generator=g).mul_(D**-0.5).add_(centres[own])
        pool[first : first + len(own)] = rows.half().numpy()
    pool.flush()
    np.save(path / "losses.npy", -torch.rand(size, generator=g).clamp_min(1e-6).log().numpy())


def rate() -> float:
    """Operations per second of the engine's product, in blocks as it takes them."""
    x = torch.nn.functional.normalize(torch.randn(2048, D), dim=1)
    a, b = code(x, "int8"), code(x[:BLOCK], "int8", one_scale=True)
    scores(a, b)
    begun = time.perf_counter()
    for _ in range(30):
        scores(a, b)
    return 30 * 2 * 2048 * BLOCK * D / (time.perf_counter() - begun)


def measure(path: Path, budget: int, ensemble: int) -> dict[str, float]:
    """One selection in this process: seconds, peak resident memory, objective at its renewals."""
    e = np.load(path / "e.npy", mmap_mode="r")
    product = rate()
    record: dict[str, Any] = {}
    fewer = {"iterations": 100, "learning_rate": 4.5e-3} if ensemble > 1 else {}
    begun = time.perf_counter()
    chosen = select(
        e,
        budget,
        np.load(path / "losses.npy"),
        ensemble=ensemble,
        record=record,
        progress=True,
        **fewer,
    )
    seconds = time.perf_counter() - begun
    peak = int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 2**20
    assert len(set(chosen.tolist())) == budget
    return {
        "n": len(e),
        "d": D,
        "k": budget,
        "ensemble": ensemble,
        "steps": record["iterations"],
        "seconds": round(seconds, 2),
        "peak_gib": round(peak, 2),
        "gflops": round(product / 1e9),
        "objective_first": record["curve"][0],
        "objective_last": record["curve"][-1],
    }


def run(measurement: str, size: int, budget: int, ensemble: int = 1) -> None:
    """Make the pool, measure in another process, keep and print the line."""
    with tempfile.TemporaryDirectory(dir="data") as folder:
        write_pool(Path(folder), size)
        command = [sys.executable, __file__, "--one", folder, str(budget), str(ensemble)]
        told = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    )
    line = {
        "measurement": measurement,
        **json.loads(told.stdout.splitlines()[-1]),
        "threads": torch.get_num_threads(),
        "machine": platform.processor() or platform.machine(),
        "date": datetime.date.today().isoformat(),
        "commit": commit.stdout.strip(),
    }
    PLACE.parent.mkdir(parents=True, exist_ok=True)
    with PLACE.open("a") as file:
        file.write(json.dumps(line) + "\n")
    print(json.dumps(line), flush=True)


def show(lines: pd.DataFrame) -> None:
    """The latest line of each kind as ``scale.csv``, and the two series of growth as a figure."""
    lines = lines.drop_duplicates(["measurement", "n", "k", "ensemble"], keep="last")
    lines["one_pass_seconds"] = 2e-9 * lines["n"] * lines["k"] * lines["d"] / lines["gflops"]
    columns = ["n", "k", "ensemble", "seconds", "one_pass_seconds", "peak_gib", "commit"]
    table = lines[["measurement", *columns]].rename(columns={"ensemble": "members"})
    table = table.round({"one_pass_seconds": 2})
    table.to_csv(PLACE.with_name("scale.csv"), index=False, lineterminator="\n")
    print(table.to_string(index=False))
    plt.style.use(Path(__file__).parents[1] / "notebooks" / "figures.mplstyle")
    figure, axes = plt.subplots(1, 2, figsize=(7.6, 3.4), sharey=True)
    for panel, share in zip(axes, ("K = 1,000", "K = 1 %"), strict=True):
        kinds = [
            f"growth, {share}",
            *(["member"] if share.endswith("%") else []),
        ]  # the largest pool
        part = lines[lines["measurement"].isin(kinds)].sort_values("n")
        for column, style, name in (
            ("seconds", "o-", "selection"),
            ("one_pass_seconds", "s--", "one pass"),
        ):
            exponent = np.polyfit(np.log(part["n"]), np.log(part[column]), 1)[0]
            panel.loglog(part["n"], part[column], style, label=f"{name}, N$^{{{exponent:.2f}}}$")
        panel.set_title(share, loc="left")
        panel.set_xlabel("N, samples")
        panel.legend()
    axes[0].set_ylabel("seconds")
    save(figure, PLACE.with_name("growth"), "Seconds of a complete selection, and of one pass.")


def main() -> None:
    """Measure what is named."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("what", nargs="*", default=["member", "growth", "ensemble"])
    arguments.add_argument("--one", nargs=3, metavar=("FOLDER", "K", "E"))
    given = arguments.parse_args()
    if given.one:
        print(json.dumps(measure(Path(given.one[0]), int(given.one[1]), int(given.one[2]))))
        return
    if "member" in given.what:
        run("member", N, N // 100)
    if "growth" in given.what:
        for size in SIZES:
            run("growth, K = 1,000", size, 1000)
            if size < N or "member" not in given.what:
                run("growth, K = 1 %", size, size // 100)
    if "ensemble" in given.what:
        run("ensemble", N, N // 100, ENSEMBLE)
    show(pd.DataFrame(map(json.loads, PLACE.read_text().splitlines())))


if __name__ == "__main__":
    main()
