"""Reading and writing YAML; every mistake in a file becomes one sentence."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.constructor import SafeConstructor
from ruamel.yaml.error import YAMLError
from ruamel.yaml.nodes import CollectionNode, Node

from ept.errors import InputError, reason_of, shortened

# A configuration has a few hundred values. More than these only cost memory and time.
MOST_CHARACTERS = 200_000
MOST_VALUES = 20_000
# Longer texts are not settings; the longest one that may be long is prompt.init_text.
LONGEST_TEXT = 20_000


class _Constructor(SafeConstructor):
    """Reads a date as text: no setting is a date."""


_Constructor.add_constructor("tag:yaml.org,2002:timestamp", SafeConstructor.construct_yaml_str)


def read_yaml(path: str | Path) -> Any:
    """The content of a configuration file.

    Raises InputError for what cannot be read as UTF-8 or as YAML: a duplicate key, a tag other than YAML's own, aliases
    that stand for more than 20,000 values.
    """
    try:
        # Bytes, because a file may be anything: one of 1 GB must not be read.
        with Path(path).open("rb") as file:
            content = file.read(4 * MOST_CHARACTERS + 1)
        text = content.decode("utf-8")
    except OSError as error:
        raise InputError(f"cannot read the configuration {path} ({error.strerror}); name one with --config") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: byte {error.start} is not UTF-8 text; save it as UTF-8") from error
    if len(text) > MOST_CHARACTERS:
        raise InputError(f"{path} has more than {MOST_CHARACTERS:,} characters, too many for a configuration")
    loader = _loader()
    try:
        node = loader.compose(text)
        if node is None:
            return None
        if _number_of_values(node, {}) > MOST_VALUES:
            raise InputError(f"{path} has more than {MOST_VALUES:,} values, its aliases written out; leave some out")
        return loader.constructor.construct_document(node)
    except RecursionError as error:
        raise InputError(f"{path} is not valid YAML: it is nested too deeply; check its brackets") from error
    except InputError:
        raise
    except YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        # "found duplicate key "seeds" with value ..."
        problem = str(getattr(error, "problem", None) or error).splitlines()[0].split(" with value ")[0]
        raise InputError(f"{path}{where} is not valid YAML: {problem.removeprefix('found ')}; correct it") from error
    except Exception as error:  # what the library raises for a value that its tag does not allow: !!int abc
        raise InputError(f"{path} is not valid YAML: {reason_of(error)}; correct that value") from error


def write_yaml(values: Any) -> str:
    """The YAML text of plain values, with keys in their order: equal values give equal text."""
    loader = _loader()
    loader.default_flow_style = False
    loader.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    stream = io.StringIO()
    loader.dump(values, stream)
    return stream.getvalue()


def _loader() -> YAML:
    loader = YAML(typ="safe", pure=True)
    loader.Constructor = _Constructor
    return loader


def _number_of_values(node: Node, counted: dict[int, int]) -> int:
    """How many values a node stands for with its aliases written out; aliases make a small file huge.

    Args:
        node: The node, whose parts may be shared by reference.
        counted: The numbers of the nodes seen so far by id, filled here.

    Raises:
        InputError: The node contains itself.
    """
    if not isinstance(node, CollectionNode):
        return 1
    if id(node) not in counted:
        counted[id(node)] = MOST_VALUES + 1  # while its parts are counted: a node inside itself is endless
        parts = [part for item in node.value for part in (item if isinstance(item, tuple) else (item,))]
        counted[id(node)] = 1 + sum(_number_of_values(part, counted) for part in parts)
    return counted[id(node)]


def check_values(values: dict) -> None:
    """Raise InputError for what no setting can be, before anything prints or copies it: too much, too long, or no text.

    Snakemake reads its configuration files itself, without the limits of `read_yaml`.
    """
    left: list[tuple[str, Any]] = [("", values)]
    for seen, (key, value) in enumerate(_walk(left)):
        if seen > MOST_VALUES:
            raise InputError(f"key {key}: there are more than {MOST_VALUES:,} values; leave some out")
        if isinstance(value, str):
            if len(value) > LONGEST_TEXT:
                raise InputError(
                    f"key {key}: a text of {len(value):,} characters; at most {LONGEST_TEXT:,} are allowed"
                )
            if any("\ud800" <= character <= "\udfff" for character in value):
                raise InputError(
                    f"key {key}: {shortened(value, 60)!a} is not valid Unicode (half a character); correct it"
                )
        elif isinstance(value, int) and value.bit_length() > 64:
            raise InputError(f"key {key}: a number of {value.bit_length():,} bits; numbers must be below 2**64")
        elif isinstance(value, set | bytes):
            raise InputError(f"key {key}: found {type(value).__name__}; write text, a number, a list or a mapping")


def _walk(left: list[tuple[str, Any]]) -> Iterator[tuple[str, Any]]:
    """Every value with its key, parts after the whole; aliases and a value inside itself come again and again."""
    while left:
        key, value = left.pop()
        yield key or "the whole", value
        prefix = f"{key}." if key else ""
        if isinstance(value, dict):
            parts = [(shortened(prefix + str(name), 200), part) for name, part in value.items()]
            # Keys first: a key that is not text must not reach the sentence about its value.
            left += parts[::-1] + [(prefix + "its keys", name) for name in value if not isinstance(name, int)]
        elif isinstance(value, list | tuple):
            left += [(shortened(f"{prefix}{index}", 200), part) for index, part in enumerate(value)][::-1]
