"""Two gloo processes: the same embeddings to the bit, the same training within rounding."""

import vecaf_lib.encoders  # noqa: F401 (timm can be imported after it)

# isort: split
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from vecaf_lib.datasets.lazy import ResizedImages
from vecaf_lib.distribution import everyones, own_batches, rank_and_size, share, use_device
from vecaf_lib.errors import BadInput

ROOT = Path(__file__).parents[1]

# A run of Algorithm 1 with CEA, dropout off, then one look at 21 images in batches of 4: six
# batches, the last of one image, dealt to two processes.
PROGRAM = """
import sys
import vecaf_lib.encoders
import timm, torch
from vecaf_lib.cea import Augmentation
from vecaf_lib.datasets import ImageSet
from vecaf_lib.datasets.lazy import ResizedImages
from vecaf_lib.distribution import rank_and_size, use_device
from vecaf_lib.encoders.vision import PVM
from vecaf_lib.evaluation import look
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
    ids = tuple(f"image-{seed}-{i}" for i in range(size))
    return ImageSet(ResizedImages(pixels, 32), labels, ids, ("a", "b", "c"))

torch.manual_seed(0)
pvm = PVM(timm.create_model("test_vit", img_size=32), 3, generator=seeded(0))
found = {"look": look(pvm, images(21, 7).images, batch_size=4)}
train, validation, test = images(40, 0), images(6, 1), images(6, 2)
text = torch.randn(40, 16, generator=seeded(3))
recipe = Recipe(
    steps=6, batch_size=8, learning_rate=0.05, clip_norm=1.0, shift=2, flip=True, evaluate_every=3
)
found["run"] = active_finetuning(
    pvm, train, validation, test, select=ods.select, needs=ods.NEEDS,
    cea=Augmentation(text, seed=0), budget=9, loops=2, multi_run=True, recipe=recipe, seed=0,
)
found["weights"] = pvm.state_dict()
rank, size = rank_and_size()
torch.save(found | {"size": size}, f"{sys.argv[1]}/{rank}.pt")
"""


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict]]:
    """What each process of a launch of one, and of a launch of two, has to tell."""
    found = {}
    program = tmp_path_factory.mktemp("program") / "program.py"
    program.write_text(PROGRAM)
    for processes in (1, 2):
        folder = tmp_path_factory.mktemp("results")
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        command += [f"--nproc_per_node={processes}", str(program), str(folder)]
        alone = [sys.executable, str(program), str(folder)]
        environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            alone if processes == 1 else command, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr[-3000:]
        paths = sorted(folder.iterdir())
        assert len(paths) == processes
        found[processes] = [torch.load(path, weights_only=True) for path in paths]
        assert [told["size"] for told in found[processes]] == [processes] * processes
    return found


def test_embeddings_and_scores_are_identical_to_the_bit(results: dict) -> None:
    (alone,), both = results[1], results[2]
    assert alone["look"][0].shape == (21, 64)
    for told in both:
        for one, other in zip(alone["look"], told["look"], strict=True):
            assert torch.equal(one, other)


def test_training_agrees_with_one_process_at_the_same_global_batch(results: dict) -> None:
    """Tolerance: 1e-4 in the losses and, relative to its norm, in each tensor of the model."""
    (alone,), both = results[1], results[2]
    for told in both:
        assert told["run"]["train_loss"] == pytest.approx(alone["run"]["train_loss"], abs=1e-4)
        chosen = [loop["chosen"] for loop in told["run"]["loops"]]
        assert chosen == [loop["chosen"] for loop in alone["run"]["loops"]]
        assert told["run"]["curve"] == alone["run"]["curve"]
        for name, tensor in alone["weights"].items():
            distance = (told["weights"][name] - tensor).norm()
            assert distance <= 1e-4 * tensor.norm() + 1e-7, name


def test_all_processes_end_with_one_model_and_one_record(results: dict) -> None:
    first, second = results[2]
    assert first["run"] == second["run"]
    assert all(torch.equal(first["weights"][n], second["weights"][n]) for n in first["weights"])


def test_training_moved_the_model(results: dict) -> None:
    losses = results[1][0]["run"]["train_loss"]
    assert len(losses) == 6
    assert losses[-1] < losses[0]


def test_alone_all_batches_are_ones_own() -> None:
    images = torch.randint(0, 256, (7, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator())
    assert rank_and_size() == (0, 1)
    for given in (images, ResizedImages(images, 8)):
        batches = list(own_batches(given, 3))
        assert [len(batch) for batch in batches] == [3, 3, 1]
        assert torch.equal(torch.cat(batches), images)
    parts = [torch.ones(3, 2), torch.ones(1, 2)]
    assert everyones(parts, 4, 3, 2).shape == (4, 2)
    assert everyones([], 0, 3, 2).shape == (0, 2)


@pytest.mark.parametrize(("rank", "own"), [(0, [0, 1, 6]), (1, [2, 3]), (2, [4, 5])])
def test_batches_are_dealt_in_turn(monkeypatch: pytest.MonkeyPatch, rank: int, own: list) -> None:
    monkeypatch.setattr("vecaf_lib.distribution.rank_and_size", lambda: (rank, 3))
    images = torch.arange(7, dtype=torch.uint8).view(7, 1, 1, 1).expand(7, 3, 2, 2)
    for given in (images, ResizedImages(images, 2)):
        assert torch.cat(list(own_batches(given, 2)))[:, 0, 0, 0].tolist() == own
    assert share(torch.arange(6)).tolist() == [2 * rank, 2 * rank + 1]
    with pytest.raises(BadInput, match="8 images cannot be shared equally by 3 processes"):
        share(torch.arange(8))


def test_a_gpu_that_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(BadInput, match="'cuda' is asked for, but torch sees no GPU"):
        use_device("cuda")
