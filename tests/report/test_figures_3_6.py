"""Figures 3 and 6 draw what they say, and the map is the same for the same seed."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.collections import PathCollection
from matplotlib.colors import to_hex
from torch import Tensor

from vecaf_lib.errors import BadInput
from vecaf_lib.report import figure_6 as module
from vecaf_lib.report.figure_3 import caption_3, figure_3, spread
from vecaf_lib.report.figure_6 import caption_6, figure_6, umap_points
from vecaf_lib.report.figures import save

ROOT = Path(__file__).parents[2]
ACTIVEFT, VECAF = {0, 1, 2, 3, 4}, {3, 4, 5}
MAP = """
import random
import numpy as np, torch
from vecaf_lib.report.figure_6 import umap_points

def states():
    return random.getstate(), np.random.get_state()[1].tobytes(), torch.get_rng_state().tolist()

before = states()
pool = torch.eye(4)[torch.arange(20) % 4] + torch.arange(80).reshape(20, 4) % 7 / 50
first, again, other = (umap_points(pool, seed=seed) for seed in (0, 0, 1))
assert first.shape == (20, 2) and np.isfinite(first).all()
assert (first == again).all(), "another map for the same seed"
assert not (first == other).all(), "the seed is ignored"
assert states() == before, "global random states changed"
"""


def test_the_map_is_the_same_for_the_same_seed_and_leaves_random_states_alone() -> None:
    environment = os.environ | {"NUMBA_DISABLE_JIT": "1"}  # compiling takes longer than computing
    done = subprocess.run(
        [sys.executable, "-c", MAP], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def drawn(points: np.ndarray, labels: Tensor) -> dict[str, PathCollection]:
    axes = figure_6(points, labels, activeft=ACTIVEFT, vecaf=VECAF).axes[0]
    return {str(part.get_label()): part for part in axes.collections}  # type: ignore[misc]


def test_figure_6_draws_each_chosen_sample_once_where_it_lies() -> None:
    points, labels = np.arange(40.0).reshape(20, 2), torch.arange(20) % 3
    parts = drawn(points, labels)
    assert list(parts) == ["pool", "both (2)", "VeCAF only (1)", "ActiveFT only (3)"]
    assert len(parts["pool"].get_offsets()) == 20
    assert len(np.unique(parts["pool"].get_facecolor(), axis=0)) == 3
    assert np.array_equal(parts["both (2)"].get_offsets(), points[[3, 4]])
    assert np.array_equal(parts["VeCAF only (1)"].get_offsets(), points[[5]])
    assert np.array_equal(parts["ActiveFT only (3)"].get_offsets(), points[[0, 1, 2]])
    chosen = [parts[name] for name in list(parts)[1:]]
    assert len({part.get_paths()[0].vertices.tobytes() for part in chosen}) == 3  # type: ignore[union-attr]
    assert to_hex(parts["both (2)"].get_facecolor()[0]) == "#000000"


def test_a_large_background_is_thinned_but_no_chosen_sample_is_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "BACKGROUND", 5)
    points = np.arange(40.0).reshape(20, 2)
    parts = drawn(points, torch.zeros(20, dtype=torch.int64))
    assert np.array_equal(parts["pool"].get_offsets(), points[[0, 4, 8, 12, 16]])
    assert sum(len(parts[name].get_offsets()) for name in list(parts)[1:]) == 6


def test_caption_6_counts_and_measures_the_margin() -> None:
    rng = np.random.default_rng(0)
    margins = 0.9 + 0.01 * rng.random(100)
    vecaf, activeft = set(range(20)), set(range(10, 40))
    setting = {"ratio": 5.0, "loop": 2, "seed": 1}
    margins[list(vecaf)] -= 0.5
    text = caption_6(margins, activeft=activeft, vecaf=vecaf, **setting)
    assert "10 by both" in text
    assert "10 by VeCAF only" in text
    assert "20 by ActiveFT only" in text
    assert "loop 2 at 5 % (seed 1)" in text
    assert "nearer to the boundaries, as the paper says" in text
    only = sorted(vecaf - activeft)
    assert f"VeCAF only {margins[only].mean():.3f}" in text
    against = caption_6(margins, activeft=vecaf, vecaf=activeft, **setting)
    assert "against what the paper says" in against
    flat = 0.9 + 0.01 * rng.random(100)
    assert "cannot be told" in caption_6(flat, activeft=activeft, vecaf=vecaf, **setting)
    assert "Too few" in caption_6(flat, activeft={1}, vecaf={1}, **setting)


def test_figure_3_shows_the_images_that_it_was_given(tmp_path: Path) -> None:
    images = torch.arange(3 * 3 * 4 * 5, dtype=torch.uint8).reshape(3, 3, 4, 5)
    rows = {
        "ActiveFT": [(images[0], "cat"), (images[1], "dog")],
        "VeCAF, snow": [(images[2], "ship")],
    }
    figure = figure_3(rows)
    assert len(figure.axes) == 4
    shown = [axes for axes in figure.axes if axes.images]
    assert [axes.get_xlabel() for axes in shown] == ["cat", "dog", "ship"]
    for axes, image in zip(shown, images, strict=True):
        assert np.array_equal(np.asarray(axes.images[0].get_array()), image.permute(1, 2, 0))
    assert [axes.get_ylabel() for axes in figure.axes] == ["ActiveFT", "", "VeCAF, snow", ""]
    save(figure, tmp_path / "figure3")
    text = caption_3(
        rows, prompts={"VeCAF, snow": "It's a snowy day!"}, chosen=50, ratio=5.0, loop=1, seed=0
    )
    assert "VeCAF, snow: “It's a snowy day!”" in text
    assert "2 of 50 chosen images" in text


def test_shown_images_are_spread_evenly_and_not_picked() -> None:
    assert spread(range(100, 0, -1), 4) == [13, 38, 63, 88]
    assert spread([9, 3, 7], 5) == [3, 7, 9]
    assert spread([4], 3) == [4]


def test_bad_input() -> None:
    with pytest.raises(BadInput, match="at least one image a row; VeCAF has none"):
        figure_3({"VeCAF": []})
    with pytest.raises(BadInput, match="every row has none"):
        figure_3({})
    with pytest.raises(BadInput, match="at least 1"):
        spread([1], 0)
    with pytest.raises(BadInput, match="sample 7 was chosen"):
        figure_6(np.zeros((5, 2)), torch.zeros(5, dtype=torch.int64), activeft={7}, vecaf=set())
    with pytest.raises(BadInput, match="more than 15 samples, not 3"):
        umap_points(torch.ones(3, 2), seed=0)
