"""Figure 6: a map of the pool's embeddings with what ActiveFT and VeCAF chose."""

import random
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib
import numpy as np
import seaborn as sns
import torch
from jaxtyping import Float, Int64
from matplotlib.figure import Figure
from scipy import stats
from torch import Tensor

from vecaf_lib.errors import BadInput
from vecaf_lib.report.figures import STYLE
from vecaf_lib.report.names import percent
from vecaf_lib.report.stats import verdict

BACKGROUND = 20_000  # points at most, evenly spaced; the chosen are always drawn
NEIGHBOURS, MIN_DISTANCE = 15, 0.1
LOOKS: dict[
    str, dict[str, Any]
] = {  # the paper's colours; shapes of their own, so that it is readable in grey
    "both": {"marker": "o", "color": "black", "s": 16, "edgecolors": "white"},
    "VeCAF only": {"marker": "*", "color": "#d62728", "s": 70, "edgecolors": "black"},
    "ActiveFT only": {"marker": "^", "color": "#1f5fd0", "s": 28, "edgecolors": "white"},
}


def umap_points(embeddings: Float[Tensor, "n d"], *, seed: int) -> Float[np.ndarray, "n 2"]:
    """Two coordinates a sample by UMAP (McInnes et al., 2018); the same for the same seed.

    Cosine distance, 15 neighbours, least distance 0.1, one thread. The global random states are
    as before when it returns.

    Args:
        embeddings: of the pool, from the pretrained model.
        seed: of the layout.

    Raises:
        BadInput: no more samples than neighbours.
    """
    if len(embeddings) <= NEIGHBOURS:
        raise BadInput(
            f"embeddings: a map needs more than {NEIGHBOURS} samples, not {len(embeddings)}."
        )
    with _global_random_states_kept(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of numba and of its own, none about the result
        from umap import UMAP  # takes seconds, and draws while it is imported

        layout = UMAP(
            n_neighbors=NEIGHBOURS,
            min_dist=MIN_DISTANCE,
            metric="cosine",
            random_state=seed,
            n_jobs=1,
        )
        return np.asarray(layout.fit_transform(embeddings.float().numpy()))


def figure_6(
    points: Float[np.ndarray, "n 2"],
    labels: Int64[Tensor, " n"],
    *,
    activeft: set[int],
    vecaf: set[int],
) -> Figure:
    """The pool as pale dots, a colour a class; chosen samples by who chose them.

    Above 20,000 samples the background is every so-many-th sample; all chosen ones are drawn.

    Args:
        points: from :func:`umap_points`.
        labels: class indices.
        activeft: positions in the pool that ActiveFT chose.
        vecaf: positions that VeCAF chose.

    Raises:
        BadInput: a position outside the pool.
    """
    outside = [at for at in activeft | vecaf if not 0 <= at < len(points)]
    if outside:
        raise BadInput(f"Figure 6 has {len(points)} points, but sample {outside[0]} was chosen.")
    shown = min(len(points), BACKGROUND)
    at = np.arange(shown) * len(points) // shown
    kinds = labels.numpy()
    palette = np.array(sns.husl_palette(int(kinds.max()) + 1, l=0.82, s=0.7))
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(6.8, 5.2))
        axes = figure.add_subplot()
        x, y = points[at].T
        axes.scatter(x, y, s=4, c=palette[kinds[at]], linewidths=0, zorder=1, label="pool")
        groups = {"both": activeft & vecaf, "VeCAF only": vecaf - activeft}
        groups["ActiveFT only"] = activeft - vecaf
        for name, members in groups.items():
            x, y = points[sorted(members)].T
            label = f"{name} ({len(members)})"
            axes.scatter(x, y, linewidths=0.4, zorder=2, label=label, **LOOKS[name])
        axes.set(xticks=[], yticks=[], xlabel="UMAP 1", ylabel="UMAP 2")
        handles, names = axes.get_legend_handles_labels()
        axes.legend(handles[1:], names[1:], loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def caption_6(
    margins: Float[np.ndarray, " n"],
    *,
    activeft: set[int],
    vecaf: set[int],
    ratio: float,
    loop: int,
    seed: int,
) -> str:
    """Caption of figure 6, with who lies nearer to the boundaries, measured.

    Args:
        margins: of the pool, from ``margins(out_of_fold(...))`` in
            :mod:`vecaf_lib.report.out_of_fold`.
        activeft: as drawn.
        vecaf: as drawn.
        ratio: percent of the pool.
        loop: counted from 1.
        seed: of the two runs.
    """
    text = (
        "UMAP of the pool's embeddings under the pretrained model; pale colours are classes. "
        f"Chosen in loop {loop} at {percent(ratio)} (seed {seed}): {len(activeft & vecaf)} by both "
        f"(black dots), {len(vecaf - activeft)} by VeCAF only (red stars), "
        f"{len(activeft - vecaf)} by ActiveFT only (blue triangles). Distances on the map are not "
        "distances of the embeddings, so nearness to a boundary is measured apart: as the margin, "
        "the probability of the likeliest class minus that of the next, out of fold, in logistic "
        "regression on the same embeddings."
    )
    return f"{text} {_nearer(margins, sorted(vecaf - activeft), sorted(activeft - vecaf))}"


def _nearer(margins: Float[np.ndarray, " n"], vecaf: list[int], activeft: list[int]) -> str:
    """The difference of the mean margins with Welch's 95 % interval over images."""
    if min(len(vecaf), len(activeft)) < 2:
        return "Too few images were chosen by only one of the two to compare their margins."
    one, other = margins[vecaf], margins[activeft]
    means = (
        f"Mean margin: VeCAF only {one.mean():.3f}, ActiveFT only {other.mean():.3f}, whole pool "
        f"{margins.mean():.3f}"
    )
    told = stats.ttest_ind(one, other, equal_var=False).confidence_interval()
    said = {
        "lower": "those of VeCAF lie nearer to the boundaries, as the paper says",
        "higher": "those of VeCAF lie farther from the boundaries, against what the paper says",
        "undecided": "which lie nearer to the boundaries cannot be told",
    }[verdict(told.low, told.high)]
    low, high = (f"{end:+.3f}".replace("-", "−") for end in told)
    return f"{means}; difference [{low}, {high}] (95 %, Welch, over images of one seed): {said}."


@contextmanager
def _global_random_states_kept() -> Iterator[None]:
    """Give Python's and numpy's and torch's global random states back as they were."""
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002 (kept, not used)
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002
