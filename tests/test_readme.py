"""The README's code runs as it stands."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from vecaf_lib.selection import Pool

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", README, flags=re.S)


@pytest.mark.global_random("toy data of the README")
def test_the_method_in_ten_lines_moves_twenty_chosen_embeddings_towards_their_captions():
    names: dict[str, object] = {}
    exec(BLOCKS[0], names)
    e, t, chosen, e_aug = (names[name] for name in ("e", "t", "chosen", "e_aug"))
    assert len(set(chosen.tolist())) == 20
    before = (e[chosen] - t[chosen]).norm(dim=1)
    after = (e_aug - t[chosen]).norm(dim=1)
    assert bool((after < before).all())
    statements = [line for line in BLOCKS[0].splitlines() if line.strip()]
    assert len(statements) <= 10


def test_selecting_from_any_embeddings():
    names: dict[str, Any] = {}
    exec(BLOCKS[1], names)
    for name in ("chosen", "weighted", "also"):
        assert len(set(names[name].tolist())) == 50
    assert names["chosen"].tolist() == names["also"].tolist()


def test_the_example_of_a_new_method_is_a_method():
    names: dict[str, object] = {}
    exec(BLOCKS[2], names)
    embeddings = torch.eye(6) * torch.arange(6.0)
    pool = Pool(6, embeddings=embeddings)
    assert names["select"](pool, 2, generator=torch.Generator()).tolist() == [5, 4]
    assert names["NEEDS"] == {"embeddings"}


def test_files_and_targets_that_the_readme_names_exist():
    root = Path(__file__).parents[1]
    for link in re.findall(r"\]\(([\w./]+)\)", README):
        assert (root / link).is_file(), link
    makefile = (root / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"(?:`|^)make (\w+)", README, flags=re.M):
        assert re.search(rf"^{target}:", makefile, flags=re.M), target
    for path in re.findall(r"`((?:vecaf_lib|profiles|data)/[\w./]+)`", README):
        assert (root / path).exists(), path
