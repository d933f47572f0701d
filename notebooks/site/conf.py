"""Sphinx settings of the site: offline, nothing executed, formulas as MathML, no link out."""

import csv
import json
import re
from html import escape
from pathlib import Path

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.transforms.post_transforms import SphinxPostTransform

# The front page's heading and first quotation, plain text, stand at the top of every page.
front = Path(__file__).with_name("README.md").read_text(encoding="utf-8")
quotation = re.search(r"(?:^> .*\n)+", front, flags=re.M)
banner = re.sub(r"^> ", "", quotation[0], flags=re.M) if quotation else ""
banner = re.sub(r"\\(.)|\*\*", r"\1", " ".join(banner.splitlines()))
project = html_title = front.splitlines()[0].removeprefix("# ")

extensions = ["myst_nb"]
html_theme = "furo"
html_theme_options = {"announcement": escape(banner)}
html_static_path = ["_static"]
templates_path = ["_templates"]
exclude_patterns = ["README.md"]
html_css_files = ["report.css"]
html_math_renderer = "mathml"
html_copy_source = False
smartquotes = False  # a name keeps its quotes and dashes
html_show_sphinx = False
html_show_copyright = False
nb_execution_mode = "off"
nb_merge_streams = True
nb_ipywidgets_js: dict[str, dict[str, str]] = {}
nb_render_markdown_format = "myst"  # commonmark knows no tables
myst_enable_extensions = ["dollarmath"]
myst_update_mathjax = False
myst_heading_anchors = 3
suppress_warnings = ["mystnb.unknown_mime_type", "myst.header", "config.cache"]
pygments_style = "tango"
pygments_dark_style = "github-dark"


class PrintAddresses(SphinxPostTransform):
    """A link that leaves the site becomes its text, and the address in print."""

    default_priority = 900

    def run(self, **kwargs):
        """Change the document in place."""
        for link in list(self.document.findall(nodes.reference)):
            address = link.get("refuri", "")
            if address.startswith(("http:", "https:", "ftp:", "mailto:", "//")):
                shown = "" if link.astext() == address else f" ({address})"
                link.replace_self(nodes.inline("", "", *link.children, nodes.Text(shown)))


def link_profiles(page):
    """Links to other profiles' front pages become those to their sites, or text where none is."""

    def site(link):
        built = Path("data/generated/site", link[1], "index.html").is_file()  # beside this one
        return f'<a href="../{link[1]}/index.html">{link[1]}</a>' if built else link[1]

    return re.sub(r"\[([\w.-]+)\]\(\.\./\1/README\.md\)", site, page)


def finding_of_performance():
    """What the largest pool that faiss finished on says, in one sentence."""
    with Path(__file__).with_name("performance").joinpath("selection.csv").open() as file:
        lines = [line for line in csv.DictReader(file) if line["seconds"]]
    faiss = max((line for line in lines if line["way"] == "faiss"), key=lambda x: int(x["n"]))
    place = ("processor", "threads", "n", "k")
    at = {x["way"]: x for x in lines if all(x[name] == faiss[name] for name in place)}
    ways = [at[way] for way in ("kmeans", "ods", "maxherding", "faiss", "random") if way in at]
    parts = (f"{x['way']} {float(x['seconds']):.3g} s, {float(x['coverage']):.3f}" for x in ways)
    return (
        f"**{int(faiss['k']):,} of {int(faiss['n']):,} rows on {faiss['threads']} threads of "
        f"{faiss['processor'].partition(',')[0]}, seconds and coverage:** {'; '.join(parts)}.\n"
    )


def prepare(app, name, source):
    """Put the front page and findings in; fold code but of cells tagged ``show-code``."""
    if name == "index":
        source[0] = f"{link_profiles(front)}\n{source[0]}"
    if name == "performance":
        source[0] = source[0].replace("\n\n", f"\n\n{finding_of_performance()}\n", 1)
    if name.startswith("notebooks/"):
        notebook = json.loads(source[0])
        for cell in notebook["cells"]:
            tags = cell["metadata"].setdefault("tags", [])
            if cell["cell_type"] == "code" and not {"show-code", "hide-input"} & {*tags}:
                tags.append("hide-input")
        source[0] = json.dumps(notebook)


def mathml(latex: str, display: str) -> str:
    """MathML of a LaTeX formula; its source as code where the converter fails."""
    try:
        return convert(latex, display=display)
    except Exception:  # the converter has no common error type
        return f"<code>{escape(latex)}</code>"


def visit_inline(self, node):
    """Write an inline formula."""
    self.body.append(mathml(node.astext(), "inline"))
    raise nodes.SkipNode


def visit_block(self, node):
    """Write a displayed formula."""
    self.body.append(f'<div class="formula">{mathml(node.astext(), "block")}</div>\n')
    raise nodes.SkipNode


def setup(app):
    """Register the transform, the folding and the formulas with Sphinx."""
    app.connect("source-read", prepare)
    app.add_post_transform(PrintAddresses)
    app.add_html_math_renderer("mathml", (visit_inline, None), (visit_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
