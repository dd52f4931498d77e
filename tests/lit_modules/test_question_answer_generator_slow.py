"""QuestionAnswerGenerator with two processes against one."""

from typing import Any

import pytest

from tests.lit_modules.asking_processes import CASES
from tests.processes import Results, difference, results_of


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """(case, devices, rank) to what that process had at the end."""
    return results_of("asking_processes.py", tmp_path_factory.mktemp("processes"), CASES, timeout=240)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_two_processes_equal_one(results: Any, case: str) -> None:
    one, first, second = results[case, 1, 0], results[case, 2, 0], results[case, 2, 1]
    assert difference(first["state"], second["state"]) == 0
    assert difference(first["logged"], second["logged"]) == 0
    assert difference(one["state"], first["state"]) < 1e-5
    assert difference(one["logged"], first["logged"]) < 1e-4
    assert one["logged"]["val/perplexity"] > 1
