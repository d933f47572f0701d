"""Captioning a pool: the same bytes after any stop, and nothing that was made is lost."""

import errno
import json
import os
import socket
import warnings
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import PartialState
from torch import Tensor

from vecaf_lib.captions import Captioner, caption_all, journal, read_captions
from vecaf_lib.datasets import ImageSet
from vecaf_lib.datasets.lazy import ResizedImages
from vecaf_lib.errors import BadInput

pytestmark = pytest.mark.filterwarnings("ignore:.*got no caption")


class Shades(Captioner):
    """Tells the first pixel, and where in its batch the image stood; may be stopped."""

    def __init__(self, *, style: str = "plain", stop_at: int | None = None) -> None:
        self.style, self.stop_at = style, stop_at
        self.seen: list[int] = []

    def record(self) -> dict[str, Any]:
        return {"captioner": "shades", "style": self.style}

    def __call__(self, images: Tensor) -> list[str]:
        shades = images[:, 0, 0, 0].tolist()
        if self.stop_at in shades:
            raise KeyboardInterrupt
        self.seen += shades
        return [
            "" if shade % 5 == 4 else f"{self.style} größe {shade}, {at} of {len(shades)}"
            for at, shade in enumerate(shades)
        ]


def pool_of(size: int, *, lazy: bool = False, edge: int = 2) -> ImageSet:
    images = torch.arange(size, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 3, edge, edge)
    return ImageSet(
        images=ResizedImages(images, edge) if lazy else images,
        labels=torch.zeros(size, dtype=torch.int64),
        ids=tuple(f"train/{number:02d}.jpg" for number in range(size)),
        class_names=("all",),
    )


def run(path: Path, captioner: Captioner, pool: ImageSet, **options: Any) -> list[str]:
    with pytest.warns(UserWarning, match="images got no caption"):
        return caption_all(captioner, pool, path, batch_size=4, **options)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "captions.jsonl"


@pytest.fixture
def whole(tmp_path: Path) -> bytes:
    """The file of a run that nothing interrupted."""
    path = tmp_path / "uninterrupted" / "captions.jsonl"
    run(path, Shades(), pool_of(14))
    return path.read_bytes()


def test_what_is_stored_and_returned(path: Path) -> None:
    pool = pool_of(14)
    with pytest.warns(UserWarning, match="2 images got no caption") as warned:
        captions = caption_all(Shades(), pool, path, batch_size=4, identity={"sha256": "ab"})
    assert captions[3] == "plain größe 3, 3 of 4"
    assert captions[13] == "plain größe 13, 1 of 2"
    assert captions[4] == captions[9] == "a picture"
    assert "train/04.jpg, train/09.jpg." in str(warned[0].message)
    assert read_captions(path, pool.ids) == captions
    header, *lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    assert header["captions"] == Shades().record()
    assert header["images"] == {"height": 2, "width": 2, "sha256": "ab"}
    assert [line["id"] for line in lines] == list(pool.ids)
    assert [at for at, line in enumerate(lines) if "empty" in line] == [4, 9]


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize("cut", [0, 1, 30])
def test_the_same_bytes_after_a_stop(path: Path, whole: bytes, lazy: bool, cut: int) -> None:
    stopped = Shades(stop_at=9)
    with pytest.raises(KeyboardInterrupt):
        caption_all(stopped, pool_of(14, lazy=lazy), path, batch_size=4)
    assert stopped.seen == list(range(8))
    content = path.read_bytes()
    assert content.count(b"\n") == 9  # header and two batches
    path.write_bytes(content[: len(content) - cut])  # as if killed in the middle of the write
    second = Shades()
    captions = run(path, second, pool_of(14, lazy=lazy))
    # a batch that was cut is made again whole, so that its images stand where they stood
    assert second.seen == list(range(4 if cut else 8, 14))
    assert path.read_bytes() == whole
    assert captions == read_captions(path, pool_of(14).ids)


def test_the_same_bytes_after_many_stops(path: Path, whole: bytes) -> None:
    for stop_at in (5, 9, 13):
        with pytest.raises(KeyboardInterrupt):
            caption_all(Shades(stop_at=stop_at), pool_of(14), path, batch_size=4)
        with path.open("ab") as file:
            file.write(b'{"caption": "pla')  # killed in the middle of the write
    run(path, Shades(), pool_of(14))
    assert path.read_bytes() == whole


def test_a_finished_file_is_left_alone(path: Path, whole: bytes) -> None:
    run(path, Shades(), pool_of(14))
    before = path.stat()
    again = Shades()
    run(path, again, pool_of(14))
    assert again.seen == []
    assert path.read_bytes() == whole
    assert path.stat().st_ino == before.st_ino
    assert path.stat().st_mtime_ns == before.st_mtime_ns


def test_a_file_cut_in_its_first_line_starts_anew(path: Path, whole: bytes) -> None:
    path.write_bytes(whole[:20])
    run(path, Shades(), pool_of(14))
    assert path.read_bytes() == whole
    assert list(path.parent.glob("*superseded*")) == []


def test_other_captions_are_moved_aside_not_lost(path: Path, whole: bytes) -> None:
    run(path, Shades(), pool_of(14))
    with pytest.warns(UserWarning, match="were made in another way; moved to captions.superseded"):
        captions = caption_all(Shades(style="terse"), pool_of(14), path, batch_size=4)
    assert captions[0].startswith("terse")
    assert path.with_name("captions.superseded.jsonl").read_bytes() == whole
    with pytest.warns(UserWarning, match=r"moved to captions.superseded-2.jsonl"):
        caption_all(Shades(style="terse"), pool_of(14, edge=3), path, batch_size=4)  # larger images
    with pytest.warns(UserWarning, match=r"moved to captions.superseded-3.jsonl"):
        caption_all(
            Shades(style="terse"), pool_of(14, edge=3), path, batch_size=4, identity={"of": "b"}
        )
    assert path.with_name("captions.superseded.jsonl").read_bytes() == whole


def test_captions_of_the_images_that_remain_are_kept(path: Path) -> None:
    more, fewer = Shades(), Shades()
    run(path, Shades(), pool_of(14))
    run(path, more, pool_of(16))
    assert more.seen == [12, 13, 14, 15]  # the batch that was short before
    large = path.read_bytes()
    with pytest.warns(UserWarning, match="include images that are not in the pool now"):
        caption_all(fewer, pool_of(12), path, batch_size=4)
    assert fewer.seen == []
    assert path.with_name("captions.superseded.jsonl").read_bytes() == large
    assert path.read_bytes() == b"".join(large.splitlines(keepends=True)[:13])


def test_a_file_damaged_in_the_middle_is_refused_and_kept(path: Path, whole: bytes) -> None:
    damaged = whole.replace(b"{", b"", 3).replace(b'"caption"', b'{"caption"', 1)
    path.write_bytes(damaged)
    with pytest.raises(BadInput, match=r"is damaged at line \d .*; correct that line, or move"):
        caption_all(Shades(), pool_of(14), path, batch_size=4)
    assert path.read_bytes() == damaged


def test_a_full_disk_keeps_what_is_stored(
    path: Path, whole: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, writes = os.write, iter([None, OSError(errno.ENOSPC, "full")])

    def full(handle: int, data: bytes) -> int:
        problem = next(writes)
        if problem is None:
            return real(handle, data)
        real(handle, data[:25])  # a part still went in
        raise problem

    monkeypatch.setattr(journal.os, "write", full)
    with pytest.raises(BadInput, match=r"No room left on the disk.* the 4 captions made so far"):
        caption_all(Shades(), pool_of(14), path, batch_size=4)
    monkeypatch.undo()
    assert path.read_bytes().count(b"\n") == 5
    assert path.read_bytes().endswith(b"\n")
    rest = Shades()
    run(path, rest, pool_of(14))
    assert rest.seen == list(range(4, 14))
    assert path.read_bytes() == whole


def test_too_few_captions_are_not_shifted_to_other_images(path: Path) -> None:
    class Short(Shades):
        def __call__(self, images: Tensor) -> list[str]:
            return super().__call__(images)[1:]

    with pytest.raises(ValueError, match="zip"):
        caption_all(Short(), pool_of(14), path, batch_size=4)
    assert path.read_bytes().count(b"\n") == 1


def test_the_bar_counts_images(path: Path) -> None:
    steps: list[Any] = []

    class Bar:
        def update(self, count: int) -> None:
            steps.append(count)

        def close(self) -> None:
            steps.append("closed")

    with pytest.raises(KeyboardInterrupt):
        caption_all(Shades(stop_at=9), pool_of(14), path, batch_size=4)
    run(path, Shades(), pool_of(14), bar=lambda total, name: steps.append((total, name)) or Bar())
    assert steps == [(14, "captions"), 8, 4, 2, "closed"]


def one_of_two(rank: int, port: int, path: Path, seen: Any) -> None:
    PartialState._reset_state()  # the parent's, of one process
    os.environ |= {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "ACCELERATE_USE_CPU": "true"}
    warnings.simplefilter("ignore")
    captioner, pool = Shades(), pool_of(14, lazy=True)
    captions = caption_all(captioner, pool, path, batch_size=4)
    assert captions == read_captions(path, pool.ids)
    seen.put((rank, captioner.seen))


def test_two_processes_share_the_batches_and_write_the_same_bytes(path: Path, whole: bytes) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    forks = get_context("fork")
    seen = forks.Queue()
    processes = [
        forks.Process(target=one_of_two, args=(rank, port, path, seen)) for rank in range(2)
    ]
    for process in processes:
        process.start()
    try:
        for process in processes:
            process.join(timeout=60)
        assert [process.exitcode for process in processes] == [0, 0]
    finally:
        for process in processes:
            process.kill()
    shares = dict(seen.get(timeout=5) for _ in processes)
    assert shares == {0: [0, 1, 2, 3, 8, 9, 10, 11], 1: [4, 5, 6, 7, 12, 13]}
    assert path.read_bytes() == whole
