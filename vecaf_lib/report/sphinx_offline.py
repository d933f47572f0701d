"""Sphinx extension for a site that stands alone: MathML formulas, no links out, joined cells."""

from html import escape
from typing import Any

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms import SphinxPostTransform

OUTSIDE = ("http:", "https:", "ftp:", "mailto:", "//")


class PrintAddresses(SphinxPostTransform):
    """Replaces a link that leaves the site by its text and the address in print."""

    default_priority = 900

    def run(self, **kwargs: Any) -> None:
        """Change the document in place."""
        for link in list(self.document.findall(nodes.reference)):
            address = link.get("refuri", "")
            if address.startswith(OUTSIDE):
                shown = link.astext()
                text: list[nodes.Node] = list(link.children)
                if shown not in (address, address.removeprefix("mailto:")):
                    text.append(nodes.Text(f" ({address})"))
                link.replace_self(nodes.inline("", "", *text, classes=["address"]))


class JoinCells(SphinxPostTransform):
    """Joins a table cell that is only an arrow to the cell on its left."""

    default_priority = 910

    def run(self, **kwargs: Any) -> None:
        """Change the document in place."""
        for row in self.document.findall(nodes.row):
            for entry in list(row.children):
                if entry.astext().strip() == "←":
                    left = row[row.index(entry) - 1]
                    left["morecols"] = left.get("morecols", 0) + 1
                    left["classes"].append("joined")
                    row.remove(entry)


def visit_inline(self: Any, node: nodes.math) -> None:
    """Write an inline formula as MathML."""
    self.body.append(mathml(node.astext(), "inline"))
    raise nodes.SkipNode


def visit_block(self: Any, node: nodes.math_block) -> None:
    """Write a displayed formula as MathML."""
    self.body.append(f'<div class="formula">{mathml(node.astext(), "block")}</div>\n')
    raise nodes.SkipNode


def mathml(latex: str, display: str) -> str:
    """MathML of a LaTeX formula; the source as code where it cannot be converted."""
    try:
        return convert(latex, display=display)
    except Exception:  # the converter has no common error type; the source is still readable
        return f"<code>{escape(latex)}</code>"


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the transforms and the formula writer with Sphinx."""
    app.add_post_transform(PrintAddresses)
    app.add_post_transform(JoinCells)
    app.add_html_math_renderer("mathml", (visit_inline, None), (visit_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
