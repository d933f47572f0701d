"""The code of the README and of docs/ runs as it stands, and what they name exists."""

import re
import runpy
from pathlib import Path
from typing import Any

import pytest
import torch

from vecaf_lib.selection import Pool

ROOT = Path(__file__).parents[1]
RESULTS = runpy.run_path(str(ROOT / "docs/results.py"))
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def code(page: str) -> str:
    text = (ROOT / page).read_text(encoding="utf-8")
    return re.findall(r"```python\n(.*?)```", text, flags=re.S)[0]


@pytest.mark.global_random("toy data of the README")
def test_the_method_in_ten_lines_moves_twenty_chosen_embeddings_towards_their_captions():
    names: dict[str, object] = {}
    exec(code("README.md"), names)
    e, t, chosen, e_aug = (names[name] for name in ("e", "t", "chosen", "e_aug"))
    assert len(set(chosen.tolist())) == 20
    before = (e[chosen] - t[chosen]).norm(dim=1)
    after = (e_aug - t[chosen]).norm(dim=1)
    assert bool((after < before).all())
    statements = [line for line in code("README.md").splitlines() if line.strip()]
    assert len(statements) <= 10


def test_selecting_from_any_embeddings():
    names: dict[str, Any] = {}
    exec(code("docs/SELECTION.md"), names)
    for name in ("chosen", "more", "weighted", "indices", "query"):
        assert len(set(names[name].tolist())) == 50
    assert names["chosen"].tolist() == names["indices"].tolist()
    assert not {*names["chosen"].tolist()} & {*names["more"].tolist()}


def test_the_example_of_a_new_method_is_a_method():
    names: dict[str, object] = {}
    exec(code("docs/EXTENDING.md"), names)
    embeddings = torch.eye(6) * torch.arange(6.0)
    pool = Pool(6, embeddings=embeddings)
    assert names["select"](pool, 2, generator=torch.Generator()).tolist() == [5, 4]
    assert names["NEEDS"] == {"embeddings"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_files_and_targets_that_a_page_names_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for link in re.findall(r"\]\(((?!http)[\w./-]+)\)", text):
        assert (page.parent / link).is_file(), link
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"(?:`|^)make (\w+)", text, flags=re.M):
        assert re.search(rf"^{target}:", makefile, flags=re.M), target
    for path in re.findall(r"`((?:vecaf_lib|profiles|notebooks)/[\w./-]+)`", text):
        assert (ROOT / path).exists(), path


@pytest.mark.parametrize("page", RESULTS["PAGES"])
def test_results_come_from_the_committed_reports(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    assert RESULTS["fill"](text) == text, "run python docs/results.py"
    by_hand = re.sub(r"<!-- results: .*?<!-- end -->", "", text, flags=re.S)
    assert not re.search(r"\d ± \d|[+−]\d[\d.]* \[", by_hand)
