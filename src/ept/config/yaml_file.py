"""Reading YAML, every mistake as one sentence."""

from pathlib import Path
from typing import Any

import yaml

from ept.errors import InputError


class _Loader(yaml.SafeLoader):
    """A safe loader that refuses a key that stands twice in one mapping; PyYAML takes the last one in silence."""

    def compose_mapping_node(self, anchor):
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            name = (key.tag, str(key.value))
            if name in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"the key {key.value} stands there twice", problem_mark=key.start_mark
                )
            seen.add(name)
        return node


def read_yaml(path: str | Path) -> Any:
    """The content of a configuration file. Raises InputError for what cannot be read as UTF-8 or as YAML."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot read the configuration {path} ({error.strerror}); name one with --config") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: byte {error.start} is no UTF-8 text; save it as UTF-8") from error
    try:
        return yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        problem = str(getattr(error, "problem", None) or error).splitlines()[0]
        raise InputError(f"{path}{where} is not valid YAML: {problem}; mend it there") from error
    except RecursionError as error:
        raise InputError(f"{path} is not valid YAML: it is nested too deeply; mend its brackets") from error
