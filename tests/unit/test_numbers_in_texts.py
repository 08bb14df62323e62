"""What a page or a notebook prints is compared number by number."""

from __future__ import annotations

import pytest

from tests.support.numbers import assert_same_text


@pytest.mark.parametrize(
    "printed",
    ['{"value": 0.30000000000000004, "support": 7}', "mean -1.0000000000000002e-05 of 3\n", "1.0 at 2026-11-28T10:00"],
)
def test_the_last_digits_of_a_number_do_not_count(printed: str) -> None:
    """A sum that another processor rounds otherwise is the same."""
    expected = (
        printed.replace("0.30000000000000004", "0.3")
        .replace("0000000000002e", "e")
        .replace("1.0 ", "0.9999999999999999 ")
    )
    assert expected != printed
    assert_same_text(printed, expected)


@pytest.mark.parametrize(
    ("printed", "expected"),
    [
        ("0.3001", "0.3"),
        ("count 8", "count 7"),
        ("count 7.0", "count 7"),
        ("a 0.5", "b 0.5"),
        ("0.5", "0.5 0.5"),
        ("0.5\n", "0.5"),
        ("0.5", "-0.5"),
    ],
)
def test_all_else_counts(printed: str, expected: str) -> None:
    """Digits that mean something, counts, words and white space are compared exactly."""
    with pytest.raises(AssertionError):
        assert_same_text(printed, expected)
