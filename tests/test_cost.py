"""Counted operations against their formulas, and a run of the digits measured part by part."""

import vecaf_lib.encoders  # noqa: F401 (timm can be imported after it)

# isort: split
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from vecaf_lib.captions import write_captions
from vecaf_lib.cost import measure_run
from vecaf_lib.counting import Measured, count
from vecaf_lib.datasets import load
from vecaf_lib.errors import BadInput
from vecaf_lib.report.table4 import PARTS, table4
from vecaf_lib.settings.data import Captions, Dataset, Text
from vecaf_lib.settings.method import CEA
from vecaf_lib.settings.sections import Compute, Training

DATA = Path(__file__).parents[1] / "data"


def gflops(part: Any) -> float:
    counted = count(part).gflops
    assert counted is not None
    return counted


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


def test_a_convolution() -> None:
    layer = plain_layer(lambda: nn.Conv2d(3, 5, 3, padding=1, bias=False))
    x = torch.ones(2, 3, 8, 8)
    assert gflops(lambda: layer(x)) == pytest.approx(2 * 2 * 5 * 8 * 8 * 3 * 9 / 1e9)


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


def test_cost_of_a_piece() -> None:
    assert Measured(6.0, 3.0).each(3) == Measured(2.0, 1.0)
    assert Measured(None, 3.0).each(3) == Measured(None, 1.0)


def test_the_part_is_called_once_for_the_count_and_at_most_three_times_for_the_clock() -> None:
    calls: list[int] = []
    told = count(lambda: calls.append(1))
    assert len(calls) == 4
    assert told.gflops == 0
    assert told.seconds is not None
    assert 0 <= told.seconds < 1


def digits(tmp_path: Path, **changes: Any) -> dict[str, Any]:
    """Arguments for VeCAF on the digits, with embeddings drawn at random."""
    dataset = Dataset(name="digits", image_size=32).model_dump()
    pool = load(split="train", data=DATA, **dataset)
    draw = np.random.default_rng(0)
    for name, width in (("text", 384), ("image", 1280)):
        rows = draw.standard_normal((len(pool), width), dtype=np.float32)
        np.save(tmp_path / f"{name}.npy", rows)
    sentences = [f"a mark number {at % 40}" for at in range(len(pool))]
    write_captions(tmp_path / "captions.jsonl", pool.ids, sentences, record={})
    method = {"select": "ods", "options": {"iterations": 3, "ensemble": 2, "tolerance": 0.0}}
    return {
        "dataset": dataset,
        "captions": Captions(source="attributes").model_dump(),
        "vision": {"name": "tf_efficientnet_lite0", "weights": "package"},
        "text": Text(name="hashed").model_dump(),
        "training": Training(steps=36, batch_size=12, learning_rate=0.003).model_dump(),
        "compute": Compute(device="cpu").model_dump(),
        "method": method | {"cea": CEA().model_dump()},
        "ratio": 5.0,
        "loops": 3,
        "data": DATA,
        "text_embeddings": tmp_path / "text.npy",
        "image_embeddings": tmp_path / "image.npy",
        "captions_file": tmp_path / "captions.jsonl",
    } | changes


def test_a_run_is_measured_part_by_part(tmp_path: Path) -> None:
    told = measure_run(**digits(tmp_path))
    assert json.loads(json.dumps(told, allow_nan=False)) == told
    n, k, d, parts = told["pool"], told["budget"], 1280, told["parts"]
    assert set(parts) == set(PARTS)
    assert (k, told["steps"], told["batch_size"]) == (round(n / 20), 36, 12)
    times = {name: part["times"] for name, part in parts.items()}
    assert times == {
        "captioning": n,
        "text encoding": 40,
        "CEA": 3,
        "embedding passes": 3 * n,
        "selection": 3,
        "finetuning": 36,
    }
    assert parts["captioning"]["gflops"] is None  # it only measures pixels
    assert all(part["seconds"] > 0 for part in parts.values())
    # bridge: T'T, T'E and t W; nothing else of CEA is a matrix product
    bridge = 2 * n * (384 * 384 + 384 * d + 384 * d) / 1e9
    assert parts["CEA"]["gflops"] == pytest.approx(bridge, rel=1e-6)
    # ODS: a member compares pool and centroids, and centroids with each other, in each iteration
    step = 2 * (n * k * d + k * k * d + k * k * d)
    last = 2 * n * k * d  # at least: who is nearest to the member's centroids
    assert parts["selection"]["gflops"] > (2 * 3 * step + 2 * last) / 1e9
    assert parts["selection"]["gflops"] < (2 * 3 * step + 5 * last) / 1e9
    # backward is about twice a forward pass
    forward = 12 * parts["embedding passes"]["gflops"]
    assert 2.5 < parts["finetuning"]["gflops"] / forward < 3.2
    table = table4(told, batches=None).set_index("cell")
    assert table.loc["table4/full/total", "gflops"] < table.loc["table4/vecaf/total", "gflops"]


def test_a_method_without_captions_has_none_of_their_parts(tmp_path: Path) -> None:
    arguments = digits(tmp_path)
    method = arguments["method"] | {"select": "random", "options": {}, "cea": None}
    parts = measure_run(**arguments | {"method": method})["parts"]
    for name in ("captioning", "text encoding", "CEA"):
        assert parts[name] == {"gflops": None, "seconds": None, "times": 0}
    assert parts["embedding passes"]["times"] == 0
    assert parts["selection"]["times"] == 3


def test_embeddings_of_another_pool_are_refused(tmp_path: Path) -> None:
    arguments = digits(tmp_path)
    np.save(tmp_path / "image.npy", np.zeros((5, 1280), dtype=np.float32))
    with pytest.raises(BadInput, match=r"image\.npy has 5 rows; the pool needs \d+"):
        measure_run(**arguments)
