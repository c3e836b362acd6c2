"""Pages of tables and figures: marks survive, nothing is loaded from elsewhere."""

import re

from ept.results.render import figure_page, table_page


def test_a_table_keeps_its_marks_and_notes():
    markdown = "| method | RTE |\n| --- | ---: |\n| PT | <u>1.0 ± 0.1</u> |\n| EPT & co | **2.0** |\n\nBest in bold.\n"
    page = table_page("main <full>", markdown)
    assert "<u>1.0 ± 0.1</u>" in page and "<strong>2.0</strong>" in page and "<p>Best in bold.</p>" in page
    # The first column and the titles stay in sight, and a click on a title sorts.
    assert page.count("position: sticky") >= 2 and "onclick" in page
    assert page.count("<tr>") == 3 and "EPT &amp; co" in page and "main &lt;full&gt;" in page


def test_a_figure_has_its_drawing_and_its_caption():
    svg = '<?xml version="1.0"?>\n<!DOCTYPE svg>\n<svg width="237pt"><path d="M 0 0"/></svg>\n'
    page = figure_page("Curves", svg, "Score < 50 %.\n")
    assert "<svg" in page and "<?xml" not in page and "Score &lt; 50 %." in page
    assert not re.search(r"(src|href)=", page)
