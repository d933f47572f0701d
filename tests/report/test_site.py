"""The whole site from synthetic run files: links that resolve, none that leave it."""

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import nbformat
import pandas as pd
import pytest

from vecaf_lib.errors import BadInput
from vecaf_lib.report.figure_5 import figure_5
from vecaf_lib.report.figure_text import caption_1b, caption_4, caption_5
from vecaf_lib.report.figures import choose, figure_1b, figure_4, save
from vecaf_lib.report.frame import curves, losses
from vecaf_lib.report.links import external_links
from vecaf_lib.report.names import run_file, slug
from vecaf_lib.report.site import build
from vecaf_lib.report.site_files import once
from vecaf_lib.report.tables import to_csv
from vecaf_lib.run_files import read_run, write_run

pytestmark = pytest.mark.xdist_group("site")  # one worker: the site is built once
BANNER = "Test profile: invented numbers of no data at all; they say nothing of anything <really>."
METHODS = ["random", "activeft", "topk_loss", "full", "vecaf"]


class Page(HTMLParser):
    """Ids, links and link texts of one page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[tuple[str, str]] = []
        self.open: str | None = None
        self.text = path.read_text(encoding="utf-8")
        self.feed(self.text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if values.get("id"):
            self.ids.add(str(values["id"]))
        if tag == "a" and values.get("href"):
            self.open = str(values["href"])
            self.links.append((self.open, ""))

    def handle_endtag(self, tag: str) -> None:
        if tag == "a":
            self.open = None

    def handle_data(self, data: str) -> None:
        if self.open is not None:
            address, text = self.links[-1]
            self.links[-1] = (address, text + data)


def write_notebook(path: Path, *cells: str, heading: str = "") -> None:
    """An executed notebook with a formula, a link out and one output."""
    notebook = nbformat.v4.new_notebook()
    texts = [heading, *cells] if heading else list(cells)
    notebook.cells = [nbformat.v4.new_markdown_cell(text) for text in texts]
    given = nbformat.v4.new_code_cell(
        "seeds = [0, 1, 2]", metadata={"tags": ["injected-parameters"]}
    )
    notebook.cells.append(given)
    output = nbformat.v4.new_output("stream", name="stdout", text="60 steps\n")
    notebook.cells.append(nbformat.v4.new_code_cell("print('60 steps')", outputs=[output]))
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, path)


@pytest.fixture(scope="module")
def inputs(
    runs: list[dict[str, Any]],
    tables: dict[str, pd.DataFrame],
    papers: dict[str, pd.DataFrame],
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, Any]:
    """Everything the site is built from, on disk."""
    root = tmp_path_factory.mktemp("inputs")
    for run in runs:
        path = root / "runs" / run_file(run["run"])
        write_run(path, run)
    (root / "paper").mkdir()
    for name, table in tables.items():
        to_csv(table, root / "tables" / f"{name}.csv")
        if name in papers:
            papers[name].to_csv(root / "paper" / f"{name}.csv", index=False)
    setting = {"methods": METHODS, "ratio": 5.0, "loops": 3, "seeds": [0, 1, 2]}
    points, loss = choose(curves(runs), **setting), choose(losses(runs), **setting)
    figures = root / "figures"
    save(figure_1b(points), figures / "figure1b", caption=caption_1b(points))
    save(figure_4(loss, window=5), figures / "figure4", caption=caption_4(loss, window=5))
    targets = [60, 80]
    text = caption_5(points, targets=targets)
    save(figure_5(points, targets=targets), figures / "figure5", caption=text)
    for name, heading in {"30_runs": "# The runs", "40_tables": ""}.items():
        write_notebook(
            root / "notebooks" / f"{name}.ipynb",
            "Equation 3: $p_L(i) = L_i / Z$, see [the paper](https://arxiv.org/abs/2401.07853).",
            r"$$\min_\theta -\sum_i p_i \langle e_i, \theta_{c_i} \rangle$$",
            heading=heading,
        )
    (root / "params.yaml").write_text("profile: test\nseeds: [0, 1, 2]\n")
    return {
        "profile": "test",
        "title": "VeCAF, reproduced: a first report",
        "banner": BANNER,
        "about": "What this is: an *invented* example, with the loss $L_i$.",
        "runs_dir": root / "runs",
        "tables_dir": root / "tables",
        "figures_dir": figures,
        "notebooks_dir": root / "notebooks",
        "paper_dir": root / "paper",
        "params": root / "params.yaml",
    }


@pytest.fixture(scope="module")
def site(inputs: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site."""
    out = tmp_path_factory.mktemp("out") / "site"
    out.mkdir()
    (out / "stale.html").write_text("left over")
    assert build(**inputs, out_dir=out) == out / "index.html"
    return out


def test_every_link_of_every_page_resolves(site: Path) -> None:
    pages = {path: Page(path) for path in site.rglob("*.html")}
    assert not (site / "stale.html").exists()
    for path, page in pages.items():
        for address, _ in page.links:
            file, _, anchor = address.partition("#")
            target = (path.parent / file).resolve() if file else path
            assert target.is_file(), f"{path.name}: {address}"
            if anchor and target in pages:
                assert anchor in pages[target].ids, f"{path.name}: {address}"


def test_every_number_leads_to_its_evidence(site: Path, tables: dict[str, pd.DataFrame]) -> None:
    index, evidence = Page(site / "index.html"), Page(site / "evidence.html")
    linked = {(text.removesuffix(" ★"), address) for address, text in index.links}
    for table in tables.values():
        for line in table.itertuples():
            anchor = slug(str(line.cell))
            number = f"{line.mean:.2f} ± {line.standard_error:.2f}"
            assert (number, f"evidence.html#{anchor}") in linked
            assert anchor in evidence.ids
            for run in str(line.runs).split():
                assert any(address.endswith(f"/runs/{run}") for address, _ in evidence.links)
    unlinked = re.sub(r"(?s)<a [^>]*>.*?</a>", "", index.text)
    unlinked = re.sub(r"12\.50 ± 0\.25", "", unlinked)  # the paper's own (invented here)
    assert not re.search(r"\d\.\d\d ±|[+−]\d+\.\d\d \[", unlinked)


def test_evidence_names_seeds_run_files_and_notebook(site: Path, runs: list[Any]) -> None:
    evidence = Page(site / "evidence.html")
    addresses = {address for address, _ in evidence.links}
    for run in runs:
        (link,) = (a for a in addresses if a.endswith(f"/runs/{run_file(run['run'])}"))
        assert read_run(site / link) == run
        assert "notebooks/30_runs.html" in addresses
        assert f"{run['result']['test_accuracy']:.2f}" in evidence.text


def test_nothing_leaves_the_site(site: Path) -> None:
    assert external_links(site) == []


def test_the_checker_sees_what_leaves(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text(
        '<a href="https://a.org">x</a><img src="//b.org/i.png"><a href="in.html">y</a>'
        '<style>@import "https://c.org/s.css";</style><script>fetch("https://d.org")</script>'
        '<p style="background:url(https://e.org/p.png)">https://printed.org</p>'
        '<svg xmlns="http://www.w3.org/2000/svg"></svg>'
    )
    (tmp_path / "a.css").write_text(
        "p { background: url('http://f.org/i.png') } /* http://g.org */"
    )
    found = " ".join(external_links(tmp_path))
    assert all(f"{name}.org" in found for name in "abcdef")
    assert not any(word in found for word in ("printed", "g.org", "w3.org"))


def test_banner_formulas_settings_and_notebooks(site: Path) -> None:
    for path in site.glob("*.html"):
        assert "they say nothing of anything &lt;really&gt;" in path.read_text()
    notebook = (site / "notebooks" / "30_runs.html").read_text()
    assert notebook.count("<math") == 2
    assert "MathJax" not in notebook
    assert "the paper (https://arxiv.org/abs/2401.07853)" in notebook
    assert "60 steps" in notebook
    assert "seeds = [0, 1, 2]" not in notebook, "the settings have a page of their own"
    assert '<a class="reference internal" href="../settings.html">' in notebook
    assert "40_tables" in (site / "notebooks" / "40_tables.html").read_text()
    settings = (site / "settings.html").read_text()
    assert "2.13.0" in settings
    index = (site / "index.html").read_text()
    assert "<math" in index
    assert 'colspan="3"' in index
    assert any(
        address.endswith("/figures/figure5.pdf") for address, _ in Page(site / "index.html").links
    )
    assert not list(site.rglob("*.csv")), "tables are linked where they lie"


def test_bad_input_names_what_is_wrong(inputs: dict[str, Any], tmp_path: Path) -> None:
    def copied(name: str) -> Path:
        target = tmp_path / name
        target.mkdir()
        for path in inputs[f"{name}_dir"].iterdir():
            (target / path.name).write_bytes(path.read_bytes())
        return target

    out = tmp_path / "site"
    notebooks = copied("notebooks")
    (notebooks / "30_runs.ipynb").unlink()
    with pytest.raises(BadInput, match=r"30_runs\.ipynb is missing"):
        build(**inputs | {"notebooks_dir": notebooks}, out_dir=out)
    tables = copied("tables")
    text = (tables / "table7.csv").read_text()
    mean = text.splitlines()[1].split(",")[8]
    (tables / "table7.csv").write_text(text.replace(mean, "11.0000", 1))
    with pytest.raises(BadInput, match="but its run files give"):
        build(**inputs | {"tables_dir": tables}, out_dir=out)
    figures = copied("figures")
    (figures / "figure4.txt").unlink()
    with pytest.raises(BadInput, match=r"caption of figure4\.png"):
        build(**inputs | {"figures_dir": figures}, out_dir=out)
    with pytest.raises(BadInput, match=r"(?s)could not be built.*nowhere"):
        build(**inputs | {"about": "[a](nowhere.md)"}, out_dir=out)
    assert not out.exists()


def test_pages_show_the_figures_where_they_lie_and_no_copy_is_left(tmp_path: Path) -> None:
    made, drawn = tmp_path / "made", tmp_path / "report" / "figures"
    for folder in (made / "_images", drawn):
        folder.mkdir(parents=True)
        (folder / "figure4.png").write_bytes(b"drawn")
        (folder / "figure5.png").write_bytes(folder.name.encode())
    page = made / "index.html"
    page.write_text('<img src="_images/figure4.png"><img src="_images/figure5.png">')
    once(made, sorted(drawn.iterdir()), tmp_path / "report" / "html")
    shown = '<img src="../figures/figure4.png"><img src="_images/figure5.png">'
    assert page.read_text() == shown
    assert [path.name for path in (made / "_images").iterdir()] == ["figure5.png"]
