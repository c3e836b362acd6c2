"""All figures of a configuration, drawn in one go: SVG, PNG, the caption as text, and a page with both."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ept.figures.data import Results
from ept.figures.registry import FIGURES, FigureKind, asked_for, left_out
from ept.figures.style import figure_style
from ept.files import DIGESTS, sha256_file, write_atomically, write_json, write_text
from ept.plan import paths, targets
from ept.plan.experiment import Experiment
from ept.results.render import figure_page

# Dots per inch of the PNG.
RESOLUTION = 300


def write_figures(experiment: Experiment) -> None:
    """Write every figure that the configuration asks for and remove those of another one.

    Raises InputError where a table or a record is missing or damaged.
    """
    results = Results(experiment)
    kinds = asked_for(experiment)
    for kind in FIGURES:
        for path in paths.figure_files(experiment.config.output, kind.name):
            if kind not in kinds:
                path.unlink(missing_ok=True)
    with figure_style():
        files = [path for kind in kinds for path in _write(kind, results)]
    settings = {
        "made_from": targets.made_from(experiment, targets.FIGURES),
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


def caption(kind: FigureKind, experiment: Experiment) -> str:
    """The caption of a figure: plain sentences that are valid reStructuredText too."""
    packs = [pack for table in kind.tables_of(experiment) for pack in experiment.table_packs(table)]
    tasks = list(dict.fromkeys(pack.record.title for pack in packs))
    seeds = dict.fromkeys(seed for pack in packs for seed in pack.seeds)
    return f"{kind.caption} {conditions(experiment)} {_counted('Task', tasks)}; {_counted('seed', seeds)}.\n"


def conditions(experiment: Experiment) -> str:
    """Which backbone and which data every number is about, and that generated data are a demonstration."""
    config = experiment.config
    published = {
        "demo": f"a benchmark generated with seed {config.data.seed} (a demonstration, not science)",
        "hub": "the published data sets from the Hugging Face hub",
        "local": "data from a local folder",
    }[config.data.source]
    data = [published] * bool(config.tasks.shipped)
    data += [f"the configuration's own rows of {', '.join(config.tasks.own)}"] * bool(config.tasks.own)
    return f"Backbone: {config.backbone.public_name}; data: {' and '.join(data)}."


def _counted(noun: str, names: Iterable[Any]) -> str:
    """`Task: RTE` or `Tasks: RTE, CB`."""
    names = [str(name) for name in names]
    return f"{noun}{'s' if len(names) > 1 else ''}: {', '.join(names)}"
