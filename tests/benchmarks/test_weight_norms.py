"""The benchmark of weight normalization, on very little."""

import pytest

from benchmarks.weight_norms import METHODS, random_table, too_small, train

pytestmark = pytest.mark.filterwarnings("ignore:The '.*' does not have many workers")


def test_random_weights() -> None:
    short = too_small((64, 64), 10)
    assert len(short) == 10
    assert all(0 < value < 20 for value in short)
    assert "| 128x64x5x5 |" in random_table(1)


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_every_method_trains(method: str) -> None:
    module, accuracy, milliseconds = train(METHODS[method](), True, 1)
    assert not module.training
    assert accuracy > 50
    assert milliseconds > 0
