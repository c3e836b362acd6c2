"""The one exception for mistakes that a user can mend."""

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """A wrong input: one sentence that says what is wrong, where (file, row, key) and what to do.

    The command line prints the sentence alone and exits with status 2. A ValueError, so that pydantic reports it with
    the key of the setting in which it was found.
    """


def listed(names: Iterable[str]) -> str:
    """Names for a sentence, at most six of them: fine-tuning has hundreds of tensors."""
    names = list(names)
    more = len(names) - 6
    return ", ".join(names[:6]) + (f" and {more} more" if more > 0 else "")


def unknown(kind: str, name: str, known: Iterable[str]) -> str:
    """The sentence for a name that nothing has: what it resembles, else what there is."""
    known = list(known)
    similar = difflib.get_close_matches(name, known, n=1)
    remedy = f"did you mean {similar[0]}?" if similar else f"known are {', '.join(known)}"
    return f"unknown {kind} {name!r}; {remedy}"
