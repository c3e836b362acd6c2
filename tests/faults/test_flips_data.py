"""Flipped bits and cuts in fetched and tokenized data: whoever reads them next says so, or they change nothing."""

import time

import numpy as np
import pytest

from data.task_rows import write_local, write_tokenizer
from ept.data.dataset import TokenizedSplit
from ept.data.fetch import MANIFEST, fetch
from ept.data.prepare import tokenize_task
from ept.data.source import DataSource
from ept.errors import InputError
from ept.tasks.registry import TASKS

STRIKES = 60
WORDS = "0 1 sentence1: sentence2: Ann sleeps. is awake."


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """RTE fetched and tokenized."""
    folder = tmp_path_factory.mktemp("sound")
    write_local(folder / "data", TASKS["rte"], rows=40)
    fetch(TASKS["rte"], DataSource("local", str(folder / "data")), folder / "raw")
    write_tokenizer(folder / "tokenizer", WORDS)
    _tokenize(folder)
    return folder


def _tokenize(folder, to="tokens"):
    tokenize_task(TASKS["rte"], folder / "raw", folder / "tokenizer", 64, folder / to, "x")
    return {path.name: path.read_bytes() for path in (folder / to).iterdir()}


def _struck(content, random):
    """One bit flipped, or the end cut off, or zeros for a block: what disks and copies do."""
    strike = random.integers(3)
    place = int(random.integers(len(content)))
    if strike == 0:
        return content[:place] + bytes([content[place] ^ (1 << int(random.integers(8)))]) + content[place + 1 :]
    if strike == 1:
        return content[:place]
    return content[:place] + bytes(min(512, len(content) - place)) + content[place + 512 :]


def _strikes(path, read, seed):
    """Strikes on a file and what comes of each: refused, or equal to what the sound file gives."""
    sound, whole, random = path.read_bytes(), read(), np.random.default_rng(seed)
    found = {"refused": 0, "equal": 0}
    try:
        for _ in range(STRIKES):
            struck = _struck(sound, random)
            path.write_bytes(struck)
            sentence = ""
            try:
                after = read()
            except InputError as error:
                sentence = str(error)
            if sentence:
                assert path.name in sentence and "\n" not in sentence
            else:
                assert after == whole, "silent"
            found["refused" if sentence else "equal"] += 1
    finally:
        path.write_bytes(sound)
    return found


@pytest.mark.parametrize("name", ["train.parquet", "validation.parquet", MANIFEST])
def test_tokenize_notices_what_happened_to_fetched_data(sound, name):
    found = _strikes(sound / "raw" / name, lambda: _tokenize(sound, "again"), seed=1)
    # Zeros where zeros were change nothing, nor does a cut of the manifest's last line break.
    assert found["refused"] >= STRIKES * 0.9


@pytest.mark.parametrize("name", ["train.arrow", "validation.arrow", "test.arrow"])
def test_a_reader_notices_what_happened_to_tokens(sound, name):
    def read():
        split = TokenizedSplit(sound / "tokens" / name)
        batch = split.collate(np.arange(len(split)))
        return (
            split.metadata,
            list(split.ids),
            list(split.groups),
            split.labels.tolist(),
            [split.answers(row) for row in range(len(split))],
            batch.input_ids.tolist(),
            batch.target_ids.tolist(),
        )

    assert _strikes(sound / "tokens" / name, read, seed=2)["refused"] >= STRIKES * 0.7


def test_one_bit_anywhere_in_tokens_is_noticed(sound):
    path = sound / "tokens/test.arrow"
    content = path.read_bytes()
    random = np.random.default_rng(3)
    for place in random.integers(len(content), size=200):
        path.write_bytes(
            content[:place] + bytes([content[place] ^ (1 << int(random.integers(8)))]) + content[place + 1 :]
        )
        with pytest.raises(InputError, match="test.arrow"):
            TokenizedSplit(path)
    path.write_bytes(content)


def test_checking_costs_little(sound):
    """A job opens its tokens once; a training has minutes."""
    TokenizedSplit(sound / "tokens/train.arrow")
    start = time.process_time()
    for _ in range(20):
        TokenizedSplit(sound / "tokens/train.arrow")
    assert (time.process_time() - start) / 20 < 0.05
