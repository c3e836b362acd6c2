"""The one exception for mistakes that a user can correct."""

import difflib
import re
from collections.abc import Iterable

# Characters. What foreign libraries and files say is quoted in sentences, and has no bound of its own.
LONGEST = 500
_CONTROL = re.compile(r"[\x00-\x1f\x7f\x80-\x9f\u2028\u2029]+")


class InputError(ValueError):
    """A wrong input: one sentence that says what is wrong, where (file, row, key) and what to do.

    The command line prints the sentence alone and exits with status 2. It is one line of at most 500 characters,
    whatever it quotes: line breaks and control characters become blanks, and of a longer one the middle is left out. A
    ValueError, so that pydantic reports it with the key of the setting in which it was found.
    """

    def __init__(self, sentence: str):
        super().__init__(shortened(_CONTROL.sub(" ", sentence), LONGEST))


def shortened(text: str, longest: int) -> str:
    """`text`, or its beginning and its end (the remedy) where it is longer than that many characters."""
    if len(text) <= longest:
        return text
    end = longest * 2 // 5
    return f"{text[: longest - end - 5]} ... {text[-end:]}"


def reason_of(error: BaseException) -> str:
    """What a foreign exception says, in a form to quote in a sentence: one line of at most 200 characters."""
    return shortened(" ".join(str(error).split()) or type(error).__name__, 200)


def listed(names: Iterable[str]) -> str:
    """Names for a sentence, at most six of them: fine-tuning has hundreds of tensors."""
    names = list(names)
    more = len(names) - 6
    return ", ".join(names[:6]) + (f" and {more} more" if more > 0 else "")


def unknown(kind: str, name: str, known: Iterable[str]) -> str:
    """The sentence for a name that does not exist: the most similar known one, or else all of them."""
    known = list(known)
    similar = difflib.get_close_matches(name, known, n=1)
    remedy = f"did you mean {similar[0]}?" if similar else f"known are {', '.join(known)}"
    return f"unknown {kind} {name!r}; {remedy}"
