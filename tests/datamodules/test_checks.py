"""Messages about wrong arguments."""

import pytest

from datamodules.checks import at_least, nearest, one_of


def test_nearest() -> None:
    assert nearest("READR", ["item", "reader"]) == "; did you mean 'reader'?"
    assert nearest("x", ["item", "reader"]) == ""


def test_one_of() -> None:
    one_of("context", "next", ("next", "all"))
    with pytest.raises(ValueError, match="context is 'nxt', but has to be 'next' or 'all'; did you mean 'next'\\?"):
        one_of("context", "nxt", ("next", "all"))


def test_at_least() -> None:
    at_least("window", 1, 1)
    at_least("window", None, 1)
    with pytest.raises(ValueError, match="window is 0, but has to be at least 1"):
        at_least("window", 0, 1)
