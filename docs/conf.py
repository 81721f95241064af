"""How Sphinx makes the documentation site of the Markdown pages. CONTRIBUTING.md has the command.

The source folder is the repository, so the relative links of the pages hold as they are, there and on a code host. The
navigation is made of the index page, docs/README.md: its headings are the groups, its links the pages. A page that the
index does not name, a link or an anchor that leads nowhere, and an unknown language of a code block are warnings, which
the command makes errors of.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sphinx.application import Sphinx

ROOT = Path(__file__).resolve().parents[1]
INDEX = "docs/README"

_HEADING = re.compile(r"^## (.+)$")
_LINK = re.compile(r"\[([^\]]+)\]\(([^)\s#]+)(?:#[^)]*)?\)")


def _version() -> str:
    found = re.search(
        r'^__version__ = "(.+)"', (ROOT / "afkcli" / "version.py").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert found is not None
    return found[1]


project = "afk"
release = _version()
language = "en"
root_doc = INDEX
include_patterns = ["*.md", "docs/**.md", "plugins/*/README.md"]
extensions = ["myst_parser"]
myst_heading_anchors = 6  # as code hosts form them, for every level of heading

# The theme has its own fonts and icons, and the search is a file of the site: a page asks no other host for anything.
html_theme = "furo"
html_title = f"afk {release}"
html_theme_options = {"navigation_with_keys": True}
html_copy_source = False
html_show_sphinx = False
html_show_copyright = False


def navigation(index: str) -> str:
    """Return the tables of contents that belong to the text of the index page: one for each heading with links."""
    groups: dict[str, list[str]] = {}
    heading = "Begin"
    for line in index.splitlines():
        if found := _HEADING.match(line):
            heading = found[1]
        for _, link in _LINK.findall(line):
            name = posixpath.normpath(posixpath.join(posixpath.dirname(INDEX), link))
            if link.endswith(".md") and name not in groups.setdefault(heading, []):
                groups[heading].append(name)
    return "".join(
        f"\n```{{toctree}}\n:hidden:\n:caption: {caption}\n\n"
        + "".join(f"/{name.removesuffix('.md')}\n" for name in names)
        + "```\n"
        for caption, names in groups.items()
        if names
    )


def without_links_to_folders(page: str, text: str) -> str:
    """Return the text of a page with the names of folders in place of links to them: a site has no page for these."""

    def shown(link: re.Match[str]) -> str:
        target = ROOT / posixpath.dirname(page) / link[2]
        return link[1] if "://" not in link[2] and target.is_dir() else link[0]

    return _LINK.sub(shown, text)


def prepare(app: Sphinx, page: str, source: list[str]) -> None:
    """Change what a page says on a code host to what it says on the site."""
    text = without_links_to_folders(page, source[0])
    source[0] = text + navigation(text) if page == INDEX else text


def write_front_page(app: Sphinx, error: Exception | None) -> None:
    """Let the folder of the site open at its index page."""
    if error is None and app.builder.format == "html":
        target = app.builder.get_target_uri(INDEX)
        page = f"""<!doctype html>
<meta charset="utf-8">
<meta http-equiv="refresh" content="0; url={target}">
<title>{project}</title>
<a href="{target}">{project}</a>
"""
        (Path(app.outdir) / "index.html").write_text(page, encoding="utf-8")


def setup(app: Sphinx) -> dict[str, bool]:
    """Add the two steps above to the build."""
    app.connect("source-read", prepare)
    app.connect("build-finished", write_front_page)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
