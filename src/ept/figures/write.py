"""All figures of a configuration, drawn in one go: SVG, PNG, the caption as text, and a page with both."""

from pathlib import Path

from ept import paths
from ept.experiment import Experiment
from ept.figures.captions import caption
from ept.figures.data import Results
from ept.figures.registry import FIGURES, FigureKind, asked_for, left_out
from ept.figures.style import house_style
from ept.files import DIGESTS, sha256_file, write_atomically, write_json, write_text
from ept.results.html import figure_page

# Dots per inch of the PNG.
RESOLUTION = 200


def write_figures(experiment: Experiment) -> None:
    """Write every figure that the configuration asks for and remove those of another one.

    Raises InputError where a table or a record is missing or torn.
    """
    results = Results(experiment)
    kinds = asked_for(experiment)
    for kind in FIGURES:
        for path in paths.figure_files(experiment.config.output, kind.name):
            if kind not in kinds:
                path.unlink(missing_ok=True)
    with house_style():
        files = [path for kind in kinds for path in _write(kind, results)]
    settings = {
        "figures": [kind.name for kind in kinds],
        "left_out": left_out(experiment),
        DIGESTS: {path.name: sha256_file(path) for path in files},
    }
    write_json(paths.figure_settings_file(experiment.config.output), settings)


def _write(kind: FigureKind, results: Results) -> list[Path]:
    figure = kind.draw(results)
    # Laid out once; every saving would do it again.
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    svg, png, text, page = paths.figure_files(results.experiment.config.output, kind.name)
    for path, metadata in ((svg, {"Date": None}), (png, {})):
        with write_atomically(path) as temporary:
            figure.savefig(temporary, format=path.suffix[1:], dpi=RESOLUTION, metadata=metadata)
    words = caption(kind, results.experiment)
    write_text(text, words)
    write_text(page, figure_page(kind.title, svg.read_text(encoding="utf-8"), words))
    return [svg, png, text, page]
