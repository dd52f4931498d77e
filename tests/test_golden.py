"""The numbers of 20 steps of each article are those of the last version."""

import csv

import pytest

from tests import golden
from tests.test_every_module import MODULES


def test_every_module_has_one() -> None:
    assert len(golden.CONFIGS) == len(MODULES)


@pytest.mark.slow
@pytest.mark.parametrize("article", golden.CONFIGS)
def test_no_number_has_changed(article: str) -> None:
    """To the last digit on the kind of machine where they were written, to 1e-4 elsewhere."""
    found, expected = golden.logged(article), golden.kept(article).read_text()
    if golden.machine() == golden.MACHINE.read_text():
        assert found == expected
    rows, kept = (list(csv.DictReader(text.splitlines())) for text in (found, expected))
    assert [list(row) for row in rows] == [list(row) for row in kept]
    for row, other in zip(rows, kept, strict=True):
        numbers, others = ([float(value) for value in r.values() if value] for r in (row, other))
        assert numbers == pytest.approx(others, rel=1e-4)
