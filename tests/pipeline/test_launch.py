"""A task is done by one process or by several; what goes wrong ends in a sentence."""

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
from tasks import refuse

from vecaf_lib.captions import with_class_name, write_captions
from vecaf_lib.data.load import load
from vecaf_lib.errors import BadInput
from vecaf_lib.files import write_json
from vecaf_lib.models.text import encode
from vecaf_lib.pipeline.launch import launch
from vecaf_lib.pipeline.passes import embed
from vecaf_lib.pipeline.project import views

ROOT = Path(__file__).parents[2]
IMPORTABLE = f"{ROOT}{os.pathsep}{Path(__file__).parent}"
DATASET = {"name": "digits", "image_size": 32, "root": None, "memory_gib": 1.0, "options": {}}
DATASET["blind"] = False
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
        "text": {"name": "hashed", "width": 16, "weights": "package"},
        "methods": {},
        "tables": {},
        "domains": {},
        "compute": COMPUTE,
        "training": {"trainable": "all", "blocks": 1, "flip": False},
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


@pytest.mark.parametrize("blind", [False, True])
def test_states_of_a_frozen_trunk_are_stored_for_all_splits(tmp_path: Path, blind: bool) -> None:
    training = {"trainable": "last_blocks", "blocks": 1, "flip": True}
    dataset = DATASET | {"blind": blind}
    embed(**work(tmp_path, dataset=dataset))
    ((path, whole),) = ((path, np.load(path)) for path in tmp_path.glob("image-*.npy"))
    arguments = work(tmp_path, dataset=dataset, training=training)
    embed(**arguments)
    np.testing.assert_allclose(np.load(path), whole, rtol=1e-3, atol=1e-4)  # of states now
    files = views(arguments).states_files
    rows = {"train": [1000, 1000], "validation": [297], "test": [] if blind else [500]}
    for split, counts in rows.items():
        present = [path for path in files(tmp_path, training, split) if path.exists()]
        assert [np.load(path).shape for path in present] == [(n, 192, 1, 1) for n in counts]


METHOD = {"cea": {"mode": "paper"}, "vision": None, "text": None, "domain": None}
METHOD |= {"class_names": False, "caption_part": "whole"}


def test_each_method_gets_the_captions_that_it_asks_for(tmp_path: Path) -> None:
    methods = {
        "plain": METHOD,
        "named": METHOD | {"class_names": True},
        "nouns": METHOD | {"caption_part": "nouns", "class_names": True},
        "snowy": METHOD | {"domain": "snowy"},
    }
    domains = {"snowy": {"prompt": "Snow."}}
    arguments = work(tmp_path, methods=methods, domains=domains)
    pool = load(split="train", data=ROOT / "data", **DATASET)
    sentences = [f"A picture of a mark {i % 7}; dark, soft." for i in range(len(pool))]
    write_captions(Path(arguments["captions"]), pool.ids, sentences, record={})
    embed(**arguments)
    nouns = [f"A picture of a mark {i % 7}." for i in range(len(pool))]
    expected = {
        "plain": sentences,
        "named": with_class_name(sentences, pool.labels, pool.class_names),
        "nouns": with_class_name(nouns, pool.labels, pool.class_names),
        "snowy": [f"{sentence} Snow." for sentence in sentences],
    }
    for name, captions in expected.items():
        embedded = np.load(views(arguments, name).text_file(tmp_path))
        of_captions = encode(captions, name="hashed", width=16)
        torch.testing.assert_close(torch.from_numpy(embedded), of_captions)


def test_what_a_process_refuses_is_said_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", IMPORTABLE)
    for processes in (1, 2):
        with pytest.raises(BadInput, match=r"^No room for 2 images\.$"):
            launch(refuse, {"sentence": "No room for 2 images."}, processes=processes)


def test_a_process_that_dies_is_named_with_its_last_words(monkeypatch: pytest.MonkeyPatch) -> None:
    died = SimpleNamespace(returncode=-9, stderr="words\n" * 30 + "the last words")
    monkeypatch.setattr(subprocess, "run", lambda *a, **k: died)
    with pytest.raises(BadInput, match="One of 2 processes of embed died") as raised:
        launch(embed, {}, processes=2)
    assert str(raised.value).endswith("the last words")
    assert str(raised.value).count("words") < 25


@pytest.mark.timeout(120)
def test_the_processes_end_when_the_one_that_launched_them_is_killed(tmp_path: Path) -> None:
    program = (
        "import sys; from tasks import wait; from vecaf_lib.pipeline.launch import launch; "
        "launch(wait, {'folder': sys.argv[1]}, processes=2)"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    own = os.environ | {"PYTHONPATH": IMPORTABLE}
    parent = subprocess.Popen(command, env=own, stderr=subprocess.DEVNULL)
    try:
        while {path.name for path in tmp_path.iterdir()} != {"0", "1"}:
            assert parent.poll() is None
            time.sleep(0.1)
        found = psutil.Process(parent.pid).children(recursive=True)
        assert len(found) == 3  # torchrun, and the two
    finally:
        parent.kill()
        parent.wait()
    _, alive = psutil.wait_procs(found, timeout=60)
    for process in alive:
        process.kill()
    assert not alive
