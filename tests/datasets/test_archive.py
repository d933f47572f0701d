"""Archives: nothing that is damaged, foreign or leads outside leaves a trace."""

import hashlib
import io
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest

from vecaf_lib.datasets._archive import md5_file, read_members, unpack, verify
from vecaf_lib.errors import BadInput

CONTENT = bytes(range(256)) * 40


def tar_of(path: Path, *members: tarfile.TarInfo | str, mode: str = "w:gz") -> Path:
    with tarfile.open(path, mode) as tar:
        for member in members:
            info = tarfile.TarInfo(member) if isinstance(member, str) else member
            if info.isreg():
                info.size = len(CONTENT)
            tar.addfile(info, io.BytesIO(CONTENT))
    return path


def zip_of(path: Path, *members: zipfile.ZipInfo | str) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as bundle:
        for member in members:
            bundle.writestr(member, CONTENT)
    return path


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def linked(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    return info


def test_verify_names_what_differs(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(CONTENT)
    md5 = hashlib.md5(CONTENT).hexdigest()
    verify(path, md5=md5, size=len(CONTENT))
    verify(path, md5=md5)
    with pytest.raises(BadInput, match=r"has 10,240 bytes where .* has 10,241: it is truncated"):
        verify(path, md5=md5, size=len(CONTENT) + 1)
    with pytest.raises(BadInput, match="has 10,239: it is another file"):
        verify(path, md5=md5, size=len(CONTENT) - 1)
    with pytest.raises(BadInput, match=f"has the MD5 {md5} where .* has {'0' * 32}: .*damaged"):
        verify(path, md5="0" * 32, size=len(CONTENT))
    assert md5_file(path) == md5


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:xz"])
def test_a_tar_is_unpacked_where_it_is_wanted(tmp_path: Path, mode: str) -> None:
    archive = tar_of(tmp_path / "a.tar", "./one/1/x.jpg", "two/y.jpg", "readme.txt", mode=mode)
    target = tmp_path / "out"
    unpack(archive, target, ["one", "two"])
    found = {path.relative_to(target).as_posix() for path in target.rglob("*") if path.is_file()}
    assert found == {"one/1/x.jpg", "two/y.jpg"}
    assert (target / "one/1/x.jpg").read_bytes() == CONTENT
    assert sorted(path.name for path in target.iterdir()) == ["one", "two"]  # nothing hidden


def test_an_archive_within_a_zip(tmp_path: Path) -> None:
    inner = tar_of(tmp_path / "images.tar.gz", "images/cat/1.jpg")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as bundle:
        bundle.write(inner, "top/images.tar.gz")
        bundle.writestr("top/other.txt", "x")
    unpack(tmp_path / "a.zip", tmp_path / "out", ["images"], inner="top/images.tar.gz")
    assert (tmp_path / "out/images/cat/1.jpg").read_bytes() == CONTENT
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["images"]
    with pytest.raises(BadInput, match=r"holds no top/images\.tar\.xz; it is another archive"):
        unpack(tmp_path / "a.zip", tmp_path / "out2", ["images"], inner="top/images.tar.xz")


def test_a_folder_that_is_there_is_kept_and_a_missing_one_is_added(tmp_path: Path) -> None:
    archive = tar_of(tmp_path / "a.tar.gz", "one/x.jpg", "two/y.jpg")
    mine = tmp_path / "one/mine.txt"
    mine.parent.mkdir()
    mine.write_text("kept")
    unpack(archive, tmp_path, ["one", "two"])
    assert mine.read_text() == "kept"
    assert not (tmp_path / "one/x.jpg").exists()
    assert (tmp_path / "two/y.jpg").exists()


OUTSIDE = ["../evil", "one/../../evil", "/tmp/vecaf-evil", "one\\..\\evil"]


@pytest.mark.parametrize("name", OUTSIDE)
@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_a_path_that_leads_outside(tmp_path: Path, name: str, kind: str) -> None:
    make = tar_of if kind == "tar" else zip_of
    archive = make(tmp_path / f"a.{kind}", "one/x.jpg", name)
    refused(archive, tmp_path, "holds a path that leads outside")


@pytest.mark.parametrize(
    ("member", "sentence"),
    [
        (special("one/link", tarfile.SYMTYPE, "/etc/passwd"), r"holds a link \(one/link\)"),
        (special("one/link", tarfile.SYMTYPE, "x.jpg"), r"holds a link \(one/link\)"),
        (special("one/link", tarfile.LNKTYPE, "one/x.jpg"), r"holds a link \(one/link\)"),
        (special("one/pipe", tarfile.FIFOTYPE), r"holds a device \(one/pipe\)"),
        (special("one/disk", tarfile.BLKTYPE), r"holds a device \(one/disk\)"),
        (special("elsewhere", tarfile.SYMTYPE, "/etc"), r"holds a link \(elsewhere\)"),
    ],
)
def test_links_and_devices_in_a_tar(tmp_path: Path, member: tarfile.TarInfo, sentence: str) -> None:
    refused(tar_of(tmp_path / "a.tar.gz", "one/x.jpg", member), tmp_path, sentence)


def test_a_link_in_a_zip(tmp_path: Path) -> None:
    archive = zip_of(tmp_path / "a.zip", "one/x.jpg", linked("one/link"))
    refused(archive, tmp_path, r"holds a link \(one/link\)")


@pytest.mark.parametrize("kind", ["tar", "zip"])
@pytest.mark.parametrize("share", [0.1, 0.4, 0.7])
def test_a_truncated_archive(tmp_path: Path, kind: str, share: float) -> None:
    archive = (tar_of if kind == "tar" else zip_of)(tmp_path / f"a.{kind}", "one/x", "one/y")
    archive.write_bytes(archive.read_bytes()[: int(archive.stat().st_size * share)])
    refused(archive, tmp_path, "is damaged or truncated")


def test_a_flipped_byte_in_a_zip(tmp_path: Path) -> None:
    archive = zip_of(tmp_path / "a.zip", "one/x")
    content = bytearray(archive.read_bytes())
    content[60] ^= 0xFF
    archive.write_bytes(content)
    refused(archive, tmp_path, "is damaged or truncated")


def test_an_archive_of_something_else(tmp_path: Path) -> None:
    refused(tar_of(tmp_path / "a.tar", "three/x"), tmp_path, "holds no folder one; it is another")
    (tmp_path / "text.tar").write_text("not an archive")
    refused(tmp_path / "text.tar", tmp_path, "is damaged or truncated")


def test_members_are_read_without_unpacking(tmp_path: Path) -> None:
    archive = tar_of(
        tmp_path / "a.tar.gz", "top/x", "top/y", special("top/z", tarfile.SYMTYPE, "x")
    )
    assert read_members(archive, ["top/y"]) == {"top/y": CONTENT}
    for name in ("top/none", "top/z"):  # a link is no file
        with pytest.raises(BadInput, match=f"holds no {name}"):
            read_members(archive, ["top/x", name])
    archive.write_bytes(archive.read_bytes()[:200])
    with pytest.raises(BadInput, match="is damaged or truncated"):
        read_members(archive, ["top/y"])
    assert [path.name for path in tmp_path.iterdir()] == ["a.tar.gz"]


def refused(archive: Path, tmp_path: Path, sentence: str) -> None:
    target = tmp_path / "deep/out"
    with pytest.raises(BadInput, match=sentence) as raised:
        unpack(archive, target, ["one"])
    assert archive.name in str(raised.value)
    assert list(target.iterdir()) == []
    assert not list(tmp_path.rglob("*evil*"))
    assert not Path("/tmp/vecaf-evil").exists()
