"""Extraction: exact rows, resumed after a kill, dealt over processes, in bounded memory."""

import vecaf_lib.models  # noqa: F401 (timm can be imported after it)

# isort: split
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from torch import Tensor

from vecaf_lib.data.images import LazyImages
from vecaf_lib.errors import BadInput
from vecaf_lib.models.extract import encode_into, extract
from vecaf_lib.models.text import encode
from vecaf_lib.models.vision import PVM

WHAT = {"model": "test_resnet", "split": "train"}


class Drawn(LazyImages):
    """Images drawn from their number, so that none is ever held; counts those that were made."""

    def __init__(self, count: int, side: int = 32, slow: float = 0.0, stop: int = 10**9) -> None:
        self.count, self.side, self.slow, self.stop, self.made = count, side, slow, stop, 0

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return (self.count, 3, self.side, self.side)

    def take(self, indices: Any) -> "Drawn":
        raise NotImplementedError

    def _make(self, positions: list[int]) -> Tensor:
        if positions[-1] >= self.stop:
            raise KeyboardInterrupt
        time.sleep(self.slow)
        self.made += len(positions)
        rows = torch.tensor(positions)[:, None, None, None] * 37
        steps = torch.arange(3 * self.side**2).view(1, 3, self.side, self.side)
        return ((rows + steps * (1 + rows % 5)) % 256).to(torch.uint8)


def model(**options: Any) -> PVM:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        backbone = timm.create_model("test_resnet", pretrained=False)
    return PVM(backbone, 3, generator=torch.Generator().manual_seed(0), **options)


def take(path: Path, images: Any, pvm: PVM | None = None, **changes: Any) -> np.memmap:
    options = {"batch_size": 16, "identity": WHAT} | changes
    return extract(pvm or model(), images, path, **options)


def hidden(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name.startswith("."))


def test_rows_are_the_embeddings_in_order(tmp_path: Path) -> None:
    images, pvm = Drawn(70)[0:70], model()
    counted: list[int] = []
    result = take(tmp_path / "new" / "e.npy", images, pvm, bar=counted.append)
    assert isinstance(result, np.memmap)
    assert result.dtype == np.float32
    assert sum(counted) == 70
    with torch.inference_mode():
        wanted = torch.cat([pvm.eval().embed(part) for part in images.split(16)])
    assert np.array_equal(result, wanted.numpy())
    assert len(np.unique(result, axis=0)) == 70  # the images differ
    assert np.array_equal(np.load(tmp_path / "new" / "e.npy"), wanted.numpy())
    assert hidden(tmp_path / "new") == []
    assert np.array_equal(take(tmp_path / "lazy.npy", Drawn(70), pvm), result)
    with pytest.raises(ValueError, match="read-only"):
        result[0, 0] = 1


def test_a_finished_file_is_not_made_again_unless_it_is_of_something_else(tmp_path: Path) -> None:
    path, images = tmp_path / "e.npy", Drawn(40)
    take(path, images)
    take(path, images)
    assert images.made == 40
    for again, changes in enumerate(
        (
            {"identity": WHAT | {"split": "test"}},
            {"batch_size": 8},
            {"pvm": model(precision="bfloat16")},
        )
    ):
        take(path, images, **changes)
        assert images.made == 40 * (again + 2)
    path.write_bytes(path.read_bytes()[:-4])  # cut by something else
    take(path, images, pvm=model(precision="bfloat16"))
    assert len(np.load(path)) == 40


def test_an_interruption_costs_only_what_was_not_done(tmp_path: Path) -> None:
    whole = take(tmp_path / "whole.npy", Drawn(100))
    path = tmp_path / "e.npy"
    with pytest.raises(KeyboardInterrupt):
        take(path, Drawn(100, stop=64))  # batches 0 to 3 are made, the last of them not fetched
    assert not path.exists()
    rest, counted = Drawn(100), []
    assert np.array_equal(take(path, rest, bar=counted.append), whole)
    assert 36 <= rest.made <= 52
    assert sum(counted) == 100
    assert path.read_bytes() == (tmp_path / "whole.npy").read_bytes()


LAUNCHED = """
import sys
from pathlib import Path
import torch
torch.set_num_threads(1)
sys.path[:0] = [{root!r}, {tests!r}]
import vecaf_lib.models
from test_extract import Drawn, take
take(Path({path!r}), Drawn({count}, slow={slow}))
print("finished")
"""


def launch(tmp_path: Path, processes: int, count: int = 100, slow: float = 0.0) -> subprocess.Popen:
    script = tmp_path / "launched.py"
    here, path = Path(__file__).parent, str(tmp_path / "e.npy")
    places = {"tests": str(here), "root": str(here.parents[1]), "path": path}
    script.write_text(LAUNCHED.format(**places, count=count, slow=slow))
    command = [sys.executable, str(script)]
    if processes > 1:
        options = [f"--nproc-per-node={processes}", "--standalone"]
        command[1:1] = ["-m", "torch.distributed.run", *options]
    return subprocess.Popen(
        command,
        env=os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


@pytest.mark.timeout(180)
def test_killed_as_one_process_and_resumed_as_two(tmp_path: Path) -> None:
    """Identical bytes, whoever computes them, in however many sittings."""
    take(tmp_path / "whole.npy", Drawn(400))
    victim = launch(tmp_path, 1, 400, slow=0.3)
    parts = tmp_path / ".e.npy.parts"
    while len(done := list(parts.rglob("*.npy"))) < 3:
        assert victim.poll() is None, victim.communicate()[0]
        time.sleep(0.05)
    os.killpg(victim.pid, signal.SIGKILL)
    victim.communicate()
    assert len(done) < 25
    two = launch(tmp_path, 2, 400)
    output, _ = two.communicate()
    assert two.returncode == 0, output
    assert output.count("finished") == 2
    assert (tmp_path / "e.npy").read_bytes() == (tmp_path / "whole.npy").read_bytes()
    assert hidden(tmp_path) == []


def test_embeddings_that_are_no_numbers(tmp_path: Path) -> None:
    broken = model()
    with torch.no_grad():
        next(broken.parameters()).fill_(float("nan"))
    with pytest.raises(BadInput, match=r"rows 0 to 15 are not finite"):
        take(tmp_path / "e.npy", Drawn(40), broken)


def test_captions_are_encoded_into_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    captions, path = [f"{number} dogs" for number in range(11)], tmp_path / "t.npy"
    options: dict[str, Any] = {"identity": {"captions": "x"}, "name": "hashed", "width": 8}
    monkeypatch.setattr("vecaf_lib.models.extract.CAPTIONS_AT_ONCE", 4)
    counted: list[int] = []
    t = encode_into(captions, path, bar=counted.append, **options)
    assert np.array_equal(t, encode(captions, name="hashed", width=8).numpy())
    assert sum(counted) == 11
    before = path.stat().st_mtime_ns
    encode_into(captions, path, **options)
    assert path.stat().st_mtime_ns == before
    assert encode_into(captions, path, **(options | {"width": 4})).shape == (11, 4)
