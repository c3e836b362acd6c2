"""The starts from source prompts that other tables hold, beside those from scratch: where transfer helps and hurts."""

from ept.experiment import Experiment
from ept.pack import Pack
from ept.results.layout import Layout
from ept.results.transfer import rows_of
from ept.results.transfer_layout import gains_layout
from ept.transfer_plan import found_in


def make_table(experiment: Experiment, packs: list[Pack]) -> tuple[list[dict], Layout]:
    """One row a start from a source and metric, and the gains with sentences on where transfer helps and hurts."""
    rows = rows_of(experiment, found_in(experiment, packs), packs)
    return rows, gains_layout(rows)
