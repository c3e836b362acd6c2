"""Every JSON file that a command reads, with content that is no JSON or other JSON than it should be."""

import shutil

import pytest

from bad_input.cases import TRAIN, run

HOSTILE = {
    "nothing": b"",
    "null": b"null",
    "a number": b"1",
    "a text": b'"x"',
    "an empty list": b"[]",
    "an empty object": b"{}",
    "nested lists": b"[" * 100_000,
    "nested objects": b'{"settings":' * 100_000,
    "no UTF-8": b"\xff\xfe{}",
    "NaN": b"NaN",
    "a number of 5,000 digits": b"9" * 5_000,
    "zeros": bytes(100),
}
# Files of the sound folder, by pattern, and the commands that read each.
READERS = {
    "model/config.json": ("check", TRAIN, "plan"),
    "model/tokenizer.json": ("tokenize --task rte", TRAIN),
    "data/raw/*/rte/manifest.json": ("fetch --task rte", "tokenize --task rte", "plan", "mend"),
    "**/runs/tiny/pt/rte/full/*/settings.json": ("table --table main", TRAIN, "mend", "plan"),
    "**/runs/tiny/pt/rte/full/*/runs.json": ("table --table main", TRAIN, "mend", "plan"),
    "prompts/tiny/pt/rte/full/*/settings.json": ("table --table main", TRAIN, "mend"),
    "out/main.settings.json": ("trace out/main.csv --method pt --task rte", "show", "mend"),
}


@pytest.fixture(scope="module")
def with_table(sound, tmp_path_factory):
    """The sound folder with its main table."""
    copy = tmp_path_factory.mktemp("json") / "copy"
    shutil.copytree(sound, copy)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(copy)
        assert run("table --table main") == 0
        yield copy


@pytest.mark.parametrize("pattern", READERS)
def test_hostile_json_is_refused_or_made_again(with_table, tmp_path, monkeypatch, capsys, pattern):
    folder = tmp_path / "copy"
    for kind, content in HOSTILE.items():
        for command in READERS[pattern]:
            shutil.rmtree(folder, ignore_errors=True)
            shutil.copytree(with_table, folder)
            monkeypatch.chdir(folder)
            (path,) = folder.glob(pattern)
            path.write_bytes(content)
            capsys.readouterr()
            status = run(command)
            error = capsys.readouterr().err
            assert status in (0, 2), (kind, command)
            if status == 2:
                assert error.startswith("error: ") and error.count("\n") == 1 and len(error) < 600, (kind, command)
                assert path.name in error or path.parent.name in error, error
