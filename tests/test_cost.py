"""Counted operations against their formulas, and a run of the digits measured part by part."""

import vecaf_lib.models  # noqa: F401 (timm can be imported after it)

# isort: split
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from vecaf_lib.captions import write_captions
from vecaf_lib.cost import count, measure_run
from vecaf_lib.data.load import load

DATA = Path(__file__).parents[1] / "data"


def gflops(part: Any) -> float:
    return count(part)[0]["gflops"] or 0.0


def plain_layer(make: Any) -> nn.Module:
    with torch.random.fork_rng(devices=[]):  # layers draw from the global state
        module: nn.Module = make()
    return module.eval()


def test_a_linear_layer_forward_and_backward() -> None:
    layer, x = plain_layer(lambda: nn.Linear(30, 20)), torch.ones(7, 30)
    once = 2 * 7 * 30 * 20 / 1e9
    assert gflops(lambda: layer(x)) == pytest.approx(once)
    # the input needs no gradient: one product forward, one for the weights
    assert gflops(lambda: layer(x).sum().backward()) == pytest.approx(2 * once)
    calls: list[Any] = []
    cost, _ = count(lambda: calls.append(layer(x)), 4)
    assert cost["gflops"] == pytest.approx(once / 4)  # of a piece
    assert len(calls) == 4  # one is counted, three are timed


@pytest.mark.parametrize("groups", [1, 2, 6])
@pytest.mark.parametrize("kind", [nn.Conv2d, nn.ConvTranspose2d])
def test_a_backward_pass_through_a_convolution_is_twice_the_forward_pass(
    kind: type[nn.Module], groups: int
) -> None:
    layer = plain_layer(lambda: kind(6, 6, 3, stride=2, groups=groups, bias=False))
    x = torch.ones(2, 6, 9, 9, requires_grad=True)
    forward = gflops(lambda: layer(x))
    assert gflops(lambda: layer(x).sum().backward()) == pytest.approx(3 * forward)
    assert gflops(lambda: layer(x.detach()).sum().backward()) == pytest.approx(2 * forward)


@pytest.mark.parametrize("inference", [True, False])
def test_attention_is_counted_though_inference_has_fused_layers_for_it(inference: bool) -> None:
    b, t, d, hidden = 2, 6, 8, 16
    layer = plain_layer(lambda: nn.TransformerEncoderLayer(d, 2, hidden, 0.0, batch_first=True))
    x = torch.ones(b, t, d)

    def part() -> None:
        with torch.inference_mode(inference):
            layer(x)

    projections = 2 * b * t * (4 * d * d + 2 * d * hidden)
    attention = 2 * 2 * b * t * t * d  # queries with keys, weights with values
    assert gflops(part) == pytest.approx((projections + attention) / 1e9)
    assert torch.backends.mha.get_fastpath_enabled()


def digits(tmp_path: Path) -> dict[str, Any]:
    """Arguments for VeCAF on the digits, with embeddings drawn at random."""
    dataset = {"name": "digits", "image_size": 32, "options": {}}
    pool = load(split="train", data=DATA, **dataset)
    draw = np.random.default_rng(0)
    for name, width in (("text", 384), ("image", 1280)):
        rows = draw.standard_normal((len(pool), width), dtype=np.float32)
        np.save(tmp_path / f"{name}.npy", rows)
    sentences = [f"a mark number {at % 40}" for at in range(len(pool))]
    write_captions(tmp_path / "captions.jsonl", pool.ids, sentences, record={})
    captions = {"source": "attributes", "image_size": None, "batch_size": 32, "options": {}}
    options = {"iterations": 3, "ensemble": 2, "tolerance": 0.0}
    precision = {"precision": "float32", "evaluation_precision": "float32"}
    return {
        "dataset": dataset,
        "captions": captions,
        "vision": {"name": "tf_efficientnet_lite0", "weights": "package"},
        "text": {"name": "hashed"},
        "training": {"steps": 36, "batch_size": 12, "learning_rate": 0.003}
        | {"trainable": "all", "blocks": 1},
        "compute": {"device": "cpu", "threads": 1} | precision,
        "method": {
            "select": "ods",
            "options": options,
            "cea": {"mode": "paper"},
            "loss_predictor": None,
        },
        "ratio": 5.0,
        "loops": 3,
        "data": DATA,
        "text_embeddings": tmp_path / "text.npy",
        "image_embeddings": tmp_path / "image.npy",
        "captions_file": tmp_path / "captions.jsonl",
    }


def test_a_run_is_measured_part_by_part(tmp_path: Path) -> None:
    measured = measure_run(**digits(tmp_path))
    assert json.loads(json.dumps(measured, allow_nan=False)) == measured
    n, k, d, parts = measured["pool"], measured["budget"], 1280, measured["parts"]
    assert (k, measured["steps"], measured["batch_size"]) == (round(n / 20), 36, 12)
    assert [part["times"] for part in parts.values()] == [n, 40, 3, 3 * n, 3, 36]
    assert parts["captioning"]["gflops"] is None  # it only measures pixels
    assert all(part["seconds"] > 0 for part in parts.values())
    # bridge: T'T, T'E and t W; nothing else of CEA is a matrix product
    bridge = 2 * n * (384 * 384 + 384 * d + 384 * d) / 1e9
    assert parts["CEA"]["gflops"] == pytest.approx(bridge, rel=1e-6)
    # ODS: a member compares pool and centroids, and centroids with each other, in each iteration
    step = 2 * (n * k * d + k * k * d + k * k * d)
    last = 2 * n * k * d  # at least: who is nearest to the centroids
    assert parts["selection"]["gflops"] > (2 * 3 * step + last) / 1e9
    assert parts["selection"]["gflops"] < (2 * 3 * step + 5 * last) / 1e9
    # backward is about twice a forward pass
    forward = 12 * parts["embedding passes"]["gflops"]
    assert 2.5 < parts["finetuning"]["gflops"] / forward < 3.2


@pytest.mark.parametrize(("select", "passes"), [("random", 0), ("learnloss", 3)])
def test_a_rival_has_no_parts_of_captions(tmp_path: Path, select: str, passes: int) -> None:
    method = {"select": select, "options": {}, "cea": None, "loss_predictor": None}
    measured = measure_run(**digits(tmp_path) | {"method": method})
    parts = measured["parts"]
    for name in ("captioning", "text encoding", "CEA"):
        assert parts[name] == {"gflops": None, "seconds": None, "times": 0}
    assert parts["embedding passes"]["times"] == passes * measured["pool"]
