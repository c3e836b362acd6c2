"""summary.json and headline.json: the averages of the main and few-shot tables, without times."""

from ept.files import write_json
from ept.methods.registry import METHODS
from ept.plan.experiment import Experiment
from ept.plan.pack import DIVERGED
from ept.plan.paths import headline_file, summary_file
from ept.plan.tables import SUMMARY, headline_tables
from ept.results.records import read_own_table, read_record
from ept.results.statistics import AVERAGES
from ept.results.write import write_table_settings

BASELINE = "majority_baseline"


def write_summary(experiment: Experiment) -> None:
    """Write the averages of the main table and of the few-shot ones, and how many of their runs diverged.

    Keys are <regime>.<method> and <regime>.<method>_from_source. The headline has the average over all tasks alone, for
    `dvc metrics show`. Raises InputError where a table or a record is missing
    or of another configuration.
    """
    packs = experiment.packs_behind(SUMMARY)
    runs = [run for pack in packs for run in read_record(pack.folder, pack.hash)["runs"]]
    summary: dict = {"runs": len(runs), "diverged_runs": sum(run["status"] == DIVERGED for run in runs)}
    for table in headline_tables(experiment.config):
        for row in read_own_table(experiment, table).rows:
            if row["task"] in AVERAGES:
                _add(summary.setdefault(row["regime"], {}), row)
    headline = {
        name: {method: numbers["average"] for method, numbers in values.items()} if isinstance(values, dict) else values
        for name, values in summary.items()
    }
    output = experiment.config.output
    files = {summary_file(output): summary, headline_file(output): headline}
    for path, numbers in files.items():
        write_json(path, numbers)
    write_table_settings(experiment, SUMMARY, list(files))


def _add(regime: dict[str, dict], row: dict[str, str]) -> None:
    """Add an average of a method, and that of the majority baseline."""
    chosen = METHODS[row["method"]].start == "optional" and row["source"] == "source"
    numbers = regime.setdefault(f"{row['method']}_from_source" if chosen else row["method"], {})
    for column, ending in (("mean", ""), ("ci_low", "_ci_low"), ("ci_high", "_ci_high")):
        numbers[row["task"] + ending] = float(row[column])
    for column in ("trained_parameters", "stored_parameters"):
        numbers[column] = int(row[column])
    regime.setdefault(BASELINE, {})[row["task"]] = float(row[BASELINE])
