"""Caption files: what goes in comes out, and each fault has its sentence."""

from pathlib import Path

import pytest

from vecaf_lib.captions import read_captions, write_captions
from vecaf_lib.errors import BadInput

IDS = ["a", "b", "c", "d", "e"]
TEXTS = ["Plain", "With, comma", 'With "quotes"', "Zwei\nZeilen, größer", "  spaces "]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "captions.csv"


def test_round_trip_in_any_order(path: Path) -> None:
    write_captions(path, IDS, TEXTS)
    assert path.read_bytes().startswith(b"id,caption\na,Plain\n")
    assert read_captions(path, IDS) == TEXTS
    assert read_captions(path, IDS[::-1]) == TEXTS[::-1]


def test_files_of_other_programs(path: Path) -> None:
    path.write_bytes("\ufeffid,caption\r\nb,two\r\n\r\na,one\r\n".encode())
    assert read_captions(path, ["a", "b"]) == ["one", "two"]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"id,caption\na,\xff\xfe\n", "is not UTF-8 text"),
        (b"", "has the header 'nothing'; it must be id,caption"),
        (b"a,one\nb,two\n", "has the header 'a,one'; it must be id,caption"),
        (b"id,caption\na,one, two\n", "has 3 fields at line 2"),
        (b"id,caption\na\n", "has 1 fields at line 2"),
        (b'id,caption\na,"one"x\n', "is not a CSV file at line 2"),
        (b"id,caption\na,one\n", r"has no caption for 4 images \(b, c, d, \.\.\.\)"),
        (b"id,caption\na,1\nb,2\nc,3\nd,4\n", r"has no caption for 1 image \(e\)"),
        (b"id,caption\na,1\nb,\nc,3\nd, \ne,5\n", r"has an empty caption for 2 images \(b, d\)"),
        (b"id,caption\na,1\nx,2\ny,3\n", r"has captions for unknown 2 images \(x, y\)"),
        (b"id,caption\na,1\na,2\nb,3\n", r"has more than one caption for 1 image \(a\)"),
    ],
)
def test_faults(path: Path, content: bytes, sentence: str) -> None:
    path.write_bytes(content)
    with pytest.raises(BadInput, match=sentence) as raised:
        read_captions(path, IDS)
    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value)
    assert path.read_bytes() == content


def test_missing_file(path: Path) -> None:
    with pytest.raises(BadInput, match="is missing; it must hold a CSV"):
        read_captions(path, IDS)


@pytest.mark.parametrize(
    ("ids", "captions", "sentence"),
    [
        (["a", "b"], ["one"], "one caption an image: got 1 for 2"),
        (["a", "a"], ["one", "two"], r"more than one caption for 1 image \(a\)"),
        (["a", "b"], ["one", " "], r"an empty caption for 1 image \(b\)"),
    ],
)
def test_nothing_wrong_is_written(
    path: Path, ids: list[str], captions: list[str], sentence: str
) -> None:
    write_captions(path, IDS, TEXTS)
    with pytest.raises(BadInput, match=sentence):
        write_captions(path, ids, captions)
    assert read_captions(path, IDS) == TEXTS
    assert list(path.parent.iterdir()) == [path]
