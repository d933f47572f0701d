"""How fast and how well K rows of a pool are chosen: ours beside what people use.

``python benchmarks/selection.py`` measures what is not there yet, one way on one pool in a process
of its own, and writes each selection at once as a line of ``selection.jsonl``. From these come
``selection.csv``, ``selection.png`` and the tables of ``docs/SELECTION.md``. Lines of another
machine (``--out FOLDER``) count as soon as they are in that file; ``--show`` measures nothing.
Lines of the same commit, processor and device are not measured again.

Pools have unit rows of 384 numbers: clusters of uneven sizes, and the training images of
Caltech-101 and CIFAR-10 (``VECAF_CALTECH101``, ``VECAF_CIFAR10``) as EfficientNet-Lite0 sees them
at 128 px. Measured: wall and CPU seconds after a small selection that warms up; peak memory above
the pool; coverage, the mean cosine of a row to its nearest chosen one; equation 7 at the chosen
rows, p uniform (both on 100,000 rows of a larger pool); accuracy of logistic regression on the
chosen, five seeds. One pass is the longer of N x K x d products in float32 and of reading the pool,
at the rates of the same process: what compares all rows with all centres cannot take less.
"""

import argparse
import contextlib
import ctypes
import datetime
import importlib.metadata
import itertools
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn.functional import normalize

from vecaf_lib.errors import BadInput
from vecaf_lib.large_pool import select
from vecaf_lib.seeding import generator
from vecaf_lib.selection import Pool, descent, load

ROOT = Path(__file__).resolve().parents[1]
OUT, CACHE = ROOT / "reports/performance", ROOT / "data/generated/benchmarks"
DOCS, BEGIN, END = ROOT / "docs/SELECTION.md", "<!-- measured -->", "<!-- end -->"
D, PX, TAU, NOISE, STEPS, SEEDS = 384, 128, 0.07, 0.8, 300, 5
POOLS = {"clustered-5000": 50, "caltech101": 304, "cifar10": 500, "clustered-50000": 500}
POOLS |= {"clustered-1281167": 12_811}  # name -> K
QUICK = {"clustered-50000": 500, "digits": 50}
FEATURES = ("avx2", "avx512f", "avx_vnni", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16")
CORES = len(os.sched_getaffinity(0))
CELL = ["processor", "device", "pool", "threads", "way"]
MEASURES = ["coverage", "objective", "accuracy"]
COLUMNS = [
    *CELL, "n", "k", "product", "seeds", "seconds", "cpu_seconds", "peak_mib", *MEASURES,
    "standard_error", "pass_seconds", "passes", "faiss_over_this", "note", "version", "torch",
    "features", "cores", "load", "commit", "date",
]  # fmt: skip

SHOWN = {
    "seconds": "{:.3g} s", "faiss_over_this": " ({:.2g} x)", "coverage": " · {:.3f}",
    "peak_mib": " · {:,.0f} MiB", "accuracy": " · {:.1f}", "standard_error": " ± {:.1f} %",
    "note": " {}",
}  # fmt: skip


@dataclass(frozen=True)
class Task:
    """A selection: K of the unit rows x (N x d), and what is known of the labels, if anything."""

    x: np.ndarray
    k: int
    labels: np.ndarray | None = None  # of the rows
    test: tuple[np.ndarray, np.ndarray] | None = None  # other rows and their labels
    seed: int = 0
    device: str = "cpu"
    steps: int = STEPS  # of the dense descent
    record: dict[str, Any] = field(default_factory=dict)

    @property
    def rows(self) -> Tensor:
        """The pool, not copied."""
        return torch.from_numpy(self.x)


def at_random(task: Task) -> Any:
    """K rows at random."""
    return torch.randperm(len(task.x), generator=generator(task.seed))[: task.k]


def engine(task: Task, losses: Tensor | None = None, **options: Any) -> Any:
    """Our engine, with its own settings but for ``options``."""
    options |= {"generator": generator(task.seed), "device": task.device, "record": task.record}
    return select(task.x, task.k, losses, **options)


def by_losses(task: Task) -> Any:
    """Our engine, pulled by the losses of a linear probe on all labels."""
    from vecaf_lib.evaluation import linear_probe_losses

    labels = torch.from_numpy(task.labels)
    return engine(task, losses=linear_probe_losses(task.rows, labels, classes=1 + labels.max()))


def selector(task: Task, name: str) -> Any:
    """One of our methods of selection by its name."""
    labels = None if task.labels is None else torch.from_numpy(task.labels)
    pool = Pool(len(task.x), embeddings=task.rows, all_labels=labels)
    return load(name).select(pool, task.k, generator=generator(task.seed))


def faiss_kmeans(task: Task) -> np.ndarray:
    """faiss, spherical, 25 iterations over all rows."""
    import faiss

    all_rows = {"min_points_per_centroid": 1, "max_points_per_centroid": len(task.x)}
    own = {"niter": 25, "spherical": True, "seed": task.seed, **all_rows}
    kmeans = faiss.Kmeans(task.x.shape[1], task.k, **own)
    kmeans.train(task.x)
    return representatives(task.x, kmeans.centroids)


def minibatch(task: Task) -> np.ndarray:
    """scikit-learn's MiniBatchKMeans with its own settings."""
    from sklearn.cluster import MiniBatchKMeans

    fitted = MiniBatchKMeans(task.k, random_state=task.seed).fit(task.x)
    return representatives(task.x, fitted.cluster_centers_)


def mundig(task: Task) -> Any:
    """Lightly's selection for diversity."""
    from lightly_mundig import Selection

    selection = Selection()
    selection.add_diversifying_strategy(task.x, 1.0)
    return selection.run_selection([], len(task.x), task.k)


def activeml(task: Task, name: str) -> np.ndarray:
    """A query strategy of scikit-activeml on a pool without labels."""
    import skactiveml.pool

    strategy = getattr(skactiveml.pool, name)(random_state=task.seed)
    return strategy.query(task.x, np.full(len(task.x), np.nan), batch_size=task.k)


def dense(task: Task) -> np.ndarray:
    """Equation 7, lambda 1, by autograd and Adam: the N x K matrix and its graph in memory."""
    x = task.rows
    theta = x[descent.start(len(x), task.k, generator=generator(task.seed))].requires_grad_()
    adam = torch.optim.Adam([theta], lr=1e-3)
    for _ in range(task.steps):
        adam.zero_grad()
        unit = normalize(theta, dim=1)
        pull = (x @ unit.T).max(1).values.mean() / TAU
        others = (unit @ unit.T / TAU).fill_diagonal_(-torch.inf)
        (others.logsumexp(1).mean() - pull).backward()
        adam.step()
    return representatives(task.x, theta.detach().numpy())


def representatives(x: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Each centre, in order, takes its nearest row that none has taken."""
    free, chosen = np.ones(len(x), bool), []
    for part in np.split(centres, range(64, len(centres), 64)):
        for cosines in part @ x.T:  # (n,)
            chosen.append(int(np.where(free, cosines, -np.inf).argmax()))
            free[chosen[-1]] = False
    return np.array(chosen)


class Way(NamedTuple):
    """A way to choose: its name in tables, what does it, the package that it comes from if any."""

    label: str
    choose: Callable[[Task], Any]
    package: str = ""


WAYS = {
    "random": Way("random", at_random),
    "kmeans": Way("ours, k-means", partial(engine, objective="kmeans")),
    "kmeans-float32": Way(  # as where a processor has no fast int8
        "ours, k-means in float32", partial(engine, objective="kmeans", product="float32")
    ),
    "activeft": Way("ours, ActiveFT", partial(engine, objective="activeft")),
    "ods": Way("ours, ODS", engine),
    "faiss": Way("faiss k-means", faiss_kmeans, "faiss-cpu"),
    "minibatch": Way("MiniBatchKMeans", minibatch, "scikit-learn"),
    "mundig": Way("lightly-mundig", mundig, "lightly-mundig"),
    "activeml-coreset": Way(
        "activeml CoreSet", partial(activeml, name="CoreSet"), "scikit-activeml"
    ),
    "coreset": Way("ours, CoreSet", partial(selector, name="coreset")),
    "activeml-typiclust": Way(
        "activeml TypiClust", partial(activeml, name="TypiClust"), "scikit-activeml"
    ),
    "typiclust": Way("ours, TypiClust", partial(selector, name="typiclust")),
    "maxherding": Way("ours, MaxHerding", partial(selector, name="maxherding")),
    "dense": Way("equation 7 by autograd", dense, "torch"),
    "losses": Way("ours, ODS by losses", by_losses),
    "class-herding": Way("ours, class-quota herding", partial(selector, name="class_herding")),
}
QUICK_WAYS = ("random", "kmeans", "activeft", "ods", "faiss", "minibatch", "dense")
ON_DEVICE = ("kmeans", "kmeans-float32", "activeft", "ods", "losses")  # our engine's
SEE_LABELS = ("losses", "class-herding")


def clustered(n: int, d: int, clusters: int, noise: float = NOISE) -> np.ndarray:
    """Unit rows (n x d) around random centres of unequal weight."""
    g = torch.Generator().manual_seed(0)
    centres = normalize(torch.randn(clusters, d, generator=g), dim=1)
    own = torch.rand(clusters, generator=g).square().add(0.05).multinomial(n, True, generator=g)
    pool = np.empty((n, d), np.float32)
    for at in range(0, n, 20_000):
        mine = centres[own[at : at + 20_000]]
        rows = torch.randn(mine.shape, generator=g).mul_(noise / d**0.5).add_(mine)
        pool[at : at + len(rows)] = normalize(rows, dim=1).numpy()
    return pool


def images(name: str) -> dict[str, np.ndarray]:
    """Principal components of embeddings, and labels, of ``train`` and ``test``; made once."""
    path = CACHE / f"{name}-{PX}.npz"
    if not path.exists():
        from sklearn.decomposition import PCA

        import vecaf_lib.models  # noqa: F401 (timm can be imported after it)
        from vecaf_lib.data.load import load_lazily
        from vecaf_lib.evaluation import embed_pool
        from vecaf_lib.models.vision import PVM, load_backbone

        backbone = load_backbone("tf_efficientnet_lite0", weights="package")
        pvm, wide, parts = PVM(backbone, 2, generator=generator(0)), {}, {}
        for split in ("train", "test"):
            data = load_lazily(name, split, image_size=PX, data=ROOT / "data")
            wide[split] = embed_pool(pvm, data.images)[0].numpy()
            parts[f"{split}_labels"] = data.labels.numpy()
        pca = PCA(D, random_state=0).fit(wide["train"])
        parts |= {split: pca.transform(e).astype(np.float16) for split, e in wide.items()}
        CACHE.mkdir(parents=True, exist_ok=True)
        np.savez(path, **parts)
    return dict(np.load(path))


def task_of(cell: Mapping[str, Any]) -> Task:
    """The selection that a cell stands for."""
    more = {"device": cell["on"], "steps": cell["steps"]}
    name, _, size = cell["pool"].partition("-")
    if name == "clustered":
        return Task(clustered(int(size), D, cell["k"] // 5), cell["k"], **more)
    data = images(name)
    train, test = (
        normalize(torch.from_numpy(data[split]).float(), dim=1).numpy()
        for split in ("train", "test")
    )
    return Task(train, cell["k"], data["train_labels"], (test, data["test_labels"]), **more)


def scores(task: Task, chosen: np.ndarray) -> dict[str, float]:
    """Coverage, equation 7 and, where there are labels, accuracy on other images in percent."""
    sample = task.rows[:: -(-len(task.x) // 100_000)]
    theta = task.rows[torch.from_numpy(chosen)]
    coverage = float(descent.nearest(sample, theta)[0].double().mean())
    crowding = []
    for part in torch.arange(task.k).split(1024):
        between = theta[part] @ theta.T / TAU  # (1024, k)
        between[torch.arange(len(part)), part] = -torch.inf
        crowding.append(between.logsumexp(1).double())
    found = {"coverage": coverage, "objective": float(torch.cat(crowding).mean()) - coverage / TAU}
    if task.test:
        from sklearn.linear_model import LogisticRegression

        # rows of length 30, and 1e-4 as the weight of the squared norm beside the mean loss
        probe = LogisticRegression(C=1e4 / task.k, max_iter=2000)
        probe.fit(30 * task.x[chosen], task.labels[chosen])
        found["accuracy"] = 100 * float(probe.score(30 * task.test[0], task.test[1]))
    return found


def one_pass(n: int, k: int, d: int) -> float:
    """Seconds of N x K x d products, or of reading N x d floats if that is longer."""
    a, b, long, rates = torch.ones(4096, d), torch.ones(d, 1024), torch.ones(2**26), []
    for work, amount in ((lambda: a @ b, 4096 * 1024 * d), (long.sum, len(long))):
        work()
        begun = time.perf_counter()
        for _ in range(5):
            work()
        rates.append(5 * amount / (time.perf_counter() - begun))
    return max(n * k * d / rates[0], n * d / rates[1])


def memory(kind: str) -> float:
    """MiB that this process holds (``VmRSS``) or has held at most (``VmHWM``)."""
    status = Path("/proc/self/status").read_text()
    return int(status.split(f"{kind}:")[1].split()[0]) / 1024


def measure(cell: Mapping[str, Any]) -> None:
    """One way on one pool in this process, a line of results for each seed.

    A selection that takes longer than the cell's limit ends the process by SIGALRM; one that asks
    for more than half of the machine's memory does not get it.
    """
    warnings.simplefilter("ignore")
    half = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    resource.setrlimit(resource.RLIMIT_DATA, (half, half))
    torch.set_num_threads(cell["threads"])
    choose, whole = WAYS[cell["way"]].choose, task_of(cell)
    n, d = whole.x.shape
    labels = None if whole.labels is None else whole.labels[:2000]
    choose(replace(whole, x=whole.x[:2000], k=20, labels=labels, record={}))  # warms up
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)  # what the small one has left would serve the large one
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts here
    before, scale = memory("VmRSS"), STEPS / cell["steps"] if cell["way"] == "dense" else 1
    for number, seed in enumerate(cell["seeds"]):
        task = replace(whole, seed=seed, record={})
        signal.setitimer(signal.ITIMER_REAL, cell["limit"])
        wall, cpu = time.perf_counter(), time.process_time()
        chosen = np.asarray(choose(task))
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        signal.setitimer(signal.ITIMER_REAL, 0)
        line = {"seed": seed, "seconds": wall * scale, "cpu_seconds": cpu * scale, "n": n}
        line["product"] = task.record.get("product", "")
        if not number:  # later ones find memory that the first has left
            on_gpu, peak = cell["on"] != "cpu", max(0.0, memory("VmHWM") - before)
            line["peak_mib"] = torch.cuda.max_memory_allocated() / 2**20 if on_gpu else peak
            line["pass_seconds"] = one_pass(n, task.k, d)
        assert len(set(chosen.tolist())) == task.k, "a row is chosen twice"
        torch.set_num_threads(CORES)
        line |= {"note": f"{cell['steps']} steps, scaled"} if scale > 1 else scores(task, chosen)
        torch.set_num_threads(cell["threads"])
        print(json.dumps(line), flush=True)


def watch(cell: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The lines of another process that measures, as they come; the last may say why it ended."""
    names = ("OMP", "MKL", "OPENBLAS", "RAYON")
    env = os.environ | {f"{name}_NUM_THREADS": str(cell["threads"]) for name in names}
    command, left = [sys.executable, __file__, "--one", json.dumps(cell)], list(cell["seeds"])
    with (
        tempfile.TemporaryFile("w+") as errors,
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=errors, env=env, text=True
        ) as child,
    ):
        for line in child.stdout:
            yield {"seed": left.pop(0)} | json.loads(line)
        if child.wait() == -signal.SIGALRM:
            yield {"seed": left[0], "note": f"over {cell['limit']:g} s", "limit": cell["limit"]}
        elif left:
            errors.seek(0)
            why = [f"ended with {child.returncode}", *errors.read().strip().splitlines()]
            yield {"seed": left[0], "note": why[-1].strip()}


def machine() -> dict[str, Any]:
    """The processor, its features and load, and the commit: the same in all lines of a run."""
    told = Path("/proc/cpuinfo").read_text().partition("\n\n")[0].splitlines()  # the first core's
    told = dict(map(str.strip, line.split(":", 1)) for line in told)
    return {
        "processor": "{model name}, family {cpu family}, model {model}".format_map(told),
        "features": " ".join(x for x in FEATURES if x in told["flags"].split()),
        "cores": CORES,
        "load": round(os.getloadavg()[0], 2),
        "torch": torch.__version__,
        "commit": git("log", "-1", "--format=%h") + "-changed" * bool(git("status", "--porcelain")),
        "date": datetime.date.today().isoformat(),
    }


def git(*words: str) -> str:
    """What git says of the files that the seconds depend on; nothing where there is none."""
    command = ["git", *words, "--", "vecaf_lib", "benchmarks/selection.py"]
    with contextlib.suppress(OSError):
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout.strip()
    return ""


def cells(given: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """What is to be measured, in order: all threads first, which tell whether one is worth it."""
    threads = given.threads or ([CORES] if given.quick else sorted({CORES, 1}, reverse=True))
    ways = given.ways or (QUICK_WAYS if given.quick else WAYS)
    pools = given.pools or (QUICK if given.quick else POOLS)
    for pool, count, way in itertools.product(pools, threads, ways):
        on = given.device if way in ON_DEVICE else "cpu"
        real, first = not pool.startswith("clustered"), count == threads[0]
        if (real or way not in SEE_LABELS) and (first or on == "cpu"):
            cell = {"pool": pool, "k": {**POOLS, **QUICK}[pool], "threads": count, "way": way}
            cell["seeds"] = list(range(SEEDS if real and first else 1))
            cell["limit"] = given.limit or (900 if cell["k"] > 10_000 else 300)
            yield cell | {"on": on, "steps": 10 if given.quick else STEPS}


@cache
def absent(package: str, pool: str) -> str:
    """Why a way or a pool is not at hand; empty where both are."""
    try:
        importlib.metadata.version(package or "torch")
        if not pool.startswith("clustered"):
            images(pool)
    except importlib.metadata.PackageNotFoundError:
        return f"{package} is not installed"
    except BadInput as error:
        return str(error)
    return ""


def run(given: argparse.Namespace) -> None:
    """Measure what is not there yet; each line is kept and printed at once."""
    here, path = machine(), given.out / "selection.jsonl"
    print(*(f"{name}: {value}" for name, value in here.items()), sep="\n", flush=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    stops: dict[tuple[str, str], str] = {}  # pool and way -> what all threads were not enough for
    for cell in cells(given):
        package, at = WAYS[cell["way"]].package, (cell["pool"], cell["way"])
        own = here | {name: cell[name] for name in ("pool", "k", "threads", "way")}
        own["device"] = "cpu" if cell["on"] == "cpu" else torch.cuda.get_device_name()
        done = [x for x in lines_of(path) if all(x[n] == own[n] for n in (*CELL, "commit"))]
        done = [] if own["commit"].endswith("-changed") else done
        seeds = sorted({*cell["seeds"]} - {line["seed"] for line in done if "seconds" in line})
        if over := [line["note"] for line in done if line.get("limit", 0) >= cell["limit"]]:
            stops[at] = over[-1]
        if over or not seeds:
            continue
        if why := absent(package, cell["pool"]) or stops.get(at):
            new = iter([{"seed": seeds[0], "note": why}])
        else:
            own["version"] = importlib.metadata.version(package) if package else ""
            new = watch(cell | {"seeds": seeds})
        for line in new:
            with path.open("a") as file:
                file.write(json.dumps(own | line) + "\n")
            if "limit" in line:
                stops[at] = line["note"]
            place = f"{cell['pool']}, threads {cell['threads']}, {cell['way']}, seed {line['seed']}"
            print(f"{place}: {told(own | line)}", flush=True)


def lines_of(path: Path) -> list[dict[str, Any]]:
    """What was measured so far."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def summary(lines: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """A row a cell, of its latest commit: medians of seconds over seeds, means of ``MEASURES``."""
    frame = pd.DataFrame(lines).drop_duplicates([*CELL, "commit", "seed"], keep="last")
    frame = frame[frame["commit"] == frame.groupby(CELL)["commit"].transform("last")]
    frame = frame.reindex(columns=list(dict.fromkeys([*frame, *COLUMNS])))
    groups = frame.groupby(CELL, sort=False)
    table = groups[[name for name in COLUMNS if name not in CELL]].first()
    table[["seconds", "cpu_seconds"]] = groups[["seconds", "cpu_seconds"]].median()
    table[MEASURES] = groups[MEASURES].mean()
    table["standard_error"], table["seeds"] = groups["accuracy"].sem(), groups["seconds"].count()
    table["passes"] = table["seconds"] / table["pass_seconds"]
    table = table.reset_index().astype({"n": "Int64"})
    beside = ["processor", "pool", "threads"]
    faiss = table[table["way"] == "faiss"].set_index(beside)["seconds"].rename("faiss")
    ratio = table.join(faiss, beside)["faiss"] / table["seconds"]
    table["faiss_over_this"] = ratio.mask(table["way"] == "random")
    for name, order in (("pool", [*POOLS, "digits"]), ("way", WAYS)):
        table[name] = pd.Categorical(table[name], list(order))
    order = {"processor": True, "threads": False, "device": True, "pool": True, "way": True}
    return table.sort_values(list(order), ascending=list(order.values()))[COLUMNS]


def pools_of(table: pd.DataFrame) -> dict[str, tuple[str, pd.DataFrame]]:
    """Each pool's title with N and K, and its rows."""
    return {
        pool: (f"{pool.partition('-')[0]}, N {some['n'].max():,.0f}, K {some['k'].max():,}", some)
        for pool, some in table.groupby("pool", observed=True)
    }


def text(table: pd.DataFrame) -> str:
    """A table of all ways, of the first processor with all threads; of others ours and faiss."""
    parts, titles = [], {pool: title for pool, (title, _) in pools_of(table).items()}
    for _, own in table.groupby(["processor", "threads"], sort=False):
        told_of = {**own.iloc[0], "commit": ", ".join(own["commit"].unique())}
        parts.append(
            "{processor} ({features}), {threads} of {cores} cores, load {load} at the start, torch "
            "{torch}, commit {commit}, {date}:".format_map(told_of)
        )
        rows = [["", *titles.values()], ["---"] * (1 + len(titles))]
        for (way, device), some in own.groupby(["way", "device"], observed=True):
            if len(parts) == 1 or way in ("kmeans", "kmeans-float32", "faiss"):
                label = WAYS[way].label + ", sees all labels" * (way in SEE_LABELS)
                cells = {line["pool"]: told(line) for _, line in some.iterrows()}
                rows.append([label + f", {device}" * (device != "cpu")])
                rows[-1] += [cells.get(pool, "") for pool in titles]
        parts.append("\n".join(f"| {' | '.join(row)} |" for row in rows))
    return "\n\n".join(parts)


def told(line: Mapping[str, Any]) -> str:
    """What a cell shows."""
    known = {name: line[name] for name in SHOWN if name in line and pd.notna(line[name])}
    return "".join(SHOWN[name].format(value) for name, value in known.items()).strip()


def draw(table: pd.DataFrame, path: Path) -> None:
    """Seconds against coverage, a panel a pool, with all threads of the first processor."""
    import matplotlib.pyplot as plt
    from matplotlib.ticker import FuncFormatter, NullFormatter

    own = table[(table["processor"] == table["processor"].iloc[0]) & (table["device"] == "cpu")]
    own = own[own["threads"] == own["threads"].max()].dropna(subset="coverage")
    pools = pools_of(own.sort_values("coverage", ascending=False)).values()
    with plt.style.context(ROOT / "notebooks/figures.mplstyle"):
        down = -(-len(pools) // 2)
        figure, axes = plt.subplots(down, 2, figsize=(8.4, 3.6 * down), squeeze=False)
        for panel in axes.flat[len(pools) :]:
            panel.set_axis_off()
        for panel, (title, some) in zip(axes.flat, pools, strict=False):
            panel.set(title=title, xscale="log", xlabel="seconds", ylabel="coverage")
            panel.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))  # no formula
            panel.xaxis.set_minor_formatter(NullFormatter())
            panel.margins(0.35, 0.12)
            for _, line in some.iterrows():
                way, at = WAYS[line["way"]], (line["seconds"], line["coverage"])
                if line["way"] == "random":
                    panel.axhline(at[1], color="0.6", linestyle="--", linewidth=1)
                    continue
                look = {"color": "0.35" if way.package else "tab:blue"}
                panel.plot(*at, "o", **look)
                look |= {"fontsize": 7, "va": "center", "textcoords": "offset points"}
                thin = {"arrowstyle": "-", "linewidth": 0.4, "color": "0.6"}
                panel.annotate(way.label, at, (6, 0), arrowprops=thin, **look)
        figure.canvas.draw()
        for panel in axes.flat[: len(pools)]:
            place(panel)
        figure.savefig(path, dpi=150, metadata={"Software": None})
        plt.close(figure)


def place(panel: Any) -> None:
    """Move each name to the place nearest to its point that is free of points and other names."""
    from matplotlib.text import Text
    from matplotlib.transforms import Bbox

    centres = [panel.transData.transform(note.xy) for note in panel.texts]
    taken = [Bbox([centre - 5, centre + 5]) for centre in centres]
    frame = panel.get_window_extent()
    for note in panel.texts:
        for up, right in itertools.product(sorted(range(-120, 121, 3), key=abs), (6, -6)):
            note.set(position=(right, up), ha="left" if right > 0 else "right")
            box = Text.get_window_extent(note)
            inside = frame.x0 < box.x0 and box.x1 < frame.x1 and frame.y0 < box.y0
            if inside and not any(box.overlaps(other) for other in taken):
                break
        taken.append(box)


def show(out: Path) -> None:
    """Make the table, the picture and the documentation of all lines; print the last."""
    table = summary(lines_of(out / "selection.jsonl"))
    table.to_csv(out / "selection.csv", index=False, float_format="%.6g", lineterminator="\n")
    draw(table, out / "selection.png")
    print(f"\n{text(table)}")
    if out.resolve() == OUT:
        before, rest = DOCS.read_text().split(BEGIN)
        after = rest.split(END)[1]
        DOCS.write_text(f"{before}{BEGIN}\n{text(table)}\n{END}{after}")


def main() -> None:
    """Measure, and show what there is."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a part, in two minutes")
    parser.add_argument("--pools", nargs="+", choices=[*POOLS, "digits"])
    parser.add_argument("--ways", nargs="+", choices=list(WAYS))
    parser.add_argument("--threads", nargs="+", type=int)
    parser.add_argument("--limit", type=float, help="seconds a selection; else 300, at most 900")
    parser.add_argument("--device", default="cpu", help="of our engine, such as cuda")
    parser.add_argument("--out", type=Path, help="folder; else reports/performance")
    parser.add_argument("--show", action="store_true", help="measure nothing")
    parser.add_argument("--one", type=json.loads, help=argparse.SUPPRESS)
    given = parser.parse_args()
    given.out = given.out or (CACHE / "quick" if given.quick else OUT)
    if given.one:
        try:
            return measure(given.one)
        except BadInput as error:
            sys.exit(str(error))
    if given.device != "cpu" and not torch.cuda.is_available():
        parser.error("--device: torch sees no GPU; leave it out")
    if not given.show:
        run(given)
    return show(given.out)


if __name__ == "__main__":
    main()
