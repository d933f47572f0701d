"""Extraction: exact rows, resumed after a kill, dealt over processes, in bounded memory."""

import vecaf_lib.encoders  # noqa: F401 (timm can be imported after it)

# isort: split
import errno
import os
import shutil
import signal
import subprocess
import sys
import time
import weakref
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import timm
import torch
from torch import Tensor

from vecaf_lib.datasets.lazy import LazyImages
from vecaf_lib.encoders import rows_file
from vecaf_lib.encoders.extract import extract
from vecaf_lib.encoders.vision import PVM
from vecaf_lib.errors import BadInput

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
    with pytest.raises(ValueError, match="read-only"):
        result[0, 0] = 1


def test_lazy_images_give_the_same_bytes(tmp_path: Path) -> None:
    take(tmp_path / "a.npy", Drawn(70))
    take(tmp_path / "b.npy", Drawn(70)[0:70])
    assert (tmp_path / "a.npy").read_bytes() == (tmp_path / "b.npy").read_bytes()


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


def test_rows_of_another_identity_are_not_taken_up(tmp_path: Path) -> None:
    path = tmp_path / "e.npy"
    with pytest.raises(KeyboardInterrupt):
        take(path, Drawn(100, stop=64))
    images = Drawn(100)
    take(path, images, identity={"model": "another"})
    assert images.made == 100


def test_a_cut_journal_line_is_not_believed(tmp_path: Path) -> None:
    path = tmp_path / "e.npy"
    with pytest.raises(KeyboardInterrupt):
        take(path, Drawn(400, stop=64), batch_size=4)
    (journal,) = tmp_path.glob("*.journal")
    lines = journal.read_bytes().split(b"\n")
    assert lines[1:] == [*(str(number).encode() for number in range(len(lines) - 2)), b""]
    journal.write_bytes(b"\n".join(lines[:-1]) + b"\n24")  # of batch 240
    whole = take(tmp_path / "whole.npy", Drawn(400), batch_size=4)
    assert np.array_equal(take(path, Drawn(400), batch_size=4), whole)
    journal.write_bytes(b"abc")  # killed within its first line, and no part file any more
    assert np.array_equal(take(path, Drawn(400), batch_size=4), whole)


def test_no_journal_speaks_of_rows_that_are_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    fsync, note = os.fsync, rows_file.Writer.note
    monkeypatch.setattr(os, "fsync", lambda handle: (order.append("rows"), fsync(handle))[1])
    monkeypatch.setattr(
        rows_file.Writer, "note", lambda self, lines: (order.append("note"), note(self, lines))[1]
    )
    monkeypatch.setattr(rows_file, "SECONDS_BETWEEN_SYNCS", 0.0)
    take(tmp_path / "e.npy", Drawn(48))
    assert order[:7] == ["note", *["rows", "note"] * 3]


LAUNCHED = """
import sys
from pathlib import Path
import torch
torch.set_num_threads(1)
sys.path.insert(0, {tests!r})
import vecaf_lib.encoders
from test_extract import Drawn, rows_file, take
rows_file.SECONDS_BETWEEN_SYNCS = 0.0
take(Path({path!r}), Drawn({count}, slow={slow}))
print("finished")
"""


def launch(tmp_path: Path, processes: int, count: int = 100, slow: float = 0.0) -> subprocess.Popen:
    script = tmp_path / "launched.py"
    path = str(tmp_path / "e.npy")
    tests = str(Path(__file__).parent)
    script.write_text(LAUNCHED.format(tests=tests, path=path, count=count, slow=slow))
    command = [sys.executable, str(script)]
    if processes > 1:
        options = [f"--nproc-per-node={processes}", "--standalone"]
        command[1:1] = ["-m", "torch.distributed.run", *options]
    return subprocess.Popen(
        command,
        env=os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"},
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def test_killed_as_one_process_and_resumed_as_two(tmp_path: Path) -> None:
    """Identical bytes, whoever computes them, in however many sittings."""
    take(tmp_path / "whole.npy", Drawn(400))
    victim = launch(tmp_path, 1, 400, slow=0.3)
    deadline = time.monotonic() + 60
    journal = tmp_path / ".e.npy.0.journal"
    while not (journal.exists() and journal.read_text().count("\n") > 2):
        assert victim.poll() is None, victim.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.killpg(victim.pid, signal.SIGKILL)
    victim.communicate()
    done = journal.read_text().count("\n") - 1
    assert 2 <= done < 25
    two = launch(tmp_path, 2, 400)
    output, _ = two.communicate(timeout=120)
    assert two.returncode == 0, output
    assert output.count("finished") == 2
    assert (tmp_path / "e.npy").read_bytes() == (tmp_path / "whole.npy").read_bytes()
    assert hidden(tmp_path) == []


def test_a_full_disk_is_seen_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = Drawn(100)
    room = 4 * 96 * 100
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=room - 1))
    with pytest.raises(
        BadInput, match=r"e\.npy needs 3\.84e-05 GB more, but its disk has 3\.84e-05"
    ):
        take(tmp_path / "e.npy", images)
    assert images.made == 0
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=room))
    assert len(take(tmp_path / "e.npy", images)) == 100


def test_a_disk_that_fills_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(
            BadInput, match=r"No room left on the disk that holds .*e\.npy: free some"
        ):
            take(tmp_path / "e.npy", Drawn(40))
    assert len(take(tmp_path / "e.npy", Drawn(40))) == 40


def test_no_images_and_no_numbers(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"e\.npy: there are no images to embed"):
        take(tmp_path / "e.npy", Drawn(0))
    broken = model()
    with torch.no_grad():
        next(broken.parameters()).fill_(float("nan"))
    with pytest.raises(BadInput, match=r"embeddings of images 0 to 15 are not finite"):
        take(tmp_path / "e.npy", Drawn(40), broken)


def test_a_few_batches_are_held_whatever_their_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[weakref.ref[Any]] = []
    most = 0

    def watch(thing: Any) -> Any:
        nonlocal most
        held.append(weakref.ref(thing))
        most = max(most, sum(one() is not None for one in held))
        return thing

    make, write = Drawn._make, rows_file.Writer.write
    monkeypatch.setattr(Drawn, "_make", lambda self, positions: watch(make(self, positions)))
    monkeypatch.setattr(
        rows_file.Writer, "write", lambda self, batch, rows: write(self, batch, watch(rows))
    )
    take(tmp_path / "e.npy", Drawn(160), batch_size=4)
    assert len(held) == 80
    assert 2 <= most <= 10  # of images: ahead, made and embedded; of rows: begun and written
