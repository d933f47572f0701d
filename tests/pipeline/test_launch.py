"""A task is done by one process or by several; what goes wrong is told in a sentence."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import psutil
import pytest
import torch

from vecaf_lib.captions import with_class_name, write_captions
from vecaf_lib.datasets import load
from vecaf_lib.encoders.text import encode
from vecaf_lib.errors import BadInput
from vecaf_lib.files import write_json
from vecaf_lib.pipeline.launch import launch, main
from vecaf_lib.pipeline.passes import embed
from vecaf_lib.pipeline.run import make_all
from vecaf_lib.pipeline.variants import views

ROOT = Path(__file__).parents[2]
DATASET = {"name": "digits", "image_size": 32, "root": None, "memory_gib": 1.0, "options": {}}
COMPUTE = {"workers": 1, "threads": 1, "device": "cpu", "processes": 1, "precision": "float32"}
COMPUTE |= {"evaluation_precision": None}


def work(folder: Path, **changes: Any) -> dict[str, Any]:
    """A real pass over the digits: both kinds of embeddings, the text by hashed words."""
    pool = load(split="train", data=ROOT / "data", **DATASET)
    write_captions(
        folder / "captions.jsonl", pool.ids, [f"mark {i % 7}" for i in range(len(pool))], record={}
    )
    write_json(folder / "inputs.json", {"images": "digits", "text": {}})
    return {
        "dataset": DATASET,
        "vision": {"name": "tf_efficientnet_lite0", "weights": "package"},
        "text": {"name": "hashed", "width": 16},
        "methods": {},
        "run_methods": [],
        "domains": {},
        "compute": COMPUTE,
        "data": str(ROOT / "data"),
        "inputs": str(folder / "inputs.json"),
        "captions": str(folder / "captions.jsonl"),
        "output": str(folder),
    } | changes


def test_two_processes_write_the_bytes_of_one(tmp_path: Path) -> None:
    for processes in (1, 2):
        folder = tmp_path / str(processes)
        folder.mkdir()
        launch(embed, work(folder), processes=processes)
    for kind, shape in {"image": (1000, 1280), "text": (1000, 16)}.items():
        (name,) = [path.name for path in (tmp_path / "1").glob(f"{kind}-*.npy")]
        assert np.load(tmp_path / "1" / name).shape == shape
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "2" / name).read_bytes()


def test_class_names_enter_the_captions_of_those_methods_alone_that_ask(tmp_path: Path) -> None:
    cea = {"mode": "paper"}
    methods = {"plain": {"cea": cea}, "named": {"cea": cea, "class_names": True}}
    given = work(tmp_path, methods=methods, run_methods=list(methods))
    embed(**given)
    pool = load(split="train", data=ROOT / "data", **DATASET)
    sentences = [f"mark {i % 7}" for i in range(len(pool))]
    told = {
        "plain": sentences,
        "named": with_class_name(sentences, pool.labels, pool.class_names),
    }
    shared = {name: given[name] for name in ("vision", "text", "domains")}
    for name, captions in told.items():
        path = views(methods[name], **shared).text_file(tmp_path)
        found = torch.from_numpy(np.load(path))
        torch.testing.assert_close(found, encode(captions, name="hashed", width=16))


def test_a_part_of_the_captions_is_all_that_those_methods_see_that_ask(tmp_path: Path) -> None:
    methods = {"seen": {"cea": {"mode": "paper"}, "caption_part": "nouns", "class_names": True}}
    given = work(tmp_path, methods=methods, run_methods=["seen"])
    pool = load(split="train", data=ROOT / "data", **DATASET)
    sentences = [f"A picture of a mark {i % 7}; dark, soft." for i in range(len(pool))]
    write_captions(Path(given["captions"]), pool.ids, sentences, record={})
    embed(**given)
    shared = {name: given[name] for name in ("vision", "text", "domains")}
    found = np.load(views(methods["seen"], **shared).text_file(tmp_path))
    cut = [f"A picture of a mark {i % 7}." for i in range(len(pool))]
    told = with_class_name(cut, pool.labels, pool.class_names)
    torch.testing.assert_close(torch.from_numpy(found), encode(told, name="hashed", width=16))


def test_what_a_process_refuses_is_told_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "inputs.json").write_text("no JSON")
    wrong = work(tmp_path) | {"vision": {"name": "tf_efficientnet_lite9", "weights": "package"}}
    for processes in (1, 2):
        with pytest.raises(BadInput, match="timm has no model 'tf_efficientnet_lite9'"):
            launch(embed, wrong, processes=processes)


def test_a_process_that_dies_is_named_with_its_last_words(monkeypatch: pytest.MonkeyPatch) -> None:
    died = SimpleNamespace(returncode=-9, stderr="words\n" * 30 + "the last words")
    monkeypatch.setattr(subprocess, "run", lambda *a, **k: died)
    with pytest.raises(BadInput, match="One of 2 processes of make_all died") as raised:
        launch(make_all, {}, processes=2)
    assert str(raised.value).endswith("the last words")
    assert str(raised.value).count("words") < 25


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "is missing"),
        ("[1]", "describes no task"),
        ('{"task": "os:abort"}', "describes no task"),
        ('{"task": "vecaf_lib.pipeline.passes:cook"}', "no task vecaf_lib.pipeline.passes:cook"),
        ('{"task": "vecaf_lib.kitchen:cook"}', "no task vecaf_lib.kitchen:cook"),
    ],
)
def test_a_file_that_describes_no_task(tmp_path: Path, content: str | None, sentence: str) -> None:
    path = tmp_path / "task.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(BadInput, match=sentence):
        main([str(path)])
    with pytest.raises(BadInput, match=r"Usage: accelerate launch"):
        main([])


def test_the_processes_end_when_the_one_that_launched_them_is_killed(tmp_path: Path) -> None:
    """They wait for a FIFO that nobody writes to; only the death of their parent ends them."""
    arguments = work(tmp_path)
    (tmp_path / "captions.jsonl").unlink()
    os.mkfifo(tmp_path / "captions.jsonl")
    program = (
        "import json, sys; from vecaf_lib.pipeline.launch import launch; "
        "from vecaf_lib.pipeline.passes import embed; "
        "launch(embed, json.loads(sys.argv[1]), processes=2)"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", program, json.dumps(arguments)], cwd=ROOT, stderr=subprocess.DEVNULL
    )
    found: list[psutil.Process] = []
    try:
        deadline = time.monotonic() + 60
        while len(found) < 3:  # torchrun, and the two
            assert time.monotonic() < deadline, "the processes did not start"
            time.sleep(0.5)
            found = psutil.Process(parent.pid).children(recursive=True)
        time.sleep(8)  # until the two have started their watch
    finally:
        parent.kill()
        parent.wait()
    _, alive = psutil.wait_procs(found, timeout=60)
    for process in alive:
        process.kill()
    assert not alive
