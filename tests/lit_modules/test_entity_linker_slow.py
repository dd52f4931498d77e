"""EntityLinker with two processes against one."""

import pytest

from tests.lit_modules.linking_processes import CASES
from tests.lit_modules.tiny_encoder import tiny_encoder
from tests.processes import Results, assert_two_equal_one, results_of


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """(case, devices, rank) to what that process had at the end."""
    folder = tmp_path_factory.mktemp("processes")
    tiny_encoder(folder / "bert", dropout=0.0)
    return results_of("linking_processes.py", folder, CASES, timeout=240)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_two_processes_equal_one(results: Results, case: str) -> None:
    one = assert_two_equal_one(results, case, logged=1e-5)
    assert one["train/link"] > 0
    assert {"val/mention_f1", "val/linking_accuracy", "val/f1"} <= one.keys()
