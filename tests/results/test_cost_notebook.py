"""Counted operations against their formulas, and a run of the digits measured part by part."""

import vecaf_lib.models  # noqa: F401 (timm can be imported after it)

# isort: split
import json
from typing import Any

import numpy as np
import pytest
import torch
from cells import cell
from torch import nn

from tests.results.conftest import ROOT
from vecaf_lib.captions import write_captions
from vecaf_lib.data.load import load
from vecaf_lib.pipeline.project import views

count = cell("35_cost.ipynb", "def count", torch=torch)["count"]


def gflops(part: Any) -> float:
    return float(count(part)[0]["gflops"])


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


def measure(small: Any, **changed: Any) -> Any:
    """The cost.json of VeCAF, ``changed``, on the digits, with embeddings drawn at random."""
    (small.root / "data" / "digits").symlink_to(ROOT / "data" / "digits")
    compute = {"device": "cpu", "threads": 1, "precision": "float32"}
    small.sections |= {
        "dataset": {"name": "digits", "image_size": 32, "options": {}},
        "captions": {"source": "attributes", "image_size": None, "batch_size": 32, "options": {}},
        "vision": {"name": "tf_efficientnet_lite0", "weights": "package"},
        "text": {"name": "hashed"},
        "training": {"steps": 36, "batch_size": 12, "learning_rate": 0.003}
        | {"trainable": "all", "blocks": 1},
        "compute": compute | {"evaluation_precision": "float32"},
    }
    method = small.sections["methods"]["vecaf"]
    method |= {"class_names": False, "caption_part": "whole", "loss_predictor": None}
    options = {"iterations": 3, "ensemble": 2, "tolerance": 0.0}
    method |= {"options": options, "cea": {"mode": "paper"}} | changed
    pool = load(split="train", data=ROOT / "data", **small.sections["dataset"])
    sentences = [f"a mark number {at % 40}" for at in range(len(pool))]
    write_captions(small.root / "captions.jsonl", pool.ids, sentences, record={})
    view, draw = views(small.sections, "vecaf"), np.random.default_rng(0)
    for file, width in ((view.text_file(small.root), 384), (view.image_file(small.root), 1280)):
        np.save(file, draw.standard_normal((len(pool), width), dtype=np.float32))
    places = {"output": "cost.json", "captions": "captions.jsonl", "embeddings": "."}
    small.execute("35_cost.ipynb", **places)
    return json.loads((small.root / "cost.json").read_text())


def test_a_run_is_measured_part_by_part(small: Any) -> None:
    measured = measure(small)
    n, k, d, parts = measured["pool"], measured["budget"], 1280, measured["parts"]
    assert (k, measured["steps"], measured["batch_size"]) == (round(n / 20), 36, 12)
    times = {"captioning": n, "text encoding": 40, "CEA": 3, "embedding passes": 3 * n}
    times |= {"selection": 3, "finetuning": 36}
    assert {name: part["times"] for name, part in parts.items()} == times
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
def test_a_rival_has_no_parts_of_captions(small: Any, select: str, passes: int) -> None:
    measured = measure(small, select=select, options={}, cea=None)
    for name in ("captioning", "text encoding", "CEA"):
        assert measured["parts"][name] == {"gflops": None, "seconds": None, "times": 0}
    assert measured["parts"]["embedding passes"]["times"] == passes * measured["pool"]
