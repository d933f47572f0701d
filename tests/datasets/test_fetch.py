"""Fetching from a server on this machine: whole, broken off, without ranges, wrong or absent."""

import errno
import hashlib
import io
import os
import shutil
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import get_args

import pytest
import yaml

from vecaf_lib.datasets import _download, cifar10
from vecaf_lib.datasets.corrupted import Corruption
from vecaf_lib.datasets.fetch import fetch, read_description
from vecaf_lib.errors import BadInput

DATA = Path(__file__).parents[2] / "data"
BODY = bytes(range(256)) * 1000  # 256,000 bytes
MD5 = hashlib.md5(BODY).hexdigest()


@dataclass
class Site:
    """A server, its faults, and what it was asked.

    Attributes:
        cut_after: bytes of each answer until the connection breaks off; None: never.
        cuts: how many answers break off.
    """

    url: str = ""
    body: bytes = BODY
    ranges: bool = True
    shift: int = 0  # of the place that an answer in parts begins at
    status: int = 200
    length: bool = True
    cut_after: int | None = None
    cuts: int = 10**6
    asked: list[str | None] = field(default_factory=list)


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    state = Site()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            wanted = self.headers.get("Range")
            state.asked.append(wanted)
            if state.status != 200:
                self.send_error(state.status)
                return
            start = 0
            if wanted and state.ranges:
                start = int(wanted.removeprefix("bytes=").rstrip("-"))
                if start >= len(state.body):
                    self.send_error(416)
                    return
                start += state.shift
                self.send_response(206)
                last = len(state.body) - 1
                self.send_header("Content-Range", f"bytes {start}-{last}/{len(state.body)}")
            else:
                self.send_response(200)
            coming = state.body[start:]
            if state.length:
                self.send_header("Content-Length", str(len(coming)))
            self.end_headers()
            if state.cut_after is not None and state.cuts > 0:
                state.cuts -= 1
                coming = coming[: state.cut_after]
            self.wfile.write(coming)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{server.server_port}/file.bin"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    monkeypatch.setattr(_download, "PAUSE", 0.0)
    monkeypatch.setattr(_download, "CHUNK", 10_000)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    yield state
    server.shutdown()
    thread.join()
    server.server_close()


def describe(data: Path, url: str, name: str = "thing", **changes: object) -> Path:
    out = {"path": f"raw/{name}/file.bin", "hash": "md5", "md5": MD5, "size": len(BODY)} | changes
    unpack = out.pop("unpack", None)
    content = {"frozen": True, "deps": [{"path": url}], "outs": [out | {"cache": False}]}
    if unpack:
        content["meta"] = {"unpack": unpack}
    path = data / f"{name}.dvc"
    path.write_text(yaml.safe_dump(content))
    return path


def file_of(data: Path) -> Path:
    return data / "raw/thing/file.bin"


def part_of(data: Path, content: bytes | None = None) -> Path:
    part = data / "raw/thing/file.bin.part"
    if content is not None:
        part.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(content)
    return part


def only_the_file(data: Path) -> bool:
    return [path.name for path in file_of(data).parent.iterdir()] == ["file.bin"]


def test_a_download_is_verified_and_not_repeated(
    tmp_path: Path, site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    describe(tmp_path, site.url)
    fetch("thing", tmp_path)
    assert file_of(tmp_path).read_bytes() == BODY
    assert only_the_file(tmp_path)
    assert "Downloaded and verified" in capsys.readouterr().out
    fetch("thing", tmp_path)
    assert "Already there, and verified" in capsys.readouterr().out
    assert site.asked == [None]


def test_a_broken_download_goes_on_by_itself(tmp_path: Path, site: Site) -> None:
    describe(tmp_path, site.url)
    site.cut_after, site.cuts = 100_000, 2
    fetch("thing", tmp_path)
    assert file_of(tmp_path).read_bytes() == BODY
    assert site.asked == [None, "bytes=100000-", "bytes=200000-"]


def test_a_download_goes_on_where_an_earlier_process_stopped(tmp_path: Path, site: Site) -> None:
    describe(tmp_path, site.url)
    part_of(tmp_path, BODY[:77_777])
    fetch("thing", tmp_path)
    assert file_of(tmp_path).read_bytes() == BODY
    assert site.asked == ["bytes=77777-"]
    assert only_the_file(tmp_path)


def test_a_part_that_is_whole_is_only_verified(tmp_path: Path, site: Site) -> None:
    describe(tmp_path, site.url)
    part_of(tmp_path, BODY)
    fetch("thing", tmp_path)
    assert site.asked == []
    assert file_of(tmp_path).read_bytes() == BODY


@pytest.mark.parametrize("known", [True, False], ids=["size known", "size unknown"])
def test_a_server_without_ranges_starts_again(tmp_path: Path, site: Site, known: bool) -> None:
    describe(tmp_path, site.url, **({} if known else {"size": None}))
    part_of(tmp_path, b"x" * 1234)
    site.ranges = False
    fetch("thing", tmp_path)
    assert file_of(tmp_path).read_bytes() == BODY
    assert site.asked == ["bytes=1234-"]


def test_a_server_that_sends_another_range_is_not_believed(tmp_path: Path, site: Site) -> None:
    describe(tmp_path, site.url, size=None)
    part_of(tmp_path, BODY[:5000])
    site.shift = -10
    fetch("thing", tmp_path)
    assert site.asked == ["bytes=5000-", None]
    assert file_of(tmp_path).read_bytes() == BODY


def test_a_part_longer_than_the_file_is_dropped(tmp_path: Path, site: Site) -> None:
    for number, size in enumerate((len(BODY), None)):  # the size is known, or the server refuses
        data = tmp_path / str(number)
        data.mkdir()
        describe(data, site.url, size=size)
        part_of(data, BODY + b"more")
        fetch("thing", data)
        assert file_of(data).read_bytes() == BODY


def test_without_a_length_the_end_is_believed_and_verified(tmp_path: Path, site: Site) -> None:
    describe(tmp_path, site.url)
    site.length = False
    site.cut_after = 100_000
    with pytest.raises(BadInput, match=r"has 100,000 bytes where .* has 256,000: it is truncated"):
        fetch("thing", tmp_path)
    site.cut_after = None
    fetch("thing", tmp_path)
    assert file_of(tmp_path).read_bytes() == BODY


def test_no_progress_ends_in_a_sentence_and_keeps_the_part(tmp_path: Path, site: Site) -> None:
    describe(tmp_path, site.url)
    part_of(tmp_path, BODY[:5000])
    site.cut_after = 0
    with pytest.raises(BadInput, match=r"at byte 5,000 of 256,000 .* kept in .*file\.bin\.part"):
        fetch("thing", tmp_path)
    assert len(site.asked) == _download.ATTEMPTS
    assert part_of(tmp_path).read_bytes() == BODY[:5000]
    site.cut_after = None
    fetch("thing", tmp_path)
    assert file_of(tmp_path).read_bytes() == BODY


def test_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_download, "PAUSE", 0.0)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    describe(tmp_path, "http://127.0.0.1:9/file.bin")  # nobody listens
    with pytest.raises(BadInput, match=r"could not be reached, .* when there is a network"):
        fetch("thing", tmp_path)
    assert list((tmp_path / "raw/thing").iterdir()) == []


def test_an_address_that_is_gone(tmp_path: Path, site: Site) -> None:
    describe(tmp_path, site.url)
    part_of(tmp_path, BODY[:5000])
    site.status = 404
    with pytest.raises(BadInput, match=r"answers 404 Not Found; .* put it at .*file\.bin\.$"):
        fetch("thing", tmp_path)
    assert part_of(tmp_path).read_bytes() == BODY[:5000]
    site.status = 503  # may pass: tried again
    asked = len(site.asked)
    with pytest.raises(BadInput, match="could not be reached"):
        fetch("thing", tmp_path)
    assert len(site.asked) - asked == _download.ATTEMPTS


def test_wrong_bytes_are_kept_aside_and_never_used(tmp_path: Path, site: Site) -> None:
    describe(tmp_path, site.url)
    site.body = BODY[:-1] + b"!"
    with pytest.raises(BadInput, match=rf"has the MD5 .* has {MD5}: .*file\.bin\.bad and not used"):
        fetch("thing", tmp_path)
    assert [path.name for path in file_of(tmp_path).parent.iterdir()] == ["file.bin.bad"]
    site.body = BODY
    fetch("thing", tmp_path)
    assert file_of(tmp_path).read_bytes() == BODY


def test_a_file_of_another_size_is_refused_before_it_comes(tmp_path: Path, site: Site) -> None:
    describe(tmp_path, site.url)
    site.body = b"<html>please log in</html>"
    with pytest.raises(BadInput, match="offers 26 bytes, but the published file has 256,000"):
        fetch("thing", tmp_path)
    assert list((tmp_path / "raw/thing").iterdir()) == []


def test_a_wrong_file_of_ones_own_is_named_not_overwritten(tmp_path: Path, site: Site) -> None:
    describe(tmp_path, site.url)
    file_of(tmp_path).parent.mkdir(parents=True)
    file_of(tmp_path).write_bytes(BODY[:9])
    with pytest.raises(BadInput, match=r"has 9 bytes .* truncated; remove it and fetch it again"):
        fetch("thing", tmp_path)
    assert file_of(tmp_path).read_bytes() == BODY[:9]
    assert site.asked == []


def test_no_room_is_seen_before_and_while_it_comes(
    tmp_path: Path, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    describe(tmp_path, site.url)
    part_of(tmp_path, BODY[:6000])
    with monkeypatch.context() as patch:
        patch.setattr(
            shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9, 249_999)
        )
        with pytest.raises(
            BadInput, match=r"250,000 bytes are still to come, and 249,999 are free"
        ):
            fetch("thing", tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(_download, "open_part", lambda path: FullDisk(path, room=50_000))
        with pytest.raises(BadInput, match="No room left on the disk"):
            fetch("thing", tmp_path)
    kept = part_of(tmp_path).read_bytes()
    assert len(kept) > 6000
    assert BODY.startswith(kept)
    fetch("thing", tmp_path)
    assert file_of(tmp_path).read_bytes() == BODY


class FullDisk(io.FileIO):
    """A file on a disk that takes a number of bytes more."""

    def __init__(self, path: Path, room: int) -> None:
        super().__init__(path, "ab")
        self._room = room

    def write(self, content: bytes) -> int:  # type: ignore[override]
        if len(content) > self._room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._room -= len(content)
        return super().write(content)


def test_two_downloads_of_one_file(tmp_path: Path, site: Site) -> None:
    describe(tmp_path, site.url)
    part = part_of(tmp_path, b"")
    with _download._only_one(part), pytest.raises(BadInput, match="by another process"):
        fetch("thing", tmp_path)


def tar_of(*names: str) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for name in names:
            info = tarfile.TarInfo(name)
            info.size = 3
            tar.addfile(info, io.BytesIO(b"jpg"))
    return file.getvalue()


def test_parts_of_a_set_are_unpacked_once(
    tmp_path: Path, site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    site.body = tar_of("snow/1/n01/a.JPEG", "fog/1/n01/a.JPEG")
    right = {"md5": hashlib.md5(site.body).hexdigest(), "size": len(site.body)}
    describe(
        tmp_path,
        site.url,
        "set_weather",
        path="raw/set/weather.tar",
        unpack={"folders": ["fog", "snow"]},
        **right,
    )
    fetch("set", tmp_path)
    assert (tmp_path / "raw/set/snow/1/n01/a.JPEG").read_bytes() == b"jpg"
    (tmp_path / "raw/set/weather.tar").unlink()  # may be deleted
    capsys.readouterr()
    fetch("set_weather", tmp_path)
    assert "Already there" in capsys.readouterr().out
    assert len(site.asked) == 1
    shutil.rmtree(tmp_path / "raw/set/fog")
    fetch("set", tmp_path)
    assert (tmp_path / "raw/set/fog/1/n01/a.JPEG").exists()
    assert len(site.asked) == 2


def test_sets_that_are_not_downloaded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "imagenet_c_noise.dvc").write_text("")  # not what `imagenet` means
    with pytest.raises(
        BadInput, match=r"licence .* image-net\.org.* train/ and val/.*VECAF_IMAGENET"
    ):
        fetch("imagenet", tmp_path)
    for name in ("digits", "folder", "corrupted"):
        fetch(name, tmp_path)
        assert len(capsys.readouterr().out.splitlines()) == 1
    with pytest.raises(BadInput, match="nothing is known of a data set 'cifar'; known are:"):
        fetch("cifar", tmp_path)


@pytest.mark.parametrize("text", ["", "[1", "deps: []\nouts: []", "outs: [{path: x}]", "a: 1"])
def test_a_description_that_lacks_something(tmp_path: Path, text: str) -> None:
    (tmp_path / "thing.dvc").write_text(text)
    with pytest.raises(BadInput, match=r"thing\.dvc does not describe a download"):
        fetch("thing", tmp_path)


def test_the_published_descriptions() -> None:
    found = {path.stem: read_description(path) for path in sorted(DATA.glob("*.dvc"))}
    parts = [f"imagenet_c_{part}" for part in ("blur", "digital", "extra", "noise", "weather")]
    assert list(found) == ["caltech101", "cifar10", *parts]
    for name, file in found.items():
        assert file.url.startswith("https://")
        assert len(bytes.fromhex(file.md5)) == 16
        assert file.path.parent == DATA / "raw" / ("imagenet_c" if name in parts else name)
    official = found["cifar10"]
    assert official.path.name == cifar10.ARCHIVE
    assert (official.md5, official.size) == (cifar10.ARCHIVE_MD5, cifar10.ARCHIVE_SIZE)
    folders = [folder for name in parts for folder in found[name].folders]
    assert sorted(folders) == sorted(get_args(Corruption))


def test_the_command_ends_in_one_sentence(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "vecaf_lib.datasets.fetch", "imagenet", "--data", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, cwd=DATA.parent)
    assert done.returncode == 1
    assert done.stderr.startswith("ImageNet is not downloaded")
    assert len(done.stderr.splitlines()) == 1


def test_dvc_reads_the_descriptions_and_agrees(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for path in DATA.glob("*.dvc"):
        shutil.copy(path, tmp_path / "data")
    (tmp_path / "data/digits").mkdir()
    stages = {"own": {"cmd": "echo", "deps": ["data/digits"]}}
    (tmp_path / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}))
    describe(tmp_path / "data", "https://example.org/file.bin")  # one that is there
    file_of(tmp_path / "data").parent.mkdir(parents=True)
    file_of(tmp_path / "data").write_bytes(BODY)
    script = """
from dvc.repo import Repo
repo = Repo.init(".", no_scm=True)
stages = {stage.relpath: stage for stage in repo.index.stages if stage.is_import}
own = stages.pop("data/thing.dvc")
with repo.lock:
    assert own.outs[0].status() == {}, own.outs[0].status()
    for stage in stages.values():
        assert stage.frozen, stage
        assert stage.md5 == stage.compute_md5(), (stage, stage.compute_md5())
        assert list(stage.outs[0].status().values()) == ["deleted"], stage.outs[0].status()
ran = repo.reproduce()  # with nothing fetched
print(len(stages), [stage.name for stage in ran])
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "7 ['own']"
