"""Reading YAML: what is not a configuration becomes one sentence, in bounded time and memory."""

import resource
import subprocess
import sys
import time

import pytest
import yaml

from ept.config.configuration import load_configuration
from ept.config.yaml_file import MOST_CHARACTERS, read_yaml, write_yaml
from ept.errors import InputError

# Nine aliases of nine aliases, seven times: a kilobyte that stands for five million values.
LEVELS = [f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 9)}]" for level in range(1, 8)]
BOMB = "\n".join(["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1]", *LEVELS, "seeds: *a7"])
MERGES = "\n".join(
    ["a0: &a0 {k: 1}", *(f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}]}}" for n in range(1, 9)), "seeds: *a8"]
)

BAD = {
    "a word tagged as a number": ("seeds: [!!int abc]", "abc"),
    "a word tagged as a boolean": ("seeds: [!!bool maybe]", "maybe"),
    "a date without such a month, tagged": (
        "output: !!timestamp 2020-13-45\ntasks: {target: [rte]}\nseeds: [-1]",
        "-1",
    ),
    "a number of 5,000 digits": (f"seeds: [{'1' * 5000}]", "digits"),
    "a number of 5,000 hexadecimal digits": (f"seeds: [0x{'f' * 5000}]", ""),
    "a number of 4,000 digits": (f"seeds: [{'1' * 4000}]", "seeds.0"),
    "a kilobyte of aliases": (BOMB, "values"),
    "a kilobyte of merged aliases": (MERGES, "values"),
    "aliases of itself": ("tasks: &all {target: *all}", "values"),
    "a list of itself": ("seeds: &all [*all, *all]", "values"),
    "a text of a million characters": (f"output: {'a' * 1_000_000}", "characters"),
    "a text of 50,000 characters": (f"output: {'a' * 50_000}", "output"),
    "30,000 values": (f"few_shot: {{k: {[*range(1, 30_001)]}}}", "values"),
    "1,000 values": (
        f"tasks: {{target: [rte]}}\nfew_shot: {{k: [{', '.join(map(str, range(1, 1001)))}]}}",
        "few_shot.k",
    ),
    "half a character": ('output: "\\ud800"', "output"),
    "half a character in a key": ('"\\udfff": 1', "\\udfff"),
    "half a character in the key of a bad value": ('"\\udfff": [0x1ffffffffffffffffffff]', "\\udfff"),
    "a set": ("seeds: !!set {1, 2}", "seeds"),
    "bytes": ("output: !!binary aGVsbG8=", "output"),
    "a key twice": ("seeds: [1]\nseeds: [2]", 'duplicate key "seeds"'),
    "another language's object": ("output: !!python/name:os.system ''", "line 1"),
    "an own tag": ("output: !mine x", "line 1"),
    "two documents": ("seeds: [1]\n---\nseeds: [2]", "line 2"),
    "a mapping as key": ("? {a: 1}\n: 2", ""),
    "many brackets": ("[" * 5000, "brackets"),
    "many dashes": ("- " * 5000, ""),
    "an anchor that is not there": ("seeds: *none", "none"),
    "another YAML": ("%YAML 9.9\n---\nseeds: [1]", ""),
}


@pytest.mark.parametrize(("text", "word"), BAD.values(), ids=BAD.keys())
def test_bad_yaml_is_one_sentence_within_seconds(tmp_path, text, word):
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    begin = time.process_time()
    with pytest.raises(InputError) as error:
        load_configuration(path)
    assert time.process_time() - begin < 10  # 3 seconds for many brackets, 0.1 for most
    sentence = str(error.value)
    assert "bad.yaml" in sentence and word in sentence and "\n" not in sentence and len(sentence) <= 500


@pytest.mark.parametrize("name", ["a kilobyte of aliases", "a kilobyte of merged aliases", "30,000 values"])
def test_a_small_file_takes_little_memory(tmp_path, name):
    (tmp_path / "bad.yaml").write_text(BAD[name][0])
    code = "from ept.config.configuration import load_configuration; load_configuration('bad.yaml')"

    def limit():
        resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))

    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, preexec_fn=limit)
    assert "InputError" in done.stderr and "MemoryError" not in done.stderr


def test_an_endless_file_is_not_read(tmp_path):
    with pytest.raises(InputError, match=f"{MOST_CHARACTERS:,}"):
        read_yaml("/dev/zero")


VALUES = {
    "output": "results/ä ö",
    "tasks": {"target": ["rte"], "source": []},
    "rates": [0.3, 1e-05, 5e-324, 1e22, 3.0],
    "text": "Classify the text.\nAnswer: 'yes' or \"no\" # \u2028 \x85 \U0001f600 2020-01-01 yes null 1e5 ~",
    "words": ["yes", "no", "on", "null", "~", "2020-01-01", "1e5", "0x10", "1_000", "", " ", "a: b", "- a", "010"],
    "none": None,
    "true": True,
    "long": "word " * 100,
}


def test_what_is_written_is_read_as_it_was_and_equal_values_give_equal_text(tmp_path):
    path = tmp_path / "written.yaml"
    path.write_text(write_yaml(VALUES), encoding="utf-8")
    found = read_yaml(path)
    assert found == VALUES and list(found) == list(VALUES)
    assert write_yaml(found) == write_yaml(VALUES)


def test_the_shipped_configurations_mean_the_same_to_another_reader(project):
    for path in (project / "config").glob("*.yaml"):
        assert read_yaml(path) == yaml.safe_load(path.read_text())


def test_dates_are_text(tmp_path):
    (tmp_path / "a.yaml").write_text("output: 2020-01-02")
    assert read_yaml(tmp_path / "a.yaml") == {"output": "2020-01-02"}
