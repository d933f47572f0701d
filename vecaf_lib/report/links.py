"""A check that a built site stands alone: nothing in it points outside its folder."""

import re
from html.parser import HTMLParser
from pathlib import Path

_ATTRIBUTES = {"href", "src", "srcset", "action", "data", "poster", "cite", "background", "style"}
_OUTSIDE = re.compile(r"(?:\b(?:https?|ftp|wss?):)?//[\w\[]|\bmailto:", re.IGNORECASE)
_CSS = re.compile(r"(?:url\(\s*|@import\s+)[\"']?((?:https?:)?//[^\"')\s;]+)", re.IGNORECASE)
_SCRIPT = re.compile(
    r"(?:fetch|import|open|importScripts|\.src\s*=|\.href\s*=)\s*\(?\s*[\"'`]((?:https?:)?//[^\"'`]+)"
)


def external_links(out_dir: Path) -> list[str]:
    """Every link or resource of a built site that leads outside it.

    Looks at link and resource attributes and at inline styles and scripts of HTML files, at
    ``url()`` and ``@import`` of style sheets, and at addresses that scripts load. An address that
    is merely printed is no link.

    Returns:
        Sorted lines ``file: address``; empty if the site stands alone.
    """
    found = set()
    for path in sorted(out_dir.rglob("*")):
        finder = {".html": _in_html, ".css": _in_css, ".js": _in_script}.get(path.suffix)
        if finder is not None and path.is_file():
            for address in finder(path.read_text(encoding="utf-8", errors="replace")):
                found.add(f"{path.relative_to(out_dir)}: {address}")
    return sorted(found)


class _Attributes(HTMLParser):
    """Collects addresses from a page's attributes, styles and scripts."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.inside = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.inside = tag if tag in ("style", "script") else ""
        for name, value in attrs:
            known = name in _ATTRIBUTES or name.endswith(":href")
            if value and known and _OUTSIDE.match(value.strip()):
                self.found.append(value)
            elif value and name in ("srcset", "style"):
                self.found += [part for part in value.split() if _OUTSIDE.match(part)]
                self.found += _in_css(value)
            elif value and name == "content" and re.search(r"url=\s*\w+://", value, re.I):
                self.found.append(value)  # a refresh that leaves the site

    def handle_data(self, data: str) -> None:
        if self.inside == "style":
            self.found += _in_css(data)
        elif self.inside == "script":
            self.found += _in_script(data)

    def handle_endtag(self, tag: str) -> None:
        self.inside = ""


def _in_html(text: str) -> list[str]:
    parser = _Attributes()
    parser.feed(text)
    return parser.found


def _in_css(text: str) -> list[str]:
    return _CSS.findall(text)


def _in_script(text: str) -> list[str]:
    return _SCRIPT.findall(text)
