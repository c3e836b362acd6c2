"""Snakemake counts GPUs, on a machine that has none: a stand-in of `ept` writes down when it ran and with how many."""

import json
import sys

from ept.config.configuration import parse_configuration
from ept.plan.experiment import Experiment

VALUES = {
    "tasks": {"target": ["sst2", "cb"], "source": ["mnli"]},
    "methods": ["pt", "spot"],
    "few_shot": {"k": [4], "initialize_from": ["scratch", "source"]},
}
# What `files.json` names for a pack it makes, empty.
EPT = f"""#!{sys.executable}
import json, os, sys, time
from pathlib import Path
start = time.monotonic()
verb, options = sys.argv[1], dict(zip(sys.argv[2::2], sys.argv[3::2]))
assert verb == "train"
time.sleep(0.4)
for name in json.loads(Path("files.json").read_text())[options["--hash"]]:
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).touch()
end = time.monotonic()
Path(f"ran-{{options['--hash']}}").write_text(json.dumps([start, end, int(options["--gpus"])]))
"""


def test_jobs_that_run_at_one_time_want_no_more_gpus_than_there_are(workflow):
    packs = Experiment(parse_configuration(VALUES)).packs
    for pack in packs:
        for split in ("train", "validation", "test"):
            for folder in pack.token_folders:
                (workflow.folder / folder).mkdir(parents=True, exist_ok=True)
                (workflow.folder / folder / f"{split}.arrow").touch()
    (workflow.folder / "files.json").write_text(json.dumps({pack.hash: list(map(str, pack.files)) for pack in packs}))
    programs = workflow.folder / "bin"
    programs.mkdir()
    (programs / "ept").write_text(EPT)
    (programs / "ept").chmod(0o755)

    options = ("--cores", "8", "--resources", "gpu=2", "--set-resources", "train:gpu=1", "train_source:gpu=2")
    snakemake = workflow.start("experiments", *options, config=workflow.configure(VALUES), programs=programs)
    said = snakemake.communicate()[0]
    assert snakemake.returncode == 0, said

    ran = [(pack.regime, *json.loads((workflow.folder / f"ran-{pack.hash}").read_text())) for pack in packs]
    assert {(regime == "source", gpus) for regime, _, _, gpus in ran} == {(True, 2), (False, 1)}
    # Whenever a job started: the GPUs of each that ran then.
    held = [[gpus for _, first, last, gpus in ran if first <= start < last] for _, start, _, _ in ran]
    assert max(map(sum, held)) == 2
    # And not because one ran at a time.
    assert max(map(len, held)) == 2
