"""Batches to a target on hand-made curves, what the figures keep, and stable bytes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from vecaf_lib.errors import BadInput
from vecaf_lib.report.figure_5 import figure_5
from vecaf_lib.report.figure_text import caption_1b, caption_4, caption_5
from vecaf_lib.report.figures import choose, figure_1b, figure_4, look, save
from vecaf_lib.report.frame import batches_to_target, curves, losses

MakeRun = Callable[..., dict[str, Any]]
SETTING = {"ratio": 5.0, "loops": 3, "seeds": [0, 1, 2]}
METHODS = ["random", "activeft", "topk_loss", "full", "vecaf"]


def hand_made(make_run: MakeRun) -> list[dict[str, Any]]:
    """Three runs: reaches 50 at step 20, exactly 50 at step 30, never."""
    shapes = [[10, 60, 40, 70], [10, 49.99, 50, 20], [10, 20, 30, 40]]
    made = []
    for seed, shape in enumerate(shapes):
        run = make_run("vecaf", True, 5.0, 3, seed)
        run["result"]["steps"] = 40
        run["result"]["curve"] = [
            {"step": 10 * i, "validation_accuracy": float(a)} for i, a in enumerate(shape, 1)
        ]
        made.append(run)
    return made


def test_batches_to_target_by_hand(make_run: MakeRun) -> None:
    found = batches_to_target(curves(hand_made(make_run)), 50.0)
    assert list(found["batches"]) == [20, 30, 40]
    assert list(found["reached"]) == [True, True, False]


def test_runs_that_never_arrive_stay_in_picture_and_caption(make_run: MakeRun) -> None:
    points = choose(curves(hand_made(make_run)), methods=["vecaf"], **SETTING)
    texts = [t.get_text() for t in figure_5(points, targets=[50]).axes[0].texts]
    assert texts == ["30  (1 of 3 never)"]
    panel = figure_5(points, targets=[65]).axes[0]  # only one of three arrives
    assert [t.get_text() for t in panel.texts] == ["> 40  (2 of 3 never)"]
    assert panel.patches[0].get_hatch() == "////"
    assert [line.get_marker() for line in panel.lines].count(">") == 2
    assert panel.get_xscale() == "log"
    assert "2 of 3 runs never reach 65 %" in caption_5(points, targets=[65])


def drawn(runs: list[dict[str, Any]]) -> dict[str, Figure]:
    """All figures of the synthetic runs."""
    points = choose(curves(runs), methods=METHODS, **SETTING)
    loss = choose(losses(runs), methods=METHODS, **SETTING)
    return {
        "figure1b": figure_1b(points),
        "figure4": figure_4(loss, window=5),
        "figure5": figure_5(points, targets=[60, 80]),
    }


def test_saving_twice_gives_the_same_bytes(runs: list[dict[str, Any]], tmp_path: Path) -> None:
    for folder in ("a", "b"):
        for name, figure in drawn(runs).items():
            save(figure, tmp_path / folder / name, caption="Words.")
    names = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert len(names) == 9
    for name in names:
        first, second = ((tmp_path / folder / name).read_bytes() for folder in ("a", "b"))
        assert first == second
        assert b"CreationDate" not in first


def test_figures_are_readable_without_colour() -> None:
    looks = [look(method) for method in METHODS]
    assert len({to_hex(style["color"]) for style in looks}) == len(METHODS)
    assert len({str(style["linestyle"]) for style in looks}) == len(METHODS)
    assert len({style["marker"] for style in looks}) == len(METHODS)


def test_smoothing_is_a_trailing_mean(make_run: MakeRun) -> None:
    runs = []
    for seed in (0, 1):
        run = make_run("vecaf", True, 5.0, 3, seed)
        run["result"]["train_loss"] = [4.0, 2.0, 0.0, 1.0]
        runs.append(run)
    points = choose(losses(runs), methods=["vecaf"], ratio=5.0, loops=3, seeds=[0, 1])
    line = figure_4(points, window=2).axes[0].lines[0]
    assert list(line.get_xdata()) == [1, 2, 3, 4]
    assert list(line.get_ydata()) == [4.0, 3.0, 1.0, 0.5]
    assert "trailing mean of 2 steps" in caption_4(points, window=2)


def test_captions_state_seeds_and_ratio(runs: list[dict[str, Any]]) -> None:
    points = choose(curves(runs), methods=METHODS, **SETTING)
    text = caption_1b(points)
    assert "n = 3 seeds (0, 1, 2)" in text
    assert "5 % of the pool in each of 3 loops" in text


def test_bad_input(runs: list[dict[str, Any]]) -> None:
    points = curves(runs)
    with pytest.raises(BadInput, match=r"vecaf/multi-r5-l3-s9\.json"):
        choose(points, methods=["vecaf"], ratio=5.0, loops=3, seeds=[9])
    with pytest.raises(BadInput, match="at least one method"):
        choose(points, methods=[], ratio=5.0, loops=3, seeds=[0])
    with pytest.raises(BadInput, match="at least 1"):
        figure_4(losses(runs), window=0)
    with pytest.raises(BadInput, match="at least one target"):
        figure_5(points, targets=[])
