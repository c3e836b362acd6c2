"""Bad words on the command line."""

from bad_input.cases import FROM_SOURCE, TRAIN, TRAIN_FEW, cases
from bad_input.spoil import settings

CASES = {
    "no pack": (settings(), "train --method pt", "--hash .. --method .. --task .. --regime"),
    "unknown hash": (settings(), "train --hash 01234567", "01234567"),
    "unknown method": (settings(), "train --method lorra --task rte --regime full", "'lorra' .. lora"),
    "unknown task": (settings(), "train --method pt --task rtee --regime full", "'rtee' .. rte"),
    "unknown regime": (settings(), "train --method pt --task rte --regime half", "'half' .. full .. source .. k"),
    "no examples": (settings(), "train --method pt --task rte --regime k0", "'k0' .. full .. source .. k"),
    "PT from a source": (settings(), f"{TRAIN_FEW} --initialize-from source", "pt .. --initialize-from"),
    "SPoT from scratch": (settings(), "train --method spot --task rte --regime k4", "spot .. --initialize-from source"),
    "no source tasks": (
        settings(methods=["pt"], tasks={"target": ["rte"]}),
        FROM_SOURCE,
        "tasks.source .. rte",
    ),
    "no threads": (settings(), f"{TRAIN} --threads 0", "--threads: .. '0' .. `ept train --help`"),
    "threads in words": (settings(), f"{TRAIN} --threads two", "--threads: .. 'two' .. `ept train --help`"),
    "no such task": (settings(), "fetch --task rtee", "'rtee' .. rte"),
    "no task named": (settings(), "fetch", "--task .. `ept fetch --help`"),
    "unknown verb": (settings(), "tables", "'tables' .. `ept --help`"),
    "no verb": (settings(), "", "VERB .. `ept --help`"),
}


@cases(CASES)
def test_bad_command_line(refused, spoil, command, words):
    refused(spoil, command, words)
