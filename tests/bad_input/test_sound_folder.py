"""What is spoiled elsewhere works as it is: no case of bad input is refused for another reason."""

import torch

from bad_input.cases import EXPORT, FROM_SOURCE, IMPORT, TRAIN, TRAIN_FEW, run
from bad_input.spoil import adapter, prompt


def test_the_sound_folder_is_sound(folder):
    for command in ("check", "fetch --task rte", "tokenize --task rte", TRAIN, TRAIN_FEW, FROM_SOURCE):
        assert run(command) == 0, command
    for command in ("table --table main", "show"):
        assert run(command) == 0, command
    adapter()()
    prompt(prompt=torch.ones(4, 16), A=torch.ones(9, 2), B=torch.ones(2, 16))()
    assert run(f"{IMPORT} --backbone-folder model") == run(EXPORT) == 0
