"""Two gloo processes: equal embeddings to the bit, equal training within rounding; precision."""

import vecaf_lib.models  # noqa: F401 (timm can be imported after it)

# isort: split
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from vecaf_lib.data.images import ResizedImages
from vecaf_lib.devices import autocast, everyones, own_batches, resolve, share, use_device
from vecaf_lib.errors import BadInput

ROOT = Path(__file__).parents[1]

# a pass over 21 images in six batches, the last of one image, then Algorithm 1 with CEA
PROGRAM = """
import sys
import vecaf_lib.models
import timm, torch
from vecaf_lib.cea import Augmentation
from vecaf_lib.data.images import ImageSet
from vecaf_lib.data.images import ResizedImages
from vecaf_lib.devices import rank_and_size, use_device
from vecaf_lib.models.vision import PVM
from vecaf_lib import evaluation
from vecaf_lib.evaluation import embed_pool
from vecaf_lib.loop import active_finetuning
from vecaf_lib.selection import ods
from vecaf_lib.training import Recipe

torch.set_num_threads(1)
use_device("cpu")
seeded = lambda seed: torch.Generator().manual_seed(seed)

def images(size, seed):
    labels = torch.arange(size) % 3
    noise = torch.randint(0, 60, (size, 3, 32, 32), generator=seeded(seed))
    pixels = (noise + 90 * labels.view(-1, 1, 1, 1)).to(torch.uint8)
    return ImageSet(ResizedImages(pixels, 32), labels, tuple(map(str, range(size))), tuple("abc"))

torch.manual_seed(0)
pvm = PVM(timm.create_model("test_vit", img_size=32), 3, generator=seeded(0))
evaluation.AT_ONCE = 4
saved = {"pass": embed_pool(pvm, images(21, 7).images)}
train, validation, test = images(40, 0), images(6, 1), images(6, 2)
cea = Augmentation(torch.randn(40, 16, generator=seeded(3)), seed=0)
recipe = Recipe(6, 8, learning_rate=0.05, clip_norm=1.0, shift=2, flip=True, evaluate_every=3)
saved["run"] = active_finetuning(
    pvm, train, validation, test, select=ods.select, needs=ods.NEEDS, cea=cea, budget=9, loops=2,
    multi_run=True, recipe=recipe, seed=0,
)
saved["weights"] = pvm.state_dict()
rank, size = rank_and_size()
torch.save(saved | {"size": size}, f"{sys.argv[1]}/{rank}.pt")
"""


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[int, list[dict]]:
    """What each process of a launch of one, and of a launch of two, saved."""
    results = {}
    program = tmp_path_factory.mktemp("program") / "program.py"
    program.write_text(PROGRAM)
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    for processes in (1, 2):
        folder = tmp_path_factory.mktemp("results")
        command = [sys.executable, *launch[: 4 * (processes - 1)], str(program), str(folder)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-3000:]
        saved = [torch.load(path, weights_only=True) for path in sorted(folder.iterdir())]
        assert [each["size"] for each in saved] == [processes] * processes
        results[processes] = saved
    return results


def test_embeddings_and_scores_are_identical_to_the_bit(results: dict) -> None:
    (alone,), both = results[1], results[2]
    assert alone["pass"][0].shape == (21, 64)
    for each in both:
        assert all(map(torch.equal, alone["pass"], each["pass"]))


def test_training_agrees_with_one_process_at_the_same_global_batch(results: dict) -> None:
    """Tolerance: 1e-4 in the losses and, relative to its norm, in each tensor of the model."""
    (alone,), (one, two) = results[1], results[2]
    losses = alone["run"]["train_loss"]
    assert losses[-1] < losses[0]
    assert one["run"]["train_loss"] == pytest.approx(losses, abs=1e-4)
    assert one["run"]["curve"] == alone["run"]["curve"]
    for loop, same in zip(one["run"]["loops"], alone["run"]["loops"], strict=True):
        assert loop["chosen"] == same["chosen"]
    for name, tensor in alone["weights"].items():
        distance = (one["weights"][name] - tensor).norm()
        assert distance <= 1e-4 * tensor.norm() + 1e-7, name
    assert one["run"] == two["run"]
    assert all(torch.equal(one["weights"][name], two["weights"][name]) for name in one["weights"])


OWN = {"0 of 1": [*range(7)], "0 of 3": [0, 1, 6], "1 of 3": [2, 3], "2 of 3": [4, 5]}


@pytest.mark.parametrize("process", OWN)
def test_batches_are_dealt_in_turn(monkeypatch: pytest.MonkeyPatch, process: str) -> None:
    rank, size = map(int, process.split(" of "))
    monkeypatch.setattr("vecaf_lib.devices.rank_and_size", lambda: (rank, size))
    images = torch.arange(7, dtype=torch.uint8).view(7, 1, 1, 1).expand(7, 3, 2, 2)
    for given in (images, ResizedImages(images, 2)):
        assert torch.cat(list(own_batches(given, 2)))[:, 0, 0, 0].tolist() == OWN[process]
    assert torch.equal(share(torch.arange(6)), torch.arange(6).view(size, -1)[rank])
    if size > 1:
        with pytest.raises(BadInput, match="8 images cannot be shared equally by 3 processes"):
            share(torch.arange(8))
    else:
        parts = [torch.ones(3, 2), torch.ones(1, 2)]
        assert torch.equal(everyones(parts, 4, 3, 2), torch.ones(4, 2))
        assert everyones([], 0, 3, 2).shape == (0, 2)


def test_a_gpu_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(BadInput, match=r"compute\.device: 'cuda'"):
        use_device("cuda")


@pytest.mark.parametrize(("native", "expected"), [(True, "bfloat16"), (False, "float32")])
def test_precision(monkeypatch: pytest.MonkeyPatch, native: bool, expected: str) -> None:
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: native)
    assert resolve("cpu", "auto") == expected
    assert resolve("cuda", "auto") == "bfloat16"
    square = torch.ones(2, 2)
    for precision in ("bfloat16", "float32"):
        assert resolve("cpu", precision) == precision
        with autocast("cpu", precision):
            assert (square @ square).dtype == getattr(torch, precision)
