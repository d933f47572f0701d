"""The site from tiny executed notebooks: links that resolve, none that leave it, text as text."""

import os
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from unittest import mock

import nbformat
import pandas as pd
import pytest
from matplotlib.figure import Figure
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from tests.names import HOSTILE
from vecaf_lib.errors import BadInput
from vecaf_lib.files import write_json
from vecaf_lib.pipeline.notebooks import build_site
from vecaf_lib.pipeline.project import SECTIONS
from vecaf_lib.results.compare import plain

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.xdist_group("site"), pytest.mark.timeout(300)]  # it is built once

OUTSIDE = re.compile(r"(?:\b(?:https?|ftp|wss?):)?//[\w\[]|\bmailto:", re.IGNORECASE)
CSS = re.compile(r"(?:url\(\s*|@import\s+)[\"']?((?:https?:)?//[^\"')\s;]+)", re.IGNORECASE)
SCRIPT = re.compile(r"(?:fetch|import|\.src\s*=|\.href\s*=)\s*\(?\s*[\"'`]((?:https?:)?//[^\"'`]+)")
FRONT = """# VeCAF, reproduced: tiny

> Profile tiny: invented numbers,
> **less** than nothing \\<really\\>.

Class \\<script\\>alert(1)\\</script\\>, [Tables](notebooks/40_tables.ipynb),
[table1](tables/table1.csv), [other](../other/README.md).

![Figure 4](figures/figure4.png)
"""
ROWS = "".join(f"| {plain(name)} | 1.00 |\n" for name in HOSTILE)
LINES = "".join(f"\nNamed {plain(name)}.\n" for name in HOSTILE)


class Page(HTMLParser):
    """The ids, local links and addresses of a page that lead outside; its scripts."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.ids, self.links, self.outside = set[str](), list[str](), list[str]()
        self.scripts, self.inside, self.text = list[str](), "", ""
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.inside = tag
        for name, value in attrs:
            if name == "id" and value:
                self.ids.add(value)
            if name in {"href", "src", "srcset", "action", "data", "style", "content"} and value:
                if OUTSIDE.search(value):
                    self.outside.append(value)
                elif tag == "a":
                    self.links.append(value)

    def handle_data(self, data: str) -> None:
        self.text += data
        if self.inside == "script":
            self.scripts.append(data)
            self.outside += SCRIPT.findall(data)
        elif self.inside == "style":
            self.outside += CSS.findall(data)

    def handle_endtag(self, tag: str) -> None:
        self.inside = ""


def write_notebook(path: Path) -> None:
    """An executed notebook with formulas, a link out, and a class name that is markup."""
    frame = pd.DataFrame({"class": HOSTILE})
    outputs = [
        new_output("stream", name="stdout", text="\n".join(HOSTILE)),
        new_output(
            "execute_result",
            {"text/html": frame.to_html(), "text/plain": str(frame)},
            execution_count=1,
        ),
        new_output("display_data", {"text/markdown": "Runs: [table1.csv](../tables/table1.csv)."}),
    ]
    notebook = new_notebook(
        cells=[
            new_markdown_cell("# Tables\n\n$p_i = L_i / Z$, [a paper](https://arxiv.org/abs/1)."),
            new_markdown_cell(r"$$\min_\theta -\sum_i p_i \langle e_i, \theta_{c_i} \rangle$$"),
            new_code_cell("print(name)", outputs=outputs, execution_count=1),
        ],
        metadata={"language_info": {"name": "python", "pygments_lexer": "ipython3"}},
    )
    nbformat.write(notebook, path)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with a report of one table, one figure and one notebook, and its site."""
    root = tmp_path_factory.mktemp("project")
    report = root / "reports" / "tiny"
    for part in ("tables", "figures", "notebooks", "runs"):
        (report / part).mkdir(parents=True)
    table = f"\n| Class | Mean |\n| :-- | --: |\n{ROWS}"
    (report / "README.md").write_text(FRONT + table + LINES, encoding="utf-8")
    (report / "tables" / "table1.csv").write_text("cell,mean\n")
    Figure(figsize=(1, 1)).savefig(report / "figures" / "figure4.png")
    write_notebook(report / "notebooks" / "40_tables.ipynb")
    for part in ("notebooks/site", "reports/performance", "profiles"):
        shutil.copytree(ROOT / part, root / part)
    (root / "params.yaml").write_text("profile: tiny\n")
    (root / "dvc.yaml").touch()
    write_json(root / SECTIONS / "profile.json", "tiny")
    (root / "site").mkdir()
    (root / "site" / "stale.html").write_text("left over")
    with pytest.MonkeyPatch.context() as patch, mock.patch.dict(os.environ):
        patch.chdir(root)
        build_site("site")
    return root


@pytest.fixture(scope="module")
def site(project: Path) -> Path:
    return project / "site"


def test_every_link_resolves_and_none_leaves_the_site(site: Path) -> None:
    pages = {path: Page(path) for path in site.rglob("*.html")}
    names = {path.name for path in pages}
    assert {"index.html", "40_tables.html", "performance.html", "protocol.html"} <= names
    assert "stale.html" not in names
    assert not (site / "runs").exists()
    for path, page in pages.items():
        assert page.outside == []
        for address in page.links:
            file, _, anchor = address.partition("#")
            target = (path.parent / file).resolve() if file else path
            assert target.is_file(), f"{path.name}: {address}"
            assert not anchor or anchor in pages[target].ids, f"{path.name}: {address}"
    for path in [*site.rglob("*.css"), *site.rglob("*.js")]:
        kind = CSS if path.suffix == ".css" else SCRIPT
        assert kind.findall(path.read_text(encoding="utf-8", errors="replace")) == []


def test_a_table_leads_to_the_file_that_names_its_runs(site: Path) -> None:
    page = site / "notebooks" / "40_tables.html"
    (address,) = {link for link in Page(page).links if link.endswith("/table1.csv")}
    assert (page.parent / address).read_text() == "cell,mean\n"


def test_the_overview_leads_the_navigation_and_a_profile_without_a_site_is_text(site: Path) -> None:
    page = (site / "settings.html").read_text(encoding="utf-8")
    assert re.search(r'href="index.html">Overview<', page)
    front = (site / "index.html").read_text(encoding="utf-8")
    assert ", other.</p>" in front
    performance = (site / "performance.html").read_text(encoding="utf-8")
    assert "seconds and coverage:</strong> kmeans " in performance


@pytest.mark.parametrize("page", ["index.html", "notebooks/40_tables.html"])
def test_text_is_never_markup(site: Path, page: str) -> None:
    """In a table and in a line, or printed, every name stands as it is."""
    found = Page(site / page)
    assert not any("alert(" in script for script in found.scripts)
    assert [name for name in HOSTILE if found.text.count(name) < 2] == []


def test_formulas_addresses_and_the_banner(site: Path) -> None:
    shown = (site / "notebooks" / "40_tables.html").read_text(encoding="utf-8")
    assert shown.count("<math") == 2
    assert "MathJax" not in shown
    assert "a paper (https://arxiv.org/abs/1)" in shown
    for path in [site / "index.html", site / "settings.html"]:
        assert "less than nothing &lt;really&gt;." in path.read_text(encoding="utf-8")


@pytest.mark.parametrize("front", ["missing", "broken"])
def test_a_site_that_cannot_be_built_leaves_the_old_one(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, front: str
) -> None:
    root = shutil.copytree(project, tmp_path / "project")
    page = root / "reports" / "tiny" / "README.md"
    page.unlink() if front == "missing" else page.write_text("# A\n\n[b](nowhere.md)\n")
    (root / "site" / "index.html").write_text("old")
    monkeypatch.chdir(root)
    with pytest.raises(BadInput, match="dvc repro" if front == "missing" else r"nowhere\.md"):
        build_site("site")
    assert (root / "site" / "index.html").read_text() == "old"
