"""All figures of a configuration, drawn in one go: SVG, PNG and the caption as text."""

from ept import paths
from ept.experiment import Experiment
from ept.figures.captions import caption
from ept.figures.data import Results
from ept.figures.registry import FIGURES, FigureKind, asked_for
from ept.figures.style import house_style
from ept.files import write_atomically, write_text

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
        for kind in kinds:
            _write(kind, results)


def _write(kind: FigureKind, results: Results) -> None:
    figure = kind.draw(results)
    # Laid out once; every saving would do it again.
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    svg, png, text = paths.figure_files(results.experiment.config.output, kind.name)
    for path, metadata in ((svg, {"Date": None}), (png, {})):
        with write_atomically(path) as temporary:
            figure.savefig(temporary, format=path.suffix[1:], dpi=RESOLUTION, metadata=metadata)
    write_text(text, caption(kind, results.experiment))
