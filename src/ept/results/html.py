"""Pages for a browser that need nothing else: what the report shows of tables and figures."""

from html import escape

from markdown_it import MarkdownIt

_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>{title}</title>
<style>
body {{ font: 14px/1.5 system-ui, sans-serif; color: #1a1a1a; background: #fff; margin: 1.5rem; }}
h1 {{ font-size: 1.2rem; }}
table {{ border-collapse: collapse; border-top: 2px solid #1a1a1a; border-bottom: 2px solid #1a1a1a; }}
th, td {{ padding: 0.2rem 0.7rem; white-space: nowrap; }}
th {{ border-bottom: 1px solid #1a1a1a; }}
tbody tr:nth-child(even) {{ background: #f4f4f4; }}
figure {{ max-width: 44rem; margin: 0; }}
svg {{ width: 100%; height: auto; }}
</style>
<h1>{title}</h1>
{body}</html>
"""


def table_page(title: str, markdown: str) -> str:
    """A page with the tables and paragraphs of a Markdown text."""
    # The tables' own Markdown underlines by an HTML tag.
    return _page(title, MarkdownIt("commonmark", {"html": True}).enable("table").render(markdown))


def figure_page(title: str, svg: str, caption: str) -> str:
    """A page with a drawing, larger than in a paper's column, and its caption."""
    drawing = svg[svg.index("<svg") :]
    return _page(title, f"<figure>\n{drawing}<figcaption>{escape(caption)}</figcaption>\n</figure>\n")


def _page(title: str, body: str) -> str:
    return _PAGE.format(title=escape(title), body=body)
