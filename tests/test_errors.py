"""An error message is one bounded line, whatever it quotes."""

import pytest

from ept.errors import InputError, listed, reason_of, unknown


@pytest.mark.parametrize("quoted", ["a\nb", "a\r\n\tb", "a\0b", "a\x1b[31mb", "a\u2028b", "x" * 10**6, "\n" * 10**5])
def test_a_sentence_is_one_line_of_at_most_500_characters(quoted):
    text = str(InputError(f"file.json: the value is {quoted}; remove it"))
    assert len(text) <= 500 and len(text.splitlines()) == 1 and text.isprintable()
    assert text.startswith("file.json: the value is ") and text.endswith("; remove it")


def test_a_short_sentence_stays_as_it_is():
    assert str(InputError("data/ä  b.csv: no rows; add some")) == "data/ä  b.csv: no rows; add some"


@pytest.mark.parametrize(
    ("error", "expected"),
    [(ValueError("a\n  b"), "a b"), (KeyError(), "KeyError"), (ValueError("x" * 500), None)],
)
def test_a_foreign_error_is_quoted_in_one_short_line(error, expected):
    found = reason_of(error)
    assert len(found) <= 200 and "\n" not in found and (expected is None or found == expected)


def test_many_names_are_counted():
    assert listed("abcdef") == "a, b, c, d, e, f"
    assert listed(map(str, range(20))).endswith("5 and 14 more")


def test_an_unknown_name_is_compared_with_the_known_ones():
    near, far = unknown("method", "epd", ["ept", "lora"]), unknown("method", "zzzzzz", ["ept", "lora"])
    assert "ept" in near and "lora" not in near
    assert "ept" in far and "lora" in far
