"""How the documentation site is built: `make docs`. Needs no network."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

project = "EPT"
author = "The EPT developers"
project_copyright = f"2026, {author}"
release = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["examples"]
default_role = "code"
myst_heading_anchors = 4
suppress_warnings = ["myst.xref_ambiguous"]

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"members": True}
python_maximum_signature_line_length = 88

html_theme = "furo"
html_title = f"EPT {release}"
html_static_path = ["_static"]
html_css_files = ["wide.css"]
html_copy_source = False
html_show_sourcelink = False

# Files outside of docs/ that have a page of their own on the site.
PAGES = {
    "../config/README.md": "configuration.md",
    "../CONTRIBUTING.md": "contributing.md",
    "../CHANGELOG.md": "changelog.md",
    "docs/": "",
    "config/README.md": "configuration.md",
}


def point_at_pages(app, document, source):
    """Links that work in the repository lead to the pages of the site."""
    for target, page in PAGES.items():
        source[0] = source[0].replace(f"]({target}", f"]({page}")


def point_at_pages_of_included(app, path, document, source):
    """The same in files that a page includes."""
    point_at_pages(app, document, source)


def escape_markup(app, kind, name, thing, options, lines):
    """Docstrings write P*, W_q and |x| as they are: outside of backticks these characters are no markup."""
    parts = re.split(r"(`[^`]*`)", "\n".join(lines))
    parts[::2] = [re.sub(r"[*|\\]|_(?!\w)", r"\\\g<0>", part) for part in parts[::2]]
    lines[:] = "".join(parts).split("\n")
    if kind in ("attribute", "data", "property"):
        # Napoleon takes what stands before a colon in the first line for a type.
        lines.insert(0, "\\ ")


def setup(app):
    """Connect the functions above. Docstrings are escaped before napoleon reads their sections."""
    app.connect("source-read", point_at_pages)
    app.connect("include-read", point_at_pages_of_included)
    app.connect("autodoc-process-docstring", escape_markup, priority=400)
