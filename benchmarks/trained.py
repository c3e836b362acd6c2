"""A configuration whose main table is trained by the workflow, with some settings changed, for comparisons of two.

It is trained in the working directory. What is trained already is not trained again, as in every run of the workflow.
"""

import subprocess
import sys
from pathlib import Path
from typing import Any

from ept.config.configuration import parse_configuration
from ept.config.yaml_file import read_yaml, write_yaml
from ept.files import write_text
from ept.plan.experiment import Experiment
from ept.plan.paths import table_file
from ept.plan.tables import MAIN
from ept.report.costs import costs
from ept.results.compare import Side
from ept.results.records import PackResult

ROOT = Path(__file__).parent.parent
# Nothing but the full-data runs of the main table.
MAIN_ALONE = {"few_shot": {"k": []}}
Rows = dict[str, dict[str, PackResult]]
"""Results by method and task."""


def merged(values: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Nested values with the changed ones in place of their own."""
    result = dict(values)
    for key, value in changes.items():
        below = result.get(key)
        result[key] = merged(below, value) if isinstance(value, dict) and isinstance(below, dict) else value
    return result


class Trained:
    """A configuration with changes, trained in the working directory; its table lies in results/<name>."""

    def __init__(self, configuration: Path, name: str, changes: dict[str, Any], cores: int):
        """Train what is not trained yet. Ends the program where the workflow fails, whose message stands above."""
        output = f"results/{name}"
        self._values = merged(merged(read_yaml(configuration), MAIN_ALONE), {"output": output, **changes})
        self._path = Path(output) / "configuration.yaml"
        write_text(self._path, write_yaml(self._values))
        snakemake = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "--cores", str(cores)]
        options = ["--quiet", "rules", "--configfile", str(self._path), "--", str(table_file(output, MAIN))]
        if subprocess.run([*snakemake, *options], check=False).returncode:
            sys.exit(f"{output} is not finished; correct what Snakemake says above and run the same command again")

    def rows(self) -> Rows:
        """The results behind the main table, by method and task."""
        found = Side(self._path, Experiment(parse_configuration(self._values)), MAIN).rows()
        return {method: by_task for (method, _, _), by_task in found.items()}

    def cpu_seconds(self, method: str) -> float:
        """CPU seconds of the jobs that trained a method, start-up and test predictions included."""
        experiment = Experiment(parse_configuration({**self._values, "methods": [method]}))
        (found,) = (cost for cost in costs(experiment) if cost.rule == "train")
        return found.cpu_seconds
