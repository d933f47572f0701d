"""Caption files: what goes in comes out, and each fault has its sentence."""

import csv
import json
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
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("id", "caption"), *zip(IDS, TEXTS, strict=True)])
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
    with pytest.raises(
        BadInput,
        match=r"is missing or no file; it must be a CSV with the header id,caption, or a \.jsonl",
    ):
        read_captions(path, IDS)


def test_json_lines_of_ours_and_of_others(tmp_path: Path) -> None:
    path = tmp_path / "captions.jsonl"
    lines = [json.dumps({"caption": text, "id": id_}) for id_, text in zip(IDS, TEXTS, strict=True)]
    path.write_text("\n".join(lines), encoding="utf-8")
    assert read_captions(path, IDS[::-1]) == TEXTS[::-1]
    path.write_text("\n".join(['{"captions": {"captioner": "x"}}', *lines, ""]), encoding="utf-8")
    assert read_captions(path, IDS) == TEXTS
    path.write_bytes('\ufeff{"id": "a", "caption": "größer\u2028x", "score": 1}\r\n'.encode())
    assert read_captions(path, ["a"]) == ["größer\u2028x"]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b'{"id": "a", "caption": "\xff"}', "is not UTF-8 text"),
        (b'{"id": "a", "caption": "x"}\n{"id": "b", ', "is not JSON at line 2"),
        (b'{"id": "a", "caption": "x"}\n{"id": 2, "caption": "x"}', "no id and caption at line 2"),
        (b'{"id": "a", "text": "x"}\n', "no id and caption at line 1"),
        (b'["a", "x"]\n', "no id and caption at line 1"),
        (b'{"id": "a", "caption": "x"}\n', r"has no caption for 4 images \(b, c, d, \.\.\.\)"),
        (b'{"id": "a", "caption": "x"}\n' * 2, r"more than one caption for 1 image \(a\)"),
        (b'{"id": "z", "caption": "x"}\n', r"captions for unknown 1 image \(z\)"),
    ],
)
def test_faults_in_json_lines(tmp_path: Path, content: bytes, sentence: str) -> None:
    path = tmp_path / "captions.jsonl"
    path.write_bytes(content)
    with pytest.raises(BadInput, match=sentence) as raised:
        read_captions(path, IDS)
    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_written_and_read_again(tmp_path: Path) -> None:
    path = tmp_path / "captions.jsonl"
    write_captions(path, IDS, TEXTS, record={"captioner": "file"})
    first, second, *_ = path.read_text(encoding="utf-8").splitlines()
    assert json.loads(first) == {"captions": {"captioner": "file"}}
    assert second == '{"caption": "Plain", "id": "a"}'
    assert "größer" in path.read_text(encoding="utf-8")
    assert read_captions(path, IDS[::-1]) == TEXTS[::-1]
    odd = ["name\udcff.jpg"]  # how Python reads a file's name that is not UTF-8
    write_captions(path, odd, ["x"], record={})
    assert read_captions(path, odd) == ["x"]


@pytest.mark.parametrize(
    ("ids", "captions", "sentence"),
    [
        (["a", "b"], ["one"], "one caption an image: got 1 for 2"),
        (["a", "a"], ["one", "two"], r"more than one caption for 1 image \(a\)"),
        (["a", "b"], ["one", " "], r"an empty caption for 1 image \(b\)"),
    ],
)
def test_nothing_wrong_is_written(
    tmp_path: Path, ids: list[str], captions: list[str], sentence: str
) -> None:
    path = tmp_path / "captions.jsonl"
    write_captions(path, IDS, TEXTS, record={})
    with pytest.raises(BadInput, match=sentence):
        write_captions(path, ids, captions, record={})
    assert read_captions(path, IDS) == TEXTS
    assert list(path.parent.iterdir()) == [path]
