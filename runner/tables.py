"""Tables on the terminal, or in a pipe."""

from __future__ import annotations

import sys

from rich.console import Console


def table_console() -> Console:
    """Prints to the standard output.

    In a pipe a line holds all of a row: rich would take 80 columns for the width of a terminal.
    """
    return Console(width=None if sys.stdout.isatty() else 1000)
