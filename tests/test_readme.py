"""The code of the README and of docs/ runs as it stands, and what they name exists."""

import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from vecaf_lib.selection import Pool

ROOT = Path(__file__).parents[1]
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


def test_the_numbers_of_the_readme_are_those_of_the_report() -> None:
    """Each cell: mean and standard error and, in brackets, the difference to ActiveFT."""
    table = pd.read_csv(ROOT / "reports/caltech101-gpu/tables/table1.csv", keep_default_na=False)
    table = table[table["ratio"] != ""].set_index(["label", "sets", "ratio"])
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if " ± " in line]
    assert len(rows) == 7
    for name, _, *cells in rows:
        places = [(name, sets, ratio) for sets in ("fresh", "kept") for ratio in ("2.0", "5.0")]
        for place, cell in zip(places, cells, strict=True):
            line = table.loc[(*place[:2], f"{float(place[2]):.4f}")].squeeze()
            mean = line["printed"].removesuffix(" (n = 5)")
            gap = line["printed_difference"][:-2]
            assert cell == (f"{mean} ({gap})" if gap else mean)
