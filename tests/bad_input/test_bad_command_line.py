"""Bad words on the command line."""

from bad_input.cases import FROM_SOURCE, TRAIN, TRAIN_FEW, cases
from bad_input.spoil import settings

CASES = {
    "no pack": (settings(), "train --method pt", "name a pack by --hash, or by --method, --task and --regime"),
    "unknown hash": (settings(), "train --hash 01234567", "settings hash 01234567; is it another configuration's"),
    "unknown method": (settings(), "train --method lorra --task rte --regime full", "'lorra'; did you mean lora"),
    "unknown task": (settings(), "train --method pt --task rtee --regime full", "'rtee'; did you mean rte"),
    "unknown regime": (settings(), "train --method pt --task rte --regime half", "'half'; use full, source or k"),
    "no examples": (settings(), "train --method pt --task rte --regime k0", "'k0'; use full, source or k"),
    "PT from a source": (settings(), f"{TRAIN_FEW} --initialize-from source", "pt .. from scratch; leave out"),
    "SPoT from scratch": (settings(), "train --method spot --task rte --regime k4", "spot .. --initialize-from source"),
    "no source tasks": (
        settings(methods=["pt"], tasks={"target": ["rte"]}),
        FROM_SOURCE,
        "tasks.source has no task other than rte; add a source task",
    ),
    "no threads": (settings(), f"{TRAIN} --threads 0", "--threads: .. '0' .. see `ept train --help`"),
    "threads in words": (settings(), f"{TRAIN} --threads two", "--threads: .. 'two' .. see `ept train --help`"),
    "no such task": (settings(), "fetch --task rtee", "'rtee'; did you mean rte"),
    "no task named": (settings(), "fetch", "--task .. see `ept fetch --help`"),
    "unknown verb": (settings(), "tables", "'tables' .. see `ept --help`"),
    "no verb": (settings(), "", "VERB; see `ept --help`"),
}


@cases(CASES)
def test_bad_command_line(refused, spoil, command, words):
    refused(spoil, command, words)
