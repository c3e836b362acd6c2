"""A program in the place of `ept` that does no work: it makes the files of a job, empty, and notes its arguments."""

import json
import sys
from pathlib import Path

from ept.figures.registry import asked_for
from ept.plan import paths
from ept.plan.experiment import Experiment
from ept.plan.tables import ZERO_SHOT
from ept.plan.targets import Targets

# files.json: by verb and the job that it names, what it makes. calls.jsonl: the arguments of every call.
PROGRAM = f"""#!{sys.executable}
import json, sys
from pathlib import Path
verb, options = sys.argv[1], dict(zip(sys.argv[2::2], sys.argv[3::2]))
with open("calls.jsonl", "a") as calls:
    calls.write(json.dumps(sys.argv[1:]) + "\\n")
assert Path(options["--config"]).is_file()
job = options.get("--hash") or options.get("--table") or options.get("--task") or ""
costs = [options["--costs"]] if "--costs" in options else []
for name in [*json.loads(Path("files.json").read_text())[f"{{verb}} {{job}}".strip()], *costs]:
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).touch()
"""


def install(folder: Path, experiment: Experiment) -> Path:
    """Write the program and what it makes into `folder`; returns the folder to put on the path."""
    targets = Targets(experiment)
    files = {f"fetch {task}": [experiment.raw_folder(task) / "train.parquet"] for task in experiment.tasks}
    files |= {f"tokenize {task}": targets.tokens(task) for task in experiment.tasks}
    files |= {f"train {pack.hash}": pack.files for pack in experiment.packs}
    files |= {f"table {table}": targets.table(table) for table in experiment.tables}
    files["zero-shot"] = targets.table(ZERO_SHOT)
    files["summary"] = targets.summary
    files["figures"] = targets.figures([kind.name for kind in asked_for(experiment)])
    pages = paths.report_files(targets.output)
    files["report-pages"] = [path / "index.html" if name == "runs" else path for name, path in pages.items()]
    (folder / "files.json").write_text(json.dumps({job: list(map(str, made)) for job, made in files.items()}))
    programs = folder / "bin"
    programs.mkdir()
    (programs / "ept").write_text(PROGRAM)
    (programs / "ept").chmod(0o755)
    return programs
