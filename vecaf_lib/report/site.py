"""One offline HTML site from tables, figures, run files and executed notebooks."""

import os
import shutil
import tempfile
from pathlib import Path

from vecaf_lib.errors import BadInput
from vecaf_lib.report import pages
from vecaf_lib.report.claims import read_csv as read_claims
from vecaf_lib.report.claims_page import claims_page
from vecaf_lib.report.evidence import evidence_page
from vecaf_lib.report.names import BY_CLASS
from vecaf_lib.report.paper import read_paper
from vecaf_lib.report.performance import performance_page
from vecaf_lib.report.selections_page import selections_page
from vecaf_lib.report.site_files import copy_notebook, once, replace, sphinx
from vecaf_lib.report.table4 import table4_markdown
from vecaf_lib.report.tables import read_csv
from vecaf_lib.run_files import read_run

TABLES = (
    *("table1", BY_CLASS, "table2", "table3", "table5", "table6", "table7"),
    *("replication", "decisions", "variant"),
)
PAPERS = ("table1", "table6", "table7")  # printed beside ours


def build(
    *,
    profile: str,
    title: str,
    banner: str,
    about: str,
    runs_dir: Path,
    tables_dir: Path,
    figures_dir: Path,
    selections_dir: Path | None = None,
    claims_dir: Path | None = None,
    performance_dir: Path | None = None,
    notebooks_dir: Path,
    paper_dir: Path,
    params: Path,
    out_dir: Path,
) -> Path:
    """Build the site; the old one is replaced only when the new one is whole.

    Its pages link run files, tables and figures where they lie, so the site moves together with
    the folders it is made from.

    Args:
        profile: name of the profile, shown in the page titles.
        title: heading of the front page.
        banner: plain text at the top of every page: what these numbers are and are not.
        about: MyST paragraphs that open the front page.
        runs_dir: run files, ``<method>/<run>.json.gz``.
        tables_dir: ``table1.csv`` and those of ``TABLES`` that there are.
        figures_dir: ``figure*.png`` with ``.pdf`` and the caption in ``.txt``.
        selections_dir: ``selections.csv`` with figures 3 and 6, if there are any.
        claims_dir: ``claims.csv``, if there is one.
        performance_dir: what the benchmarks of selection left.
        notebooks_dir: executed notebooks; that of the runs is ``30_runs.ipynb``.
        paper_dir: the paper's ``table1.csv``, ``table6.csv``, ``table7.csv``.
        params: the active params.yaml.
        out_dir: where the site goes; anything there is replaced.

    Returns:
        The front page, ``out_dir/index.html``.

    Raises:
        BadInput: an input is missing, a table disagrees with its run files, or Sphinx warns (for
            instance of a link that leads nowhere).
    """
    there = [name for name in TABLES if (tables_dir / f"{name}.csv").is_file()]
    tables = {name: read_csv(tables_dir / f"{name}.csv") for name in there}
    papers = {name: read_paper(paper_dir / f"{name}.csv") for name in PAPERS if name in there}
    drawn = [figures_dir, *([selections_dir] if selections_dir else [])]
    pictures = sorted((p for folder in drawn for p in folder.glob("figure*.png")), key=_stem)
    notebooks = sorted(notebooks_dir.glob("*.ipynb"))
    if not (notebooks_dir / "30_runs.ipynb").is_file():
        raise BadInput(
            f"{notebooks_dir}/30_runs.ipynb is missing: it is the executed notebook behind the "
            "numbers; run `dvc repro`."
        )
    if "table1" not in tables:
        raise BadInput(f"{tables_dir}/table1.csv is missing; `dvc repro` makes it.")
    run = read_run(runs_dir / tables["table1"]["runs"].iloc[0].split()[0])

    with tempfile.TemporaryDirectory() as folder:
        source, made = Path(folder, "source"), Path(folder, "site")
        (source / "notebooks").mkdir(parents=True)
        for path in notebooks:
            copy_notebook(path, source / "notebooks" / path.name)
        (source / "figures").mkdir()
        for path in pictures:
            shutil.copy(path, source / "figures")
        if performance_dir is not None:
            shutil.copytree(performance_dir, source / "performance")
        further = _further_pages(tables_dir, selections_dir, claims_dir, performance_dir)
        texts = {
            "index": pages.index_page(
                title=title,
                about=about,
                tables=tables,
                papers=papers,
                figures={path.stem: _caption(path) for path in pictures},
                run=run,
                further=list(further),
            ),
            "evidence": evidence_page(tables, runs_dir, os.path.relpath(runs_dir, out_dir)),
            **further,
            "settings": pages.settings_page(params.read_text(encoding="utf-8"), run),
            "notebooks": pages.notebooks_page(notebooks),
        }
        places = {"tables/": f"{os.path.relpath(tables_dir, out_dir)}/"}
        for path in pictures:
            places[f"figures/{path.stem}."] = os.path.relpath(path.with_suffix(""), out_dir) + "."
        for name, text in texts.items():
            for called, lies in places.items():
                text = text.replace(f"(site:{called}", f"(site:{lies}")
            (source / f"{name}.md").write_text(text, encoding="utf-8")
        sphinx(source, made, Path(folder, "doctrees"), f"VeCAF report, {profile}", banner)
        for spare in (made / ".buildinfo", made / "objects.inv", *made.rglob("*.map")):
            spare.unlink(missing_ok=True)
        once(made, pictures, out_dir)
        replace(made, out_dir)
    return out_dir / "index.html"


def _further_pages(
    tables_dir: Path,
    selections_dir: Path | None,
    claims_dir: Path | None,
    performance_dir: Path | None,
) -> dict[str, str]:
    """Pages of the parts that this profile has."""
    pages = {}
    if claims_dir is not None:
        pages["claims"] = claims_page(read_claims(claims_dir / "claims.csv"))
    if (tables_dir / "table4.csv").is_file():
        pages["cost"] = "# Table 4: cost\n\n" + table4_markdown(read_csv(tables_dir / "table4.csv"))
    if selections_dir is not None:
        table = read_csv(selections_dir / "selections.csv")
        pages["selections"] = selections_page(table)
    if performance_dir is not None:
        pages["performance"] = performance_page(performance_dir)
    return pages


def _stem(path: Path) -> str:
    return path.stem


def _caption(png: Path) -> str:
    text = png.with_suffix(".txt")
    if not text.is_file():
        raise BadInput(f"{text} is missing: it holds the caption of {png.name}; run `dvc repro`.")
    return text.read_text(encoding="utf-8").strip()
