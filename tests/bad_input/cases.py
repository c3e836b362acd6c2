"""How a case of bad input is written and run."""

import pytest

from ept.cli import main

# The commands of many cases.
TRAIN = "train --method pt --task rte --regime full"
TRAIN_FEW = "train --method pt --task rte --regime k4"
FROM_SOURCE = "train --method dept --task rte --regime k4 --initialize-from source"
IMPORT = "import --format peft --from adapter --to prompts/new.safetensors"
EXPORT = "export --format dept --from prompts/mine.safetensors --to new"


def cases(table):
    """Parametrise a test by {name: (what is wrong, the command, words)}.

    What is wrong is a function of bad_input.spoil. The words are those of the sentence in their order, parted by
    " .. ". The command does not name the configuration: it is config.yaml.
    """
    return pytest.mark.parametrize(("spoil", "command", "words"), table.values(), ids=table.keys())


def run(command):
    """The exit status of a command, argparse's own included."""
    verb, *words = command.split() or [""]
    config = [] if verb in ("import", "export", "tables", "") else ["--config", "config.yaml"]
    try:
        return main([verb, *config, *words] if verb else [])
    except SystemExit as error:
        return error.code
