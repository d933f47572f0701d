"""Fetching from a server on this machine, and hostile or damaged archives, which leave no trace."""

import hashlib
import io
import shutil
import stat
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import get_args

import pytest
import yaml

from vecaf_lib.data import caltech101, cifar10
from vecaf_lib.data import fetch as module
from vecaf_lib.data.fetch import fetch, unpack
from vecaf_lib.data.load import Corruption
from vecaf_lib.errors import BadInput

DATA = Path(__file__).parents[2] / "data"
BODY = bytes(range(256)) * 1000  # 256,000 bytes
MD5 = hashlib.md5(BODY).hexdigest()


@dataclass
class Site:
    """A server, its faults, and the ranges of its requests."""

    url: str = ""
    body: bytes = BODY
    ranges: bool = True
    status: int = 200
    cut_after: int | None = None  # bytes of an answer, until its connection breaks off
    cuts: int = 10**6  # answers that break off
    requests: list[int] = field(default_factory=list)


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    state = Site()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            start = int(self.headers["Range"].removeprefix("bytes=").rstrip("-"))
            state.requests.append(start)
            if state.status != 200 or start >= len(state.body):
                self.send_error(state.status if state.status != 200 else 416)
                return
            start = start if state.ranges else 0
            self.send_response(206 if state.ranges else 200)
            coming = state.body[start:]
            if state.ranges:
                total = len(state.body)
                self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
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
    monkeypatch.setattr(module, "PAUSE", 0.0)
    monkeypatch.setattr(module, "CHUNK", 10_000)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    yield state
    server.shutdown()
    thread.join()
    server.server_close()


def file_of(data: Path) -> Path:
    return data / "raw/thing/file.bin"


def part_of(data: Path, content: bytes = b"") -> Path:
    part = data / "raw/thing/file.bin.part"
    if content:
        part.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(content)
    return part


def describe(data: Path, url: str, name: str = "thing", **changes: object) -> Path:
    out = {"path": f"raw/{name}/file.bin", "hash": "md5", "md5": MD5, "size": len(BODY)} | changes
    unpacking = out.pop("unpack", {})
    content = {"frozen": True, "deps": [{"path": url}], "outs": [out | {"cache": False}]}
    path = data / f"{name}.dvc"
    path.write_text(yaml.safe_dump(content | {"meta": {"unpack": unpacking}}))
    return path


def test_a_download_is_verified_and_not_repeated(tmp_path: Path, site: Site) -> None:
    describe(tmp_path, site.url)
    for _ in range(2):
        fetch("thing", tmp_path)
        assert file_of(tmp_path).read_bytes() == BODY
        assert [path.name for path in file_of(tmp_path).parent.iterdir()] == ["file.bin"]
    assert site.requests == [0]


@pytest.mark.parametrize(
    ("part", "ranges", "requests"),
    [
        (b"", True, [0, 100_000, 200_000]),  # it goes on by itself
        (BODY[:77_777], True, [77_777]),  # of an earlier process
        (BODY, True, []),  # whole, and only verified
        (b"x" * 1234, False, [1234]),  # the server sends the whole file
        (BODY + b"more", True, [256_004, 0]),  # the server refuses the range
    ],
    ids=["none", "earlier", "whole", "no ranges", "too long"],
)
def test_a_part_that_is_there(
    tmp_path: Path, site: Site, part: bytes, ranges: bool, requests: list[int]
) -> None:
    describe(tmp_path, site.url)
    part_of(tmp_path, part)
    site.ranges = ranges
    site.cut_after, site.cuts = 100_000, 0 if part else 2
    fetch("thing", tmp_path)
    assert file_of(tmp_path).read_bytes() == BODY
    assert site.requests == requests


@pytest.mark.parametrize("status", [404, 503, None])
def test_an_address_that_is_gone_or_busy(tmp_path: Path, site: Site, status: int | None) -> None:
    describe(tmp_path, site.url if status else "http://127.0.0.1:9/file.bin")  # nobody listens
    part_of(tmp_path, BODY[:5000])
    site.status = status or 0
    with pytest.raises(
        BadInput, match=f"{status or 'refused'}.* 5,000 of 256,000 bytes; or put it at "
    ):
        fetch("thing", tmp_path)
    assert part_of(tmp_path).read_bytes() == BODY[:5000]


def test_wrong_bytes_are_never_used(tmp_path: Path, site: Site) -> None:
    describe(tmp_path, site.url)
    site.body = BODY[:-1] + b"!"
    with pytest.raises(BadInput, match=rf"published file has {MD5}"):
        fetch("thing", tmp_path)
    assert list(file_of(tmp_path).parent.iterdir()) == []
    site.body = BODY
    fetch("thing", tmp_path)
    assert file_of(tmp_path).read_bytes() == BODY


def test_no_room(tmp_path: Path, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    describe(tmp_path, site.url)
    part_of(tmp_path, BODY[:6000])
    little = shutil._ntuple_diskusage(10**9, 10**9, 249_999)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: little)
    with pytest.raises(BadInput, match=r"needs 250,000 bytes and has 249,999"):
        fetch("thing", tmp_path)
    assert part_of(tmp_path).read_bytes() == BODY[:6000]


def test_parts_of_a_set_are_unpacked_once(tmp_path: Path, site: Site) -> None:
    tar_of(tmp_path / "a.tar", "snow/1/n01/a.JPEG", "fog/1/n01/a.JPEG")
    site.body = (tmp_path / "a.tar").read_bytes()
    right = {"md5": hashlib.md5(site.body).hexdigest(), "size": len(site.body)}
    right |= {"path": "raw/set/weather.tar", "unpack": {"folders": ["fog", "snow"]}}
    describe(tmp_path, site.url, "set_weather", **right)
    fetch("set", tmp_path)
    assert (tmp_path / "raw/set/snow/1/n01/a.JPEG").read_bytes() == BODY
    (tmp_path / "raw/set/weather.tar").unlink()  # may be deleted
    fetch("set_weather", tmp_path)
    assert len(site.requests) == 1
    shutil.rmtree(tmp_path / "raw/set/fog")
    fetch("set", tmp_path)
    assert (tmp_path / "raw/set/fog/1/n01/a.JPEG").exists()
    assert len(site.requests) == 2


def test_sets_that_are_not_downloaded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "imagenet_c_noise.dvc").write_text("")  # not what `imagenet` means
    with pytest.raises(BadInput, match=r"licence .* image-net\.org .*VECAF_IMAGENET"):
        fetch("imagenet", tmp_path)
    for name in ("digits", "folder", "corrupted"):
        fetch(name, tmp_path)
        assert name in capsys.readouterr().out
    with pytest.raises(BadInput, match="did you mean 'cifar10'"):
        fetch("cifar", tmp_path)


def test_the_published_descriptions(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    downloads: dict[str, tuple[str, str]] = {}
    folders: list[str] = []
    monkeypatch.setattr(
        module, "download", lambda url, path, md5, size: downloads.update({path.name: (url, md5)})
    )
    monkeypatch.setattr(module, "unpack", lambda archive, names, inner: folders.extend(names))
    for path in DATA.glob("*.dvc"):
        shutil.copy(path, tmp_path)
    for name in ("caltech101", "cifar10", "imagenet_c"):
        fetch(name, tmp_path)
    assert len(downloads) == 7
    assert downloads[cifar10.ARCHIVE][1] == cifar10.MD5[cifar10.ARCHIVE]
    assert all(url.startswith("https://") and len(md5) == 32 for url, md5 in downloads.values())
    assert sorted(folders) == sorted([caltech101.FOLDER, *get_args(Corruption)])


def tar_of(path: Path, *members: tarfile.TarInfo | str) -> Path:
    with tarfile.open(path, "w:" + {".gz": "gz", ".xz": "xz"}.get(path.suffix, "")) as tar:
        for member in members:
            info = tarfile.TarInfo(member) if isinstance(member, str) else member
            info.size = len(BODY) if info.isreg() else 0
            tar.addfile(info, io.BytesIO(BODY))
    return path


def zip_of(path: Path, *members: zipfile.ZipInfo | str) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as bundle:
        for member in members:
            bundle.writestr(member, BODY)
    return path


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz", "a.tar.xz", "a.zip"])
def test_folders_appear_beside_the_archive(tmp_path: Path, name: str) -> None:
    make = zip_of if name.endswith("zip") else tar_of
    archive = make(tmp_path / name, "one/1/x.jpg", "two/y.jpg", "three/z.jpg", "readme.txt")
    (tmp_path / "two").mkdir()  # kept as it is
    unpack(archive, ("one", "two"))
    files = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.*")}
    assert files == {name, "one/1/x.jpg"}
    assert (tmp_path / "one/1/x.jpg").read_bytes() == BODY


def test_an_archive_within_a_zip(tmp_path: Path) -> None:
    images = tar_of(tmp_path / "images.tar.gz", "images/cat/1.jpg")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as bundle:
        bundle.write(images, "top/images.tar.gz")
    unpack(tmp_path / "a.zip", ("images",), "top/images.tar.gz")
    assert (tmp_path / "images/cat/1.jpg").read_bytes() == BODY
    with pytest.raises(BadInput, match=r"images\.tar\.xz"):
        unpack(tmp_path / "a.zip", ("images",), "top/images.tar.xz")


@pytest.mark.parametrize("kind", ["tar", "zip"])
@pytest.mark.parametrize("name", ["../evil", "one/../../evil", "/tmp/vecaf-evil", "one\\..\\evil"])
def test_a_path_that_leads_outside(tmp_path: Path, name: str, kind: str) -> None:
    folder = tmp_path / "deep" / "er"
    folder.mkdir(parents=True)
    archive = (tar_of if kind == "tar" else zip_of)(folder / "a", "one/x.jpg", name)
    with suppress(BadInput):  # a tar is refused, of a zip this file is left out
        unpack(archive, ("one",))
    assert {path.name for path in folder.iterdir()} <= {"a", "one"}
    for place in (tmp_path, folder.parent, Path("/tmp")):
        assert not list(place.glob("*evil*"))


@pytest.mark.parametrize(
    "member",
    [
        special("one/link", tarfile.SYMTYPE, "/etc/passwd"),
        special("one/link", tarfile.SYMTYPE, "../../../x"),
        special("one/link", tarfile.LNKTYPE, "../../x"),
        special("one/pipe", tarfile.FIFOTYPE),
        special("one/disk", tarfile.BLKTYPE),
        special("elsewhere", tarfile.SYMTYPE, "/etc"),
    ],
    ids=["absolute link", "relative link", "hard link", "pipe", "disk", "link of a folder"],
)
def test_links_outside_and_devices_in_a_tar(tmp_path: Path, member: tarfile.TarInfo) -> None:
    refused(tar_of(tmp_path / "a.tar.gz", "one/x.jpg", member), "not to be trusted")


def test_a_link_in_a_zip_is_no_link(tmp_path: Path) -> None:
    info = zipfile.ZipInfo("one/link")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    unpack(zip_of(tmp_path / "a.zip", info), ("one",))
    assert not (tmp_path / "one/link").is_symlink()


@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz", "a.tar.xz", "a.zip"])
@pytest.mark.parametrize("share", [0.0, 0.7])
def test_a_truncated_archive(tmp_path: Path, name: str, share: float) -> None:
    archive = (zip_of if name.endswith("zip") else tar_of)(tmp_path / name, "one/x", "one/y")
    archive.write_bytes(archive.read_bytes()[: int(archive.stat().st_size * share)])
    refused(archive, "is damaged")


def test_a_flipped_byte_and_an_archive_of_something_else(tmp_path: Path) -> None:
    archive = zip_of(tmp_path / "a.zip", "one/x")
    content = bytearray(archive.read_bytes())
    content[60] ^= 0xFF
    archive.write_bytes(content)
    refused(archive, "is damaged")
    archive.unlink()
    refused(tar_of(tmp_path / "a.tar", "three/x"), "holds no folder one")


def refused(archive: Path, sentence: str) -> None:
    with pytest.raises(BadInput, match=sentence) as raised:
        unpack(archive, ("one",))
    assert archive.name in str(raised.value)
    assert list(archive.parent.iterdir()) == [archive]
