"""The sound folder, and what every bad input must come to."""

import shutil

import pytest

from bad_input.cases import TRAIN, run
from bad_input.spoil import prepared, settings, source_prompt, tokenizer
from tiny_models import make_t5


@pytest.fixture(scope="session")
def sound(tmp_path_factory):
    """The folder that every case starts from: with it, all commands succeed."""
    folder = tmp_path_factory.mktemp("sound")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        settings()()
        make_t5(std=None, vocab_size=16, d_kv=8, num_layers=1, num_heads=2).save_pretrained("model")
        tokenizer()()
        for name in ("rte", "sst2"):
            prepared(name)()
        source_prompt()()
        for method in ("pt", "dept"):
            assert run(TRAIN.replace("pt", method, 1)) == 0
    return folder


@pytest.fixture
def folder(sound, tmp_path, monkeypatch):
    """A copy of it, as the current folder."""
    copy = tmp_path / "copy"
    shutil.copytree(sound, copy)
    monkeypatch.chdir(copy)
    return copy


def tree(folder):
    """Every path with its content, but for locks, which stay where they were taken."""
    paths = [path for path in sorted(folder.rglob("*")) if path.suffix != ".lock"]
    return {path: path.read_bytes() if path.is_file() else None for path in paths}


@pytest.fixture
def refused(folder, capsys):
    """A function that spoils the folder and runs the command: status 2, one sentence, nothing left behind."""

    def refuse(spoil, command, words):
        spoil()
        capsys.readouterr()
        before = tree(folder)
        assert run(command) == 2
        out, error = capsys.readouterr()
        assert tree(folder) == before
        assert out == "" and "Traceback" not in error
        assert error.startswith("error: ") and error.endswith("\n") and error.count("\n") == 1
        place = 0
        for word in words.split(" .. "):
            assert word in error[place:], f"{word!r} is not in its place in {error!r}"
            place = error.index(word, place) + len(word)

    return refuse
