"""Captions of a pool: the same bytes after any stop; in a file, what goes in comes out."""

import csv
import json
import os
import signal
import socket
import subprocess
import sys
import warnings
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import PartialState
from torch import Tensor

from vecaf_lib.captions import (
    Captioner,
    locate,
    make,
    option_schema,
    part_of,
    read_captions,
    with_class_name,
    write_captions,
)
from vecaf_lib.captions import caption_all as caption_pool
from vecaf_lib.data.images import ImageSet, ResizedImages
from vecaf_lib.errors import BadInput

ROOT = Path(__file__).parents[2]
IDS = ["a", "b", "c", "d", "e"]
TEXTS = ["Plain", "With, comma", 'With "quotes"', "Zwei\nZeilen, größer", "  spaces "]
pytestmark = pytest.mark.filterwarnings("ignore:.*got no caption")


class Shades(Captioner):
    """Names the first pixel, and where in its batch the image stands; may be stopped."""

    def __init__(self, style: str = "plain", stop_at: int | None = None) -> None:
        self.style, self.stop_at = style, stop_at
        self.record = {"captioner": "shades", "style": style}
        self.captioned: list[int] = []

    def __call__(self, images: Tensor) -> list[str]:
        shades = images[:, 0, 0, 0].tolist()
        if self.stop_at in shades:
            raise KeyboardInterrupt
        self.captioned += shades
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


def caption_all(
    captioner: Captioner, pool: ImageSet, folder: Path, *, identity: Any = None, bar: Any = int
) -> list[str]:
    return caption_pool(captioner, pool, folder, batch_size=4, identity=identity or {}, bar=bar)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture
def whole(tmp_path: Path) -> tuple[list[str], dict[str, bytes]]:
    """Captions and stored batches of a run that nothing interrupted."""
    folder = tmp_path / "uninterrupted"
    return caption_all(Shades(), pool_of(14), folder), contents(folder)


def test_what_is_returned(tmp_path: Path) -> None:
    class Short(Shades):
        def __call__(self, images: Tensor) -> list[str]:
            return super().__call__(images)[1:]

    with pytest.raises(ValueError, match="zip"):  # no caption is shifted to another image
        caption_all(Short(), pool_of(14), tmp_path / "parts")
    assert contents(tmp_path) == {}
    with pytest.warns(UserWarning, match="2 images got no caption") as warned:
        captions = caption_all(Shades(), pool_of(14), tmp_path / "parts")
    assert captions[3] == "plain größe 3, 3 of 4"
    assert captions[13] == "plain größe 13, 1 of 2"
    assert captions[4] == captions[9] == "a picture"
    assert "train/04.jpg, train/09.jpg." in str(warned[0].message)


@pytest.mark.parametrize("lazy", [False, True])
def test_the_same_bytes_after_many_stops(tmp_path: Path, whole: Any, lazy: bool) -> None:
    pool, captioned = pool_of(14, lazy=lazy), []
    for stop_at in (5, 9, 13, None):
        captioner = Shades(stop_at=stop_at)
        try:
            captions = caption_all(captioner, pool, tmp_path / "parts")
        except KeyboardInterrupt:
            assert stop_at is not None
        captioned += captioner.captioned
    assert captioned == list(range(14))  # nothing twice
    assert (captions, contents(tmp_path / "parts")) == whole
    again = Shades()
    assert caption_all(again, pool, tmp_path / "parts") == captions
    assert again.captioned == []


KILLED = """
import sys, time
from pathlib import Path
from tests.captions.test_captioning import Shades, caption_all, pool_of

class Slow(Shades):
    def __call__(self, images):
        print("captioning", flush=True)
        if images[0, 0, 0, 0] == 8:
            time.sleep(600)
        return super().__call__(images)

caption_all(Slow(), pool_of(14, lazy=True), Path(sys.argv[1]))
"""


def test_the_same_bytes_after_a_kill(tmp_path: Path, whole: Any) -> None:
    folder = tmp_path / "parts"
    command = [sys.executable, "-c", KILLED, str(folder)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment
    ) as process:
        assert process.stdout is not None
        for _ in range(3):
            assert process.stdout.readline() == b"captioning\n"
        process.send_signal(signal.SIGKILL)
    rest = Shades()
    captions = caption_all(rest, pool_of(14), folder)
    assert rest.captioned == list(range(8, 14))
    finished = {name: data for name, data in contents(folder).items() if ".part" not in name}
    assert (captions, finished) == whole


def test_captions_of_other_images_or_another_captioner_are_not_used(tmp_path: Path) -> None:
    for style, edge, identity in (("a", 2, "x"), ("b", 2, "x"), ("b", 3, "x"), ("b", 3, "y")):
        other = Shades(style)
        pool, sha256 = pool_of(14, edge=edge), {"sha256": identity}
        caption_all(other, pool, tmp_path / "parts", identity=sha256)
        assert other.captioned == list(range(14))
        assert len(contents(tmp_path / "parts")) == 4


def one_of_two(rank: int, port: int, folder: Path, results: Any) -> None:
    PartialState._reset_state()  # the parent's, of one process
    os.environ |= {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "ACCELERATE_USE_CPU": "true"}
    warnings.simplefilter("ignore")
    captioner, steps = Shades(), []
    pool = pool_of(14, lazy=True)
    captions = caption_all(captioner, pool, folder, bar=steps.append)
    results.put((rank, captioner.captioned, steps, captions))


@pytest.mark.timeout(120)
def test_two_processes_share_the_batches(tmp_path: Path, whole: Any) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    forks = get_context("fork")
    results = forks.Queue()
    arguments = [(rank, port, tmp_path / "parts", results) for rank in range(2)]
    processes = [forks.Process(target=one_of_two, args=each, daemon=True) for each in arguments]
    for process in processes:
        process.start()
    (_, first, steps, captions), (_, second, _, same) = sorted(results.get() for _ in processes)
    for process in processes:
        process.join()
    assert (first, second) == ([0, 1, 2, 3, 8, 9, 10, 11], [4, 5, 6, 7, 12, 13])
    assert steps == [0, 8, 6]  # of both
    assert captions == same
    assert (captions, contents(tmp_path / "parts")) == whole


def test_files_of_ours_and_of_others_in_any_order(tmp_path: Path) -> None:
    path = tmp_path / "captions.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("id", "caption"), *zip(IDS, TEXTS, strict=True)])
    assert read_captions(path, IDS[::-1]) == TEXTS[::-1]
    path.write_bytes("\ufeffid,caption\r\nb,two\r\n\r\na,one\r\n".encode())  # as Excel writes it
    assert read_captions(path, ["a", "b"]) == ["one", "two"]
    path.write_text("id,caption\nd/e\u0301.jpg,other form\ntest/x.jpg,of another split\n")
    assert read_captions(path, ["d/\u00e9.jpg"], ["test/x.jpg", "test/y.jpg"]) == ["other form"]
    path = tmp_path / "captions.jsonl"
    write_captions(path, [*IDS, "name\udcff.jpg"], [*TEXTS, "x"], record={"captioner": "x"})
    record, first, *_ = path.read_text(encoding="utf-8").splitlines()
    assert json.loads(record) == {"captions": {"captioner": "x"}}
    assert first == '{"caption": "Plain", "id": "a"}'
    assert "größer" in path.read_text(encoding="utf-8")
    ids = ["name\udcff.jpg", *IDS[::-1]]  # how Python reads a file's name that is not UTF-8
    assert read_captions(path, ids) == ["x", *TEXTS[::-1]]
    path.write_bytes('\ufeff{"id": "a", "caption": "größer\u2028x", "score": 1}\r\n'.encode())
    assert read_captions(path, ["a"]) == ["größer\u2028x"]


FAULTS = {  # name -> ending of the file, its content, what is said of it
    "absent": ("csv", None, "cannot be read"),
    "not utf-8": ("csv", b"id,caption\na,\xff\xfe\n", "cannot be read"),
    "comma": ("csv", b"id,caption\na,one, two\n", "wrong in row 1"),
    "none": ("csv", b"", r"no caption for 5 images: a, b, c, \.\.\.\.$"),
    "empty": ("csv", b"id,caption\na,1\nb,\nc,3\nd, \ne,5\n", "empty caption for 2 images: b, d"),
    "unknown": (
        "csv",
        b"id,caption\na,1\nw,2\nx,3\ny,4\nz,5\ntest/f,6\n",
        r"caption for unknown 4 images: w, x, y, \.\.\.; ids here are such as a\.$",
    ),
    "twice": ("csv", b"id,caption\na,1\na,2\nb,3\n", "several captions for 1 images: a"),
    "json cut": ("jsonl", b'{"id": "a", "caption": "x"}\n{"id": "b", ', "cannot be read"),
    "json number": ("jsonl", b'{"id": 2, "caption": "x"}', "wrong in row 1"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults(tmp_path: Path, fault: str) -> None:
    ending, content, problem = FAULTS[fault]
    path = tmp_path / f"x.{ending}"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BadInput, match=problem) as raised:
        read_captions(path, IDS, ["test/f"])
    assert str(raised.value).startswith(f"{path} ")


def test_parts_of_captions_and_class_names() -> None:
    captions = ["A picture of a cat, perhaps a dog; dark, soft.", "A picture of a cup; bright."]
    assert part_of(captions, "whole") == captions
    nouns = ["A picture of a cat, perhaps a dog.", "A picture of a cup."]
    assert part_of(captions, "nouns") == nouns
    looks = ["A picture that is dark, soft.", "A picture that is bright."]
    assert part_of(captions, "attributes") == looks
    with pytest.raises(BadInput, match=r"caption_part: 'nouns' needs .* 'a cat' has none"):
        part_of([captions[0], "a cat"], "nouns")
    captions, labels = ["A cat.", "a dog on a mat ", "Is it?"], torch.tensor([0, 1, 0])
    assert with_class_name(captions, labels, ("cat", "dog")) == [
        "A cat. It shows the class cat.",
        "a dog on a mat. It shows the class dog.",
        "Is it? It shows the class cat.",
    ]


def test_options_are_the_constructors_own() -> None:
    assert set(option_schema("tags").model_fields) == {"model", "weights", "top", "precision"}
    assert option_schema("blip2")().model_dump()["model"] == "Salesforce/blip2-opt-2.7b"
    assert option_schema("my/captions.csv").model_fields == {}
    images = pool_of(4, edge=32).images
    made = make("attributes", pool_images=images, options={"subject": "shape"}, device="cpu")
    assert made.record["subject"] == "shape"
    assert len(made(images)) == 4
    assert locate("attributes", {}) is None


@pytest.mark.parametrize(
    ("source", "option", "value"),
    [
        ("tags", "top", 0),
        ("blip2", "temperature", 1.0),
        ("attributes", "top", 3),
    ],
)
def test_wrong_options(source: str, option: str, value: object) -> None:
    with pytest.raises(BadInput, match=rf"^captions\.options\.{option} is "):
        make(source, pool_images=pool_of(4).images, options={option: value}, device="cpu")
    with pytest.raises(BadInput, match=rf"^captions\.options\.{option} is "):
        locate(source, {option: value})
    with pytest.raises(BadInput, match=r"^captions\.source: 'blip' .*did you mean 'blip2'"):
        option_schema("blip")
