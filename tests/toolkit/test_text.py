"""Text from elsewhere is shown on one line, in bounded length, without anything that a terminal obeys."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolkit.text import one_line, quoted, shown

HOSTILE = "a\x1b]0;title\x07\x1b[2J\r\n\x85\u2028\u202eb\ud800"


def nested(depth: int) -> Any:
    value: Any = ()
    for _ in range(depth):
        value = (value,)
    return value


@given(st.text(), st.integers(3, 50))
def test_any_text_is_one_printable_line_of_bounded_length(text: str, limit: int) -> None:
    line = shown(text, limit)
    assert line.isprintable()
    assert len(line) <= limit
    line.encode()


def test_plain_text_stays_as_it_is() -> None:
    assert shown("Straße [bold]nach[/] 東京") == "Straße [bold]nach[/] 東京"
    assert shown(Path("a b/c.pth")) == "a b/c.pth"


def test_control_characters_become_escapes() -> None:
    assert shown(HOSTILE) == r"a\x1b]0;title\x07\x1b[2J\r\n\x85\u2028\u202eb\ud800"


def test_long_text_keeps_its_ends() -> None:
    assert shown("begin" + "x" * 5_000_000 + "end", 20) == "beginxxxxxxxx…xxxend"


@pytest.mark.parametrize(
    ("value", "literal"),
    [
        ("it's", '"it\'s"'),
        (HOSTILE[:2], r"'a\x1b'"),
        (None, "None"),
        (1.5, "1.5"),
        ([1, "a", {"b": (2,)}], "[1, 'a', {'b': (2,)}]"),
        (list(range(99)), "[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, …]"),
        (nested(20_000), "((((…),),),)"),
        (10**5000, "an integer of 5000 digits"),
        (object(), "<object>"),
    ],
    ids=quoted,
)
def test_values_are_quoted_as_literals(value: Any, literal: str) -> None:
    assert quoted(value) == literal


def test_errors_have_their_kind() -> None:
    assert one_line(ValueError("two\n  lines")) == "ValueError: two lines"


def test_errors_that_cannot_be_written_out() -> None:
    assert one_line(KeyError(nested(20_000))) == "KeyError:"
