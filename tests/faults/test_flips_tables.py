"""Flipped bits and cuts in tables and exported prompts: whoever reads them refuses them, or says the same."""

import pytest
import torch

from ept.cli import main
from ept.errors import InputError
from ept.exchange.formats import FORMATS, IMPORTS, read_foreign
from ept.files import check_sums
from ept.methods.prompt_file import save_prompt
from ept.methods.registry import method_of_format
from ept.plan.tables import MAIN
from faults.test_flips_training import VALUES, bits, strike
from training.small_project import make_project, train_all

STRIKES = 30
CONFIG = ["--config", "config.yaml"]
CELL = ["out/main.csv", "--method", "ept", "--task", "rte"]
# By the file that is damaged, the command that reads it and the files that it writes.
READERS = {
    "summary of main": ("out/main.csv", ["summary", *CONFIG], ["out/summary.json"]),
    "summary of few-shot": ("out/fewshot_k4.csv", ["summary", *CONFIG], ["out/summary.json"]),
    "summary by settings": ("out/main.settings.json", ["summary", *CONFIG], ["out/summary.json"]),
    "figures of records": ("**/runs/*/ept/rte/full/*/runs.json", ["figures", *CONFIG], ["out/figures/*"]),
    "show": ("out/main.md", ["show", *CONFIG], []),
    "trace of a table": ("out/main.csv", ["trace", *CELL], []),
    "trace by settings": ("out/main.settings.json", ["trace", *CELL], []),
    "table of records": ("**/runs/*/ept/rte/full/*/runs.json", ["table", "--table", MAIN, *CONFIG], ["out/main.*"]),
}


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A folder with trained packs and their tables, the current one."""
    folder = tmp_path_factory.mktemp("project")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        experiment = make_project(VALUES)
        train_all(experiment.packs)
        for table in experiment.default_tables:
            assert main(["table", "--table", table, *CONFIG]) == 0
        yield folder


@pytest.mark.parametrize("name", READERS)
def test_a_command_notices_what_happened_to_a_table(project, capsys, name):
    pattern, words, written = READERS[name]
    (path,) = project.glob(pattern)

    def read():
        capsys.readouterr()
        status = main(words)
        out, error = capsys.readouterr()
        if status:
            assert status == 2 and error.count("\n") == 1
            raise InputError(error.strip())
        return out, {file: file.read_bytes() for each in written for file in project.glob(each)}

    assert strike(path, read, seed=6, strikes=STRIKES) >= 0.9 * STRIKES


@pytest.mark.parametrize("format", FORMATS)
def test_an_exported_prompt_says_when_it_was_damaged(project, format):
    generator = torch.Generator().manual_seed(0)
    shapes = {"prompt": (4, 16), **({"A": (9, 2), "B": (2, 16)} if format == "dept" else {})}
    tensors = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    file, folder = project / f"{format}.safetensors", project / f"exported-{format}"
    save_prompt(file, tensors, tensors, {"method": method_of_format(format if format in IMPORTS else "peft")})
    backbone = ["--backbone", "model"] if format == "vllm" else []
    assert main(["export", "--format", format, "--from", str(file), "--to", str(folder), *backbone]) == 0

    def read():
        if format not in IMPORTS:
            # `sha256sum --check` for the folder's user.
            check_sums(folder)
            return {}
        foreign = read_foreign(folder)
        return bits(foreign.tensors), foreign.base_model

    for path in sorted(folder.iterdir()):
        assert strike(path, read, seed=7, strikes=STRIKES) >= 0.9 * STRIKES, path
